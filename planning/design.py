"""What a grid of runs will teach about a Chinchilla law, before any of it is trained.

Fisher information of L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv 2203.15556, eq. 2) in log loss, and
the delta method for what is wanted of it: alpha, beta, the compute-optimal size, and the forecast, the loss at the
compute-optimal split of a target budget under C = 6 N D. The law is not known before the runs, so every answer is given
for a set of plausible laws (Chaloner and Verdinelli 1995, Statistical Science 10, 273: designs that are averaged over
a prior). Plain NumPy.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.fit.frontier import frontier
from core.errors import BadInput
from core.reading import shown

PARAMETERS = ("E", "A", "B", "alpha", "beta")
NORMAL_90 = 1.6448536269514722  # quantile of the normal distribution at 0.95: a two-sided 90% interval
SINGULAR = 1e12  # condition number of the scaled information beyond which a grid does not determine the law


@dataclasses.dataclass(frozen=True)
class Prior:
    """What is thought of a law before its runs, free of the scale of the study.

    Attributes:
      exponent, exponent_sd: alpha and beta, each normal and cut at 0.15 and 0.65. Published: 0.339 and 0.285 (Hoffmann
        et al. 2022), 0.348 and 0.366 (Besiroglu et al. 2024, arXiv 2404.10102); 0.476 and 0.527 on quickstart
        (docs/results/quickstart.md).
      tokens_per_param, tokens_per_param_factor: D / N at the optimum of the reference budget, log-normal: median and
        the factor of one standard deviation. 20 of Hoffmann et al.; 36 on quickstart.
      reducible: least and most share of the loss there that is not the floor E, uniform. 0.48 at 1e18 and 0.21 at 1e21
        by the coefficients of Besiroglu et al.; 0.34 on quickstart.
    """

    exponent: float = 0.37
    exponent_sd: float = 0.06
    tokens_per_param: float = 20.0
    tokens_per_param_factor: float = 1.7
    reducible: tuple[float, float] = (0.15, 0.5)


# Noise of one run: standard deviation of log loss. The mean absolute residual of the Epoch table is 0.0047, what the
# law does not describe included (docs/results/published_fits.md fits that table).
NOISE = 0.005
# Share of that variance that runs of one trunk have in common: they share initialization and data order. An assumption.
TRUNK_CORRELATION = 0.5
FLOOR = 1.8  # E in nats; only ratios to it matter, since noise is relative


def draw_laws(count: int, reference_flops: float, prior: Prior, seed: int) -> dict[str, np.ndarray]:
    """`count` plausible laws, each parameter of shape (count,), with the prior's properties at a reference budget."""
    rng = np.random.default_rng(seed)
    alpha, beta = (
        np.clip(prior.exponent + prior.exponent_sd * rng.standard_normal(count), 0.15, 0.65) for _ in range(2)
    )
    ratio = prior.tokens_per_param * prior.tokens_per_param_factor ** rng.standard_normal(count)
    reducible = rng.uniform(*prior.reducible, count)
    return laws_with(alpha, beta, ratio, reducible, reference_flops)


def laws_with(alpha: Any, beta: Any, ratio: Any, reducible: Any, flops: float) -> dict[str, np.ndarray]:
    """The laws with these exponents, D / N and reducible share at the compute-optimal split of `flops`.

    There alpha A / N^alpha = beta B / D^beta, which with their sum fixes both terms.
    """
    params = np.sqrt(flops / 6.0 / np.asarray(ratio, dtype=np.float64))
    tokens = np.asarray(ratio) * params
    above = FLOOR * reducible / (1 - reducible)
    return {
        "E": np.full_like(params, FLOOR),
        "A": above * beta / (alpha + beta) * params**alpha,
        "B": above * alpha / (alpha + beta) * tokens**beta,
        "alpha": np.asarray(alpha) + 0 * params,
        "beta": np.asarray(beta) + 0 * params,
    }


