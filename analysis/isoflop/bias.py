"""What approach 2 misses on a surface whose two exponents differ (Czech et al. 2026, arXiv 2603.22339).

At equal compute E + A / N^alpha + B / D^beta is, with w = log(N / N_opt), a constant times beta exp(-alpha w) + alpha
exp(beta w): no parabola, unless alpha = beta and the sizes lie evenly about the best one. A surface is fitted to the
table, the method is run on its losses at the very sizes of the table, without noise, and held against the surface's own
minima. For given alpha and beta the other three are linear, so two numbers are searched for (variable projection, Golub
and Pereyra 1973).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.isoflop.growth import Missed, line_through
from analysis.isoflop.slices import Slice

EXPONENTS = np.geomspace(0.03, 2.0, 24)  # where the search begins
FEWEST_ROWS = 8
WORST_FIT = 0.01  # relative residual of the surface beyond which it says nothing about the table
FINE = 4001  # sizes among which a surface's minimum is looked for, before it is refined
MARGIN = 2.0  # log sizes beyond those of a slice
TOLD_SIZE, TOLD_SHARE = (
    0.05,
    0.25,
)  # of the best size, and of half the interval of the exponent: said from here on


@dataclasses.dataclass(frozen=True)
class Surface:
    """E + A / N^alpha + B / D^beta, and the root mean square of its relative residuals."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float
    residual: float

    def loss(self, log_params: np.ndarray, log_tokens: np.ndarray) -> np.ndarray:
        return self.e + self.a * np.exp(-self.alpha * log_params) + self.b * np.exp(-self.beta * log_tokens)


@dataclasses.dataclass(frozen=True)
class Bias:
    """Attributes:
    alpha, beta: exponents of the fitted surface.
    a_opt: what is too much in the exponent of the best size.
    params: the same of the best size, as a factor minus 1, in the middle of the budgets.
    missed: both, for any budget.
    """

    alpha: float
    beta: float
    a_opt: float
    params: float
    missed: Missed

    def to_json(self) -> dict[str, float]:
        return {"alpha": self.alpha, "beta": self.beta, "a_opt": self.a_opt, "params": self.params}

    def words(self, method: str, interval: tuple[float, float] | None, targets: Sequence[float]) -> str:
        """The warning, where the bias is not small beside what is reported; empty otherwise."""
        at_targets = [float(np.expm1(self.missed.at(float(np.log(target))))) for target in targets]
        half = (interval[1] - interval[0]) / 2 if interval else np.inf
        large = max(map(abs, (self.params, *at_targets))) >= TOLD_SIZE or abs(self.a_opt) >= TOLD_SHARE * half
        if not large:
            return ""
        places = [f"the best size {_off(self.params)} at these budgets"]
        places += [
            f"{_off(off)} at {target:.3g} FLOPs" for target, off in zip(targets, at_targets, strict=True)
        ]
        return (
            f"a {method} is biased on a surface like this one (arXiv 2603.22339): with alpha = {self.alpha:.2g} and "
            f"beta = {self.beta:.2g}, fitted here, and these sizes it puts {', '.join(places)}, and the exponent "
            f"{abs(self.a_opt):.4f} too {'high' if self.a_opt > 0 else 'low'}; the intervals of growth are widened by "
            f"that; --window 3 misses less, a fitted law (analysis.fit) nothing of it"
        )


def _off(share: float) -> str:
    return f"{abs(share):.1%} too {'large' if share > 0 else 'small'}"


def bias_of(
    slices: Sequence[Slice],
    good: Sequence[bool],
    weight_V: np.ndarray,
    columns: Mapping[str, np.ndarray],
    minimum: Callable[[np.ndarray, np.ndarray], Any],
    noise: float | None,
) -> Bias | None:
    """The bias of a method at the sizes of a table.

    Args:
      good: which slices have a valley; weight_V: weights of all in the power law.
      minimum: of (S,) log sizes and (1, S) losses, see analysis/isoflop/valleys.py.
      noise: relative, of a run; None where unknown.

    Returns:
      None where no surface of this kind describes the table.
    """
    places = [place for place, ok in enumerate(good) if ok]
    if not places:
        return None
    rows = np.unique(np.concatenate([slices[place].rows_R for place in places]))
    surface = fit_surface(*(columns[name][rows] for name in ("params", "tokens", "loss")))
    if surface is None or surface.residual > max(3 * (noise or 0.0), WORST_FIT):
        return None
    loss_R = surface.loss(np.log(columns["params"]), np.log(columns["tokens"]))
    shifts, log_flops = [], []
    for place in places:
        piece = slices[place]
        found = minimum(piece.log_params_S, piece.losses(loss_R)[None])
        true = true_minimum(surface, piece)
        if true is None or not found.proper_B[0]:
            return None
        shifts.append(float(found.log_params_B[0]) - true)
        log_flops.append(float(np.log(piece.flops)))
    x_V, shift_V, its_V = np.array(log_flops), np.array(shifts), weight_V[places]
    slope, level = 0.0, float(np.average(shift_V, weights=its_V))
    if np.ptp(x_V) > 0:
        slope_B, level_B = line_through(x_V, shift_V[None], its_V)
        slope, level = float(slope_B[0]), float(level_B[0])
    middle = float(np.expm1(level + slope * x_V.mean()))
    return Bias(surface.alpha, surface.beta, slope, middle, Missed(slope, level))


