"""Does scale add anything once the pre-training loss is given? (Du et al. 2024, arXiv 2403.15796)

Empirical logits of accuracy are regressed on a cubic in the loss; scale is added; the F statistic is held
against permutations of the reduced model's residuals (Freedman and Lane 1983).
"""

from typing import Any

import numpy as np

FEWEST_ROWS = 8
REPLICATES = 1999
DEGREE = 3
FUNCTION_OF_LOSS = 0.999  # share of the variance of scale explained by loss above which the two are one axis


def loss_collapse(
    loss_R: np.ndarray | None, x_R: np.ndarray, correct_R: np.ndarray, n_R: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """p-value of scale given loss, or the reason that there is none."""
    if loss_R is None:
        return {"p": None, "note": "not computed: the table has no column loss beside scale"}
    if len(loss_R) < FEWEST_ROWS:
        return {"p": None, "note": f"not computed: {len(loss_R)} rows, {FEWEST_ROWS} needed"}
    z_R = np.log((correct_R + 0.5) / (n_R - correct_R + 0.5))
    root_R = np.sqrt(n_R * np.clip((correct_R + 1) / (n_R + 2) * (1 - (correct_R + 1) / (n_R + 2)), 1e-6, None))
    spread = float(np.ptp(loss_R)) or 1.0
    scaled_R = 2.0 * (loss_R - loss_R.min()) / spread - 1.0
    reduced_RP = np.stack([scaled_R**power for power in range(DEGREE + 1)], axis=1) * root_R[:, None]
    basis_RP, _ = np.linalg.qr(reduced_RP)
    added_R = x_R * root_R
    left_R = added_R - basis_RP @ (basis_RP.T @ added_R)
    centred = added_R - root_R * (added_R @ root_R) / (root_R @ root_R)
    if left_R @ left_R < (1.0 - FUNCTION_OF_LOSS) * (centred @ centred):
        return {
            "p": None,
            "note": "not computed: loss determines scale in this table, so the two cannot be told apart",
        }
    fitted_R = basis_RP @ (basis_RP.T @ (z_R * root_R))
    residual_R = z_R * root_R - fitted_R
    direction_R = left_R / np.sqrt(left_R @ left_R)

    def statistic(y_BR: np.ndarray) -> np.ndarray:
        rest = y_BR - (y_BR @ basis_RP) @ basis_RP.T
        gain = (rest @ direction_R) ** 2
        return gain / np.maximum((rest**2).sum(axis=1) - gain, 1e-300)

    permuted_BR = rng.permuted(np.repeat(residual_R[None], REPLICATES, axis=0), axis=1)
    observed = statistic((fitted_R + residual_R)[None])[0]
    p = float((1.0 + (statistic(fitted_R + permuted_BR) >= observed).sum()) / (REPLICATES + 1.0))
    note = "scale adds to what loss says" if p < 0.05 else "no sign that scale adds to what loss says"
    return {"p": p, "note": note}
