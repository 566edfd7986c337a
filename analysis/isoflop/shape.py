"""Are the valleys parabolas? An F test of a parabola at each budget against a cubic."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import fdtrc

from analysis.isoflop.noise import RunNoise
from analysis.isoflop.slices import Slice

LEVEL = 0.01


@dataclasses.dataclass(frozen=True)
class CubicTest:
    """F of one more coefficient a budget, over the scatter about the cubics or the noise where it is known."""

    f: float
    more: int
    freedom: float
    p: float

    def words(self) -> str:
        return (
            f"the valleys are no parabolas: cubics fit better (F = {self.f:.3g} on {self.more} and "
            f"{self.freedom:.3g} degrees of freedom, p = {self.p:.2g}); --method cubic, or --window 3 for the sizes "
            "within a factor 3 of the best"
        )


def cubic_test(slices: Sequence[Slice], loss_R: np.ndarray, noise: RunNoise) -> CubicTest | None:
    """The test over all budgets that have sizes to spare; None where there is none, or they lie between runs."""
    size_R = noise.size_R(loss_R)
    gain, rest, more, freedom = 0.0, 0.0, 0, 0
    measured = noise.known and noise.source != "scatter about smooth curves"
    for place, piece in enumerate(slices):
        sizes = piece.log_params_S.size
        if piece.interpolated or sizes < (4 if measured else 5) or place in noise.own:
            continue
        spread_S = np.sqrt(((piece.weights_SR * size_R[piece.rows_R]) ** 2).sum(axis=1))
        x_S = piece.log_params_S
        u_S = (x_S - (x_S[0] + x_S[-1]) / 2) / ((x_S[-1] - x_S[0]) / 2)
        basis, _ = np.linalg.qr(np.vander(u_S, 4, increasing=True) / spread_S[:, None])
        y_S = piece.losses(loss_R) / spread_S
        along = basis.T @ y_S
        gain += float(along[3] ** 2)
        rest += float(y_S @ y_S - along @ along)
        more, freedom = more + 1, freedom + sizes - 4
    if measured:
        variance, of_variance = noise.sd**2, float(min(noise.freedom, 1e9))
    else:
        variance, of_variance = rest / max(freedom, 1), float(freedom)
    if more == 0 or of_variance <= 0 or not variance > 0:
        return None
    f = gain / more / variance
    return CubicTest(f, more, of_variance, float(fdtrc(more, of_variance, f)))