def true_minimum(surface: Surface, piece: Slice) -> float | None:
    """Log of the best size of a surface at a slice's compute; None where it lies far beyond the sizes."""
    x_S = piece.log_params_S
    centre = x_S.mean()
    degree = 1 if x_S.size < 5 else 2
    tokens_at = np.polyfit(x_S - centre, piece.log_tokens_S, degree)
    x = np.linspace(x_S[0] - MARGIN, x_S[-1] + MARGIN, FINE)
    y = surface.loss(x, np.polyval(tokens_at, x - centre))
    at = int(y.argmin())
    if at in (0, FINE - 1):
        return None
    below, here, above = y[at - 1 : at + 2]
    curvature = below - 2 * here + above
    return float(x[at] + (0.5 * (below - above) / curvature * (x[1] - x[0]) if curvature > 0 else 0.0))


def fit_surface(params_R: np.ndarray, tokens_R: np.ndarray, loss_R: np.ndarray) -> Surface | None:
    """Least squares of relative residuals; None with too few rows, or where no surface with A, B > 0 fits best."""
    if loss_R.size < FEWEST_ROWS or not (loss_R > 0).all():
        return None
    log_n, log_d = np.log(params_R), np.log(tokens_R)
    centres = (log_n.mean(), log_d.mean())
    u_R, v_R, weight_R = log_n - centres[0], log_d - centres[1], 1.0 / loss_R

    def solve(alpha_G: np.ndarray, beta_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum of squares (G,) and the three coefficients (G, 3) of each pair of exponents."""
        with np.errstate(over="ignore", invalid="ignore"):
            columns = [np.ones((alpha_G.size, u_R.size)), np.exp(-np.outer(alpha_G, u_R)),
                       np.exp(-np.outer(beta_G, v_R))]  # fmt: skip
            x_GRP = np.stack(columns, axis=2) * weight_R[:, None]
            size_GP = np.sqrt((x_GRP**2).sum(axis=1))
            x_GRP = x_GRP / size_GP[:, None, :]
        usable = np.isfinite(x_GRP).all(axis=(1, 2))
        x_GRP = np.where(usable[:, None, None], x_GRP, 0.0)
        gram = np.einsum("grp,grq->gpq", x_GRP, x_GRP) + 1e-12 * np.eye(3)
        solution_GP = np.linalg.solve(gram, x_GRP.sum(axis=1)[..., None])[..., 0]
        left_GR = 1.0 - np.einsum("grp,gp->gr", x_GRP, solution_GP)
        proper = usable & (solution_GP[:, 1:] > 0).all(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(proper, (left_GR**2).sum(axis=1), np.inf), solution_GP / size_GP

    alpha_G, beta_G = (part.ravel() for part in np.meshgrid(EXPONENTS, EXPONENTS, indexing="ij"))
    squares, _ = solve(alpha_G, beta_G)
    best = int(squares.argmin())
    if not np.isfinite(squares[best]):
        return None
    at, step = np.log([alpha_G[best], beta_G[best]]), np.log(EXPONENTS[1] / EXPONENTS[0])
    # A grid of 9 x 9 about the best place, each time half as wide: no derivative, and no stop at a wall.
    offsets = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 9)], indexing="ij"), axis=-1).reshape(-1, 2)
    for _ in range(40):
        trial = np.exp(at + step * offsets)
        squares, solution = solve(trial[:, 0], trial[:, 1])
        best = int(squares.argmin())
        moved, at = offsets[best], at + step * offsets[best]
        if np.abs(moved).max() < 1:
            step *= 0.5
        if step < 1e-6:
            break
    alpha, beta = np.exp(at)
    e, a, b = solution[best]
    with np.errstate(over="ignore"):
        a, b = a * np.exp(alpha * centres[0]), b * np.exp(beta * centres[1])
    if not np.isfinite([a, b]).all():
        return None
    residual = float(np.sqrt(squares[best] / loss_R.size))
    return Surface(float(e), float(a), float(b), float(alpha), float(beta), residual)
