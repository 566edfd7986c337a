"""Runs side by side: who is better on the same held-out items, how sure that is, and who shares a rank."""