def laws_of_fit(fit: object, count: int, seed: int) -> dict[str, np.ndarray]:
    """Plausible laws from the draws of a fit.json of the Chinchilla law: up to `count`, those that are laws at all.

    Raises:
      BadInput: another law, or fewer than 8 usable draws: the runs behind the fit do not determine it.
    """
    if not isinstance(fit, Mapping):
        raise BadInput("not a fit.json: it holds no object")
    if fit.get("law") != "chinchilla":
        raise BadInput(f"a fit of the chinchilla law is needed, not of {shown(fit.get('law'))}")
    try:
        draws = np.array(fit["draws"] or [], dtype=np.float64).reshape(-1, len(PARAMETERS))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadInput("not a fit.json: its draws cannot be read") from None
    usable = draws[
        np.isfinite(draws).all(axis=1) & (draws[:, :3] > 1e-6).all(axis=1)
        & (draws[:, 3:] > 0.02).all(axis=1) & (draws[:, 3:] < 3).all(axis=1)
    ]  # fmt: skip
    if len(usable) < 8:
        raise BadInput(
            f"only {len(usable)} of {len(draws)} draws of the fit are laws: these runs do not determine one yet; "
            "plan a grid with --budget"
        )
    chosen = usable[np.random.default_rng(seed).permutation(len(usable))[:count]]
    return {name: chosen[:, place] for place, name in enumerate(PARAMETERS)}


