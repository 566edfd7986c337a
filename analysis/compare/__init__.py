"""Two recipes compared at equal loss: how much less one costs, and whether that changes with scale.

The compute multiplier m(L) is the cost of A at loss L over the cost of B at loss L, on the frontier of each side. Above
1, B is cheaper. Axis letters here: R draws, N rows of both sides, P parameters, K terms, G points of a curve.
"""
