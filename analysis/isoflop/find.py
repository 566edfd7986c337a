"""Best size at each FLOP budget, and how it grows: approaches 1 and 2 of Hoffmann et al. 2022 (arXiv 2203.15556).

Approach 1 is `envelope` where sizes have several token counts each, `hull` where they have not. A budget has a valley
if it has enough sizes, the curve through them opens upward, and its minimum lies inside the sizes tried, also when the
noise of the runs is put on it again. Any other budget is listed with the reason.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.isoflop.apart import HeldApart, held_apart
from analysis.isoflop.approach1 import by_envelope, by_hull
from analysis.isoflop.bias import Bias, bias_of
from analysis.isoflop.growth import Repeated, Valley, power_laws
from analysis.isoflop.judge import MINIMA, Again, valley_of
from analysis.isoflop.noise import RunNoise, Unit, noise_of, noises
from analysis.isoflop.result import Isoflop, Method
from analysis.isoflop.shape import LEVEL, cubic_test
from analysis.isoflop.slices import FLOPS_PER_PARAM_TOKEN, Kind, Slice, flops_of, make_slices, planned_budgets
from analysis.isoflop.window import within
from core.errors import BadInput

__all__ = ["Isoflop", "Method", "find_valleys"]
JUDGING_REPETITIONS = (
    2000  # of noise, behind the verdict on a valley: as many however many resamples are asked for
)
FEWEST_REPETITIONS = 400  # behind the interval of a valley, where no bootstrap is asked for


def find_valleys(
    columns: Mapping[str, np.ndarray],
    method: Method = "parabola",
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    kind: Kind = "auto",
    tolerance: float = 0.1,
    min_points: int = 4,
    noise: float | None = None,
    keep_all: bool = False,
    row_numbers: np.ndarray | None = None,
    *,
    noise_unit: Unit = "relative",
    window: float | None = None,
    exponent: float | None = None,
    targets: Sequence[float] = (),
) -> Isoflop:
    """Find the best size at each budget and the power laws through the valleys.

    Args:
      columns: params, tokens, loss and optionally flops (6 N D otherwise).
      bootstrap: repetitions behind the intervals; 0 for none.
      level: of the intervals.
      kind, tolerance, min_points: see `make_slices`.
      noise: standard deviation of one run's loss, in `noise_unit`; None estimates it, from repeated (params, tokens)
        where there are enough, else from the scatter about smooth curves.
      keep_all: hold no row apart (see analysis/isoflop/apart.py).
      row_numbers: what the warnings call each row; 1, 2, 3, ... if not given.
      window: take only the sizes within this factor of the minimum of their budget.
      exponent: a_opt, where it is not to be estimated.
      targets: budgets at which the best size is wanted.

    Raises:
      BadInput: no budget can be looked at, and what would be needed; or a choice that the method does not have.
    """
    if method in ("hull", "envelope") and (window is not None or exponent is not None):
        flag = "--window" if window is not None else "--exponent"
        raise BadInput(f"{flag}: only for --method parabola, cubic and akima, not {method}")
    generator = np.random.default_rng(seed)
    with np.errstate(over="ignore", under="ignore"):
        flops = flops_of(columns)
    if not (np.isfinite(flops) & (flops > 0)).all():
        raise BadInput("6 params tokens is no finite positive number of FLOPs in some row: check the units")
    apart = () if keep_all else _held_apart(columns, kind, tolerance, min_points)
    if apart:
        kept = np.delete(np.arange(flops.size), [entry.row for entry in apart])
        numbers = np.arange(1, flops.size + 1) if row_numbers is None else row_numbers
        options = (method, bootstrap, seed, level, kind, tolerance, min_points, noise)
        rest = find_valleys(
            {name: values[kept] for name, values in columns.items()}, *options, keep_all=True,
            noise_unit=noise_unit, window=window, exponent=exponent, targets=targets,
        )  # fmt: skip
        lines = [entry.words(int(numbers[entry.row])) for entry in apart]
        named = tuple(dataclasses.replace(entry, row=int(numbers[entry.row])) for entry in apart)
        slices = tuple(dataclasses.replace(piece, rows_R=kept[piece.rows_R]) for piece in rest.slices)
        return dataclasses.replace(rest, slices=slices, warnings=(*lines, *rest.warnings), held_apart=named)
    if method == "hull":
        return by_hull(columns, bootstrap, generator, level, tolerance, targets)
    if method == "envelope":
        return by_envelope(columns, bootstrap, generator, level, noise, noise_unit, targets)
    slices, made = make_slices(columns, kind, tolerance, min_points)
    warnings = list(made)
    # Of all sizes, also where a window is looked through: noise is the same there.
    of_run = noise_of(columns, slices, noise, noise_unit, warnings)
    if window is not None:
        slices = tuple(within(piece, columns["loss"], window) for piece in slices)
    judged = _judged(columns, slices, of_run, generator, (method, bootstrap, seed, level, min_points))
    valleys = tuple(valley for valley, _ in judged)
    tested = cubic_test(slices, columns["loss"], of_run) if method == "parabola" else None
    if tested is not None and tested.p < LEVEL:
        warnings.append(tested.words())
    biased = _bias(columns, slices, valleys, method, of_run)
    growth = power_laws(
        valleys,
        _repeated(slices, judged) if bootstrap else None,
        level,
        warnings,
        exponent=exponent,
        targets=targets,
        missed=None if biased is None else biased.missed,
    )
    if biased is not None and (told := biased.words(method, growth.intervals["a_opt"], targets)):
        warnings.append(told)
    return Isoflop(
        method=method,
        valleys=valleys,
        slices=slices,
        derived=growth.derived,
        intervals=growth.intervals,
        noise=of_run.sd if of_run.known else None,
        warnings=tuple(warnings),
        noise_source=of_run.source if of_run.known else "",
        at_targets=growth.at_targets,
        bias=biased,
    )


def _held_apart(
    columns: Mapping[str, np.ndarray], kind: Kind, tolerance: float, min_points: int
) -> tuple[HeldApart, ...]:
    try:
        return held_apart(columns, planned_budgets(columns, kind, tolerance, min_points))
    except BadInput:
        return ()  # a method that needs slices says so


def _judged(
    columns: Mapping[str, np.ndarray],
    slices: Sequence[Slice],
    noise: RunNoise,
    generator: np.random.Generator,
    options: tuple[str, int, int, float, int],
) -> list[tuple[Valley, np.ndarray]]:
    method, bootstrap, seed, level, min_points = options
    size_R = noise.size_R(columns["loss"])
    drawn = noises(slices, size_R, noise, bootstrap or FEWEST_REPETITIONS, generator)
    judging = noises(
        slices, size_R, noise, JUDGING_REPETITIONS, np.random.default_rng([seed, 1]), mirrored=True
    )
    judged = []
    for place, (piece, noise_BS, judging_BS) in enumerate(zip(slices, drawn, judging, strict=True)):
        spread_S = np.sqrt(((piece.weights_SR * size_R[piece.rows_R]) ** 2).sum(axis=1))
        again = Again(noise_BS, judging_BS, spread_S * noise.of_slice(place))
        judged.append(valley_of(piece, columns["loss"], again, method, min_points, level))
    return judged


def _repeated(slices: Sequence[Slice], judged: Sequence[tuple[Valley, np.ndarray]]) -> Repeated:
    """What every repetition says of the best size and its tokens."""
    log_params_BV = np.stack([repeated for _, repeated in judged], axis=1)
    offsets = [
        _log_flops_per_param_token(piece, valley) for piece, (valley, _) in zip(slices, judged, strict=True)
    ]
    log_flops = np.log([piece.flops for piece in slices])
    return Repeated(log_params_BV, (log_flops - np.array(offsets)) - log_params_BV)


def _log_flops_per_param_token(piece: Slice, valley: Valley) -> float:
    """log(C / N D) at the optimum: 6 by the usual count, the ledger's own by the exact one."""
    if valley.params_opt is None or valley.tokens_opt is None:
        return float(np.log(FLOPS_PER_PARAM_TOKEN))
    return float(np.log(piece.flops / (valley.params_opt * valley.tokens_opt)))


def _bias(
    columns: Mapping[str, np.ndarray],
    slices: Sequence[Slice],
    valleys: Sequence[Valley],
    method: str,
    noise: RunNoise,
) -> Bias | None:
    if method == "akima":
        return None  # it goes through the points, whatever the surface is
    sd = noise.sd if noise.known else None
    if sd is not None and noise.unit == "nats":
        sd = sd / float(columns["loss"].mean())
    weight_V = np.array([valley.deviation for valley in valleys]) ** -2.0
    return bias_of(slices, [valley.ok for valley in valleys], weight_V, columns, MINIMA[method], sd)