def losses(laws: Mapping[str, np.ndarray], params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Loss of each law (K,) at each run (n,): shape (K, n)."""
    e, a, b, alpha, beta = (np.asarray(laws[name], dtype=np.float64)[:, None] for name in PARAMETERS)
    return e + a * params[None] ** -alpha + b * tokens[None] ** -beta


@dataclasses.dataclass(frozen=True)
class ScaledLaws:
    """Laws seen in coordinates in which information matrices are well scaled.

    The coordinates are (log E, log a, log b, alpha, beta), with a and b the two terms at a size and a data size in the
    middle of the runs: a linear change, which leaves every variance as it is.
    """

    laws: Mapping[str, np.ndarray]
    log_params: float
    log_tokens: float

    @staticmethod
    def at(laws: Mapping[str, np.ndarray], params: np.ndarray, tokens: np.ndarray) -> "ScaledLaws":
        return ScaledLaws(laws, float(np.mean(np.log(params))), float(np.mean(np.log(tokens))))

    def rows(self, params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Derivative of log loss by each coordinate, shape (K, n, 5), at runs (n,) or, one a law, at (K, n)."""
        e, a, b, alpha, beta = (np.asarray(self.laws[name], dtype=np.float64)[:, None] for name in PARAMETERS)
        log_n, log_d = (np.log(np.broadcast_to(x, (e.shape[0], x.shape[-1]))) for x in (params, tokens))
        size, data = a * np.exp(-alpha * log_n), b * np.exp(-beta * log_d)
        loss = e + size + data
        size, data = size / loss, data / loss
        return np.stack(
            [
                e / loss,
                size,
                data,
                -size * (log_n - self.log_params),
                -data * (log_d - self.log_tokens),
            ],
            axis=-1,
        )

    def forecast(self, target_flops: float) -> np.ndarray:
        """Derivative of the log loss at the optimum of a budget, shape (K, 5).

        The best size moves with the parameters too, but at the optimum that does not change the loss.
        """
        best = frontier({name: self.laws[name][:, None] for name in PARAMETERS}, np.array([target_flops]))
        return self.rows(best.params, best.tokens)[:, 0]

    def wanted(self, target_flops: float) -> dict[str, np.ndarray]:
        """Derivatives of what is asked of a law: forecast (log loss), alpha, beta, params_opt (log), each (K, 5)."""
        alpha, beta = (np.asarray(self.laws[name], dtype=np.float64) for name in ("alpha", "beta"))
        log_a, log_b = (np.log(self.laws[name]) for name in ("A", "B"))
        total = alpha + beta
        balance = np.log(alpha) + log_a - np.log(beta) - log_b
        product = np.log(target_flops / 6.0)
        zero, one = np.zeros_like(alpha), np.ones_like(alpha)
        # log N = (balance + beta log(C / 6)) / (alpha + beta), with log A = log a + alpha n and log B = log b + beta d
        by_alpha = (1 / alpha + self.log_params) / total - (balance + beta * product) / total**2
        by_beta = (product - 1 / beta - self.log_tokens) / total - (balance + beta * product) / total**2
        return {
            "forecast": self.forecast(target_flops),
            "alpha": np.stack([zero, zero, zero, one, zero], axis=-1),
            "beta": np.stack([zero, zero, zero, zero, one], axis=-1),
            "params_opt": np.stack([zero, 1 / total, -1 / total, by_alpha, by_beta], axis=-1),
        }


def standard_deviations(
    rows: np.ndarray,
    wanted: Mapping[str, np.ndarray],
    noise: float,
    clusters: np.ndarray | None = None,
    correlation: float = 0.0,
) -> dict[str, np.ndarray]:
    """Standard deviation of each wanted number under each law, for a least-squares fit that takes runs as independent.

    Args:
      rows: (K, n, 5) of `ScaledLaws.rows`. wanted: (K, 5) each. noise: of log loss.
      clusters: label of each run, shape (n,): its trunk. correlation: share of the variance that they have in common.

    Returns:
      name -> (K,); infinite where the grid does not determine the law.
    """
    information = np.einsum("kni,knj->kij", rows, rows)
    scale = np.sqrt(np.maximum(np.einsum("kii->ki", information), 1e-300))
    scaled = information / scale[:, :, None] / scale[:, None, :]
    possible = np.linalg.cond(scaled) < SINGULAR
    inverse = np.zeros_like(scaled)
    inverse[possible] = np.linalg.inv(scaled[possible])
    result = {}
    for name, vector in wanted.items():
        weights = (
            np.einsum("kij,kj->ki", inverse, vector / scale) / scale
        )  # of each row's score in the estimate
        influence = np.einsum("kni,ki->kn", rows, weights)
        variance = np.einsum("kn,kn->k", influence, influence)
        if clusters is not None and correlation:
            _, label = np.unique(clusters, return_inverse=True)
            together = np.zeros((rows.shape[0], int(label.max()) + 1))
            for place, one in enumerate(label):
                together[:, one] += influence[:, place]
            variance = (1 - correlation) * variance + correlation * np.einsum("kc,kc->k", together, together)
        result[name] = np.where(possible, noise * np.sqrt(variance), np.inf)
    return result


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What a grid is expected to teach: standard deviations, medians over the plausible laws, and their 80% range."""

    target_flops: float
    median: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Half-widths of 90% intervals; null where the grid does not determine the number."""

        def plain(values: Mapping[str, float]) -> dict[str, float | None]:
            return {name: NORMAL_90 * value if np.isfinite(value) else None for name, value in values.items()}

        return {
            "target_flops": self.target_flops,
            "half_width_90": plain(self.median),
            "over_laws_10": plain(self.low),
            "over_laws_90": plain(self.high),
            "units": {"forecast": "log loss", "alpha": "1", "beta": "1", "params_opt": "log parameters"},
        }


def expect(
    laws: Mapping[str, np.ndarray],
    params: np.ndarray,
    tokens: np.ndarray,
    target_flops: float,
    noise: float = NOISE,
    clusters: np.ndarray | None = None,
    correlation: float = 0.0,
) -> Expectation:
    """What runs of `params` and `tokens`, each (n,), would teach under each law.

    Raises:
      BadInput: a number that is not positive.
    """
    for name, values in (("params", params), ("tokens", tokens), ("target", target_flops), ("noise", noise)):
        if not np.all(np.isfinite(values)) or np.any(np.asarray(values) <= 0):
            raise BadInput(f"{name}={np.min(values):g}: must be positive and finite")
    params, tokens = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    scaled = ScaledLaws.at(laws, params, tokens)
    found = standard_deviations(
        scaled.rows(params, tokens), scaled.wanted(target_flops), noise, clusters, correlation
    )
    medians, lows, highs = (
        {name: float(np.quantile(values, share, method="nearest")) for name, values in found.items()}
        for share in (0.5, 0.1, 0.9)
    )
    return Expectation(target_flops, medians, lows, highs)
