"""The smooth curve of log loss against log size at one budget, beside which noise and bad rows are seen.

A constant and two exponentials whose exponents are of the usual size (0.34 and 0.28 in Hoffmann et al. 2022, arXiv
2203.15556); a line as well from 7 sizes on; two exponentials that are twice as steep from 12 on, since so many sizes
reach far beyond the valley.
"""

import numpy as np

EXPONENT = 1 / 3
FEWEST_SIZES, FULL_SIZES, WIDE_SIZES = 4, 7, 12  # from which the curve has three, four and six terms


def curve_basis(log_params_R: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the curves at these sizes, (R, P)."""
    x_R = log_params_R - log_params_R.mean()
    sizes = np.unique(log_params_R).size
    terms = [np.ones_like(x_R), np.sinh(EXPONENT * x_R), np.cosh(EXPONENT * x_R)]
    if sizes >= FULL_SIZES:
        terms.append(x_R)
    if sizes >= WIDE_SIZES:
        terms += [np.sinh(2 * EXPONENT * x_R), np.cosh(2 * EXPONENT * x_R)]
    basis_RP, _ = np.linalg.qr(np.stack(terms, axis=1))
    return basis_RP
