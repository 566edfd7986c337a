"""Runs side by side: who is better on the same held-out items, how sure that is, and who shares a rank.

Axis letters here: M contestants, I items, P pairs of contestants, R draws of the bootstrap, B tables of wins.
"""
