"""The pieces of the emergence test: each file decides one thing about accuracy against scale.

Array suffixes of this package: B replicates (observed or simulated data sets), K distinct scales in rising
order, R rows (one per run and scale), G candidate shapes, J knots, W widths of a rise.
"""
