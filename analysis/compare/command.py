"""The command line of analysis.compare: two sweeps or tables in, compare.json, a figure and a sentence out."""

import dataclasses
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from analysis.commands import write_result
from analysis.compare.checks import check
from analysis.compare.compare import RecipeComparison, compare
from analysis.compare.fitted import Choices, Shape
from analysis.compare.metric import Metric
from analysis.compare.powers import Floor
from analysis.compare.result import to_json
from analysis.compare.sentences import described
from analysis.compare.side import Axis, RecipeRuns
from analysis.compare.sweeps import TUNED, SweepReading, sides_of_sweep
from analysis.compare.tables import sides_of_table
from analysis.logs.flags import RunFlags, RunTableFlags
from analysis.logs.load import load_sweep
from analysis.logs.load_run import DEFAULT_FLOPS
from core import cli
from core.errors import BadInput, writes
from core.files import canonical_sha256, write_atomic
from core.numbers import parse_float

FIGURES = (".svg", ".png")
Pairs = Annotated[tuple[str, ...], UseAppendAction, arg(metavar="KEY=VALUE")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Exits 2 with one line where sides cannot be compared or a flag cannot be used."""
    cli.command(compare_command, arguments, "python -m analysis.compare")


def compare_command(
    sides: tuple[str, ...],
    /,
    *,
    axis: Axis = "flops",
    metric: str = "val/loss",
    by: str | None = None,
    where: Pairs = (),
    tuned: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="KEY")] = TUNED,
    flops: str | None = None,
    frontier: Shape = "auto",
    asymptote: str = "shared",
    source: str | None = None,
    target: float | None = None,
    target_loss: float | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    reading: RunFlags = RunTableFlags(),  # noqa: B008 (frozen)
    figure: Path | None = None,
    json: bool = False,
    out: Path | None = None,
) -> None:
    """Compare recipes at equal loss: which one scales better, and by how much?

    The compute multiplier is the cost of the first side over the cost of
    another at the same loss. The first side is the baseline.

    Args:
      sides: sweeps' directories or tables; one with --by
      axis: what a run costs
      metric: val/loss, bits_per_byte or task/NAME/METRIC
      by: compare the values of a setting (or column) within one sweep (or table)
      where: take only runs with this setting, or rows with this cell
      tuned: setting of which each size takes its best
      flops: the ledger's convention; needed where two sides count differently
      frontier: a law, or the lower convex hull of the runs
      asymptote: floor of the law: shared, own (one a side) or a number
      source: where a floor that is a number comes from
      target: give the multiplier at the loss of the first side at this cost
      target_loss: give the multiplier at this loss
      level: of the intervals
      draws: of the bootstrap behind them
      seed: of the bootstrap
      figure: draw it here, as .svg or .png; without, beside --out
      json: print one JSON object in place of sentences
      out: write compare.json here
    """
    _refuse_ranges(level, draws, seed, figure)
    floor, given = _asymptote(asymptote, source)
    chosen = Metric.of(metric)
    if target is not None and target_loss is not None:
        raise BadInput(f"--target {target:g} and --target-loss {target_loss:g}: one of them is allowed")
    for name, value in (("--target", target), ("--target-loss", target_loss)):
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"{name} {value:g}: must be positive")
    choices = Choices(
        axis, chosen.name, frontier, floor, given, source or "", target_loss, target, level, draws, seed
    )  # fmt: skip
    kept, best = dict(cli.pairs(where, "--where")), tuple(dict.fromkeys(tuned))
    reads = SweepReading(axis, chosen, kept, best, flops or DEFAULT_FLOPS)
    every = read_sides(sides, reads, reading, by or "")
    found = against_first(every, choices, chosen, flops or "")
    result = to_json(found)
    if out is not None:
        write_result(out, result)
    drawn = (
        [figure] if figure is not None else [] if out is None else [out.with_suffix(kind) for kind in FIGURES]
    )
    if drawn:
        _draw(found, chosen, drawn, canonical_sha256(result, leave_out="digest"))
    if json:
        # core.files refuses NaN where it writes; what is printed is the same object
        import json as encoder

        sys.stdout.write(encoder.dumps(result, indent=1, allow_nan=False) + "\n")
        return
    for one in found:
        sys.stdout.write("\n".join(described(one)) + "\n")
    for path in [*([out] if out else []), *drawn]:
        sys.stdout.write(f"written: {path}\n")


def read_sides(
    paths: Sequence[str], reads: SweepReading, reading: RunTableFlags, by: str = ""
) -> list[RecipeRuns]:
    """The sides of sweeps and tables, each with a label of its own.

    Raises:
      BadInput: one path without `by`, several with it, or a path that cannot be read.
    """
    if by and len(paths) != 1:
        raise BadInput(
            f"--by {by}: takes one sweep or table, whose values are compared; {len(paths)} were given"
        )
    if not by and len(paths) < 2:
        raise BadInput(
            f"{' '.join(paths) or 'no sides'}: at least 2 sweeps or tables are compared, or with --by KEY the values "
            "of one"
        )
    found = []
    for path in paths:
        if os.path.isdir(path):
            if reading != RunTableFlags():
                raise BadInput(f"{path}: --column, --drop-missing and --best-of are for tables")
            found += sides_of_sweep(load_sweep(path), reads, by)
        else:
            found += sides_of_table(path, reading.reading(), reads.axis, reads.metric, reads.where, by)
    labels = [side.label for side in found]
    if len(set(labels)) == len(labels):
        return found
    if len(set(paths)) == len(paths):
        return [dataclasses.replace(side, label=str(path)) for side, path in zip(found, paths, strict=True)]
    return [dataclasses.replace(side, label=f"{side.label} ({place})") for place, side in enumerate(found, 1)]


def against_first(
    sides: Sequence[RecipeRuns], choices: Choices, metric: Metric, convention: str = ""
) -> list[RecipeComparison]:
    """Each side against the first.

    Raises:
      BadInput: two that cannot be compared.
    """
    found = []
    for a, b in zip(itertools.repeat(sides[0]), sides[1:]):
        warnings = check(a, b, choices.axis, metric, convention)
        one = compare(a, b, choices)
        found.append(dataclasses.replace(one, warnings=(*warnings, *one.warnings)))
    return found


def _refuse_ranges(level: float, draws: int, seed: int, figure: Path | None) -> None:
    for name, value, allowed, good in (
        ("--level", level, "between 0 and 1", 0 < level < 1),
        ("--draws", draws, "100 to 100,000", 100 <= draws <= 100_000),
        ("--seed", seed, "at least 0", seed >= 0),
    ):
        if not good:
            raise BadInput(f"{name} {value}: must be {allowed}")
    if figure is not None and figure.suffix.lower() not in FIGURES:
        raise BadInput(f"--figure {figure}: must end in {' or '.join(FIGURES)}")


def _asymptote(text: str, source: str | None) -> tuple[Floor, float]:
    kept: dict[str, Floor] = {"shared": "shared", "own": "own"}
    if text in kept:
        if source:
            raise BadInput(f"--source {source}: is of a floor that is a number, and --asymptote is {text}")
        return kept[text], 0.0
    try:
        value = parse_float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise BadInput(f"--asymptote {text}: must be shared, own, or a number from 0 on")
    if not source:
        raise BadInput(f"--asymptote {text}: say where it comes from, with --source TEXT")
    return "given", value


def _draw(found: Sequence[RecipeComparison], metric: Metric, paths: Sequence[Path], digest: str) -> None:
    # matplotlib takes half a second, only where a figure is drawn
    from analysis.figures.multiplier import multiplier_figure, panels_of
    from analysis.figures.style import render

    svg, png = render(multiplier_figure(panels_of(found, metric.label)), "compare", digest)
    for path in paths:
        with writes(path):
            write_atomic(path, svg if path.suffix.lower() == ".svg" else png)
