"""Valleys at equal compute and how the best size grows.

Array suffixes of this package: R rows of the table, P distinct (params, tokens), S sizes of a slice, B repetitions of
the noise, V valleys, K token counts of one size, G budgets, H handovers.
"""
