"""The command line of analysis.leaderboard: runs in, ranks with intervals out."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import UseAppendAction, arg

from analysis.commands import write_result
from analysis.compare.metric import Metric
from analysis.leaderboard.board import Board, board, shares
from analysis.leaderboard.contestants import Contestant, ScoredField, at_equal, every_run, field_of, sweeps_of
from analysis.leaderboard.result import OVERALL, RULE, lines_of, to_json, warnings_of
from core import cli
from core.bounds import Allowed
from core.errors import EXIT_COMPLETE, BadInput, writes
from core.files import canonical_sha256, write_atomic
from core.records import LOSS

FIGURES = (".svg", ".png")
UNEQUAL = 1.1  # FLOPs of the ranked runs differ by more


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exits 2 with one line where nothing can be compared or a flag cannot be used."""
    cli.command(leaderboard_command, arguments, "python -m analysis.leaderboard")
    return EXIT_COMPLETE


def leaderboard_command(
    runs: tuple[Path, ...],
    /,
    *,
    metric: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME")] = (),
    at: str = "",
    level: Annotated[float, Allowed(0.5, 0.9999)] = 0.95,
    draws: Annotated[int, Allowed(100, 100_000)] = 1000,
    seed: Annotated[int, Allowed(0, 2**32 - 1)] = 0,
    figure: Path | None = None,
    json: bool = False,
    out: Path | None = None,
) -> None:
    """Rank runs by who is better on the same held-out items.

    Strengths are those of Bradley and Terry, from the items that each run
    wins against each other; intervals resample items.

    Args:
      runs: directories of sweeps or runs
      metric: val/loss, bits_per_byte, task/NAME/METRIC, lm-eval/NAME/METRIC; may be repeated; else val/loss
      at: flops=1e15, params=1M or tokens=2M: recipes there, seeds averaged
      level: of the intervals
      draws: of the bootstrap
      seed: of the bootstrap
      figure: draw it here, as .svg or .png; without, beside --out
      json: print one JSON object in place of tables
      out: write leaderboard.json here
    """
    if figure is not None and figure.suffix.lower() not in FIGURES:
        raise BadInput(f"--figure {figure}: must end in {' or '.join(FIGURES)}")
    if not runs:
        raise BadInput("no runs: name the directories of sweeps or runs")
    metrics = [Metric.of(name) for name in dict.fromkeys(metric or (LOSS,))]
    sweeps = sweeps_of(runs)
    contestants, left_out = at_equal(sweeps, at, metrics[0]) if at else every_run(sweeps)
    fields = [field_of(contestants, one) for one in metrics]
    boards = boards_of(fields, draws=draws, level=level, seed=seed)
    for scored in fields:
        left_out |= {f"{label} ({scored.metric.name})": why for label, why in scored.left_out.items()}
    ranked = {label for scored in fields for label in scored.labels}
    warnings = [
        *(warning for one in boards for warning in warnings_of(one)),
        *warnings_about([one for one in contestants if one.label in ranked], at),
    ]
    result = to_json(boards, at, warnings, left_out, draws, seed)
    if out is not None:
        write_result(out, result)
    drawn = [figure] if figure else [out.with_suffix(kind) for kind in FIGURES] if out else []
    if drawn:
        _draw(boards[-1], drawn, canonical_sha256(result, leave_out="digest"))
    if json:
        import json as encoder  # the flag has the module's name

        sys.stdout.write(encoder.dumps(result, indent=1, allow_nan=False) + "\n")
        return
    for one in boards:
        sys.stdout.write("\n".join(lines_of(one)) + "\n\n")
    sys.stdout.write(f"{RULE}\n")
    for warning in warnings:
        sys.stdout.write(f"warning: {warning}\n")
    for label, why in left_out.items():
        sys.stdout.write(f"left out: {label}: {why}\n")
    for path in [*([out] if out else []), *drawn]:
        sys.stdout.write(f"written: {path}\n")


def boards_of(fields: Sequence[ScoredField], *, draws: int, level: float, seed: int) -> list[Board]:
    """A board for each metric, and of several one of all: of who wins on the items of all of them."""
    found = [
        board(
            one.metric.name, one.labels, one.scores_MI, one.weights_I, one.values,
            rises=one.metric.share, draws=draws, level=level, seed=seed,
        )
        for one in fields
    ]  # fmt: skip
    common = [label for label in fields[0].labels if all(label in one.labels for one in fields)]
    if len(fields) > 1 and len(common) > 1:
        parts = []
        for one in fields:
            own = one.scores_MI[[one.labels.index(label) for label in common]]
            parts.append(shares(own if one.metric.share else -own))
        together = np.concatenate(parts, axis=1)
        found.append(
            board(
                OVERALL, common, together, np.ones(together.shape[1]), together.mean(1).tolist(),
                rises=True, draws=draws, level=level, seed=seed,
            )
        )  # fmt: skip
    return found


def warnings_about(contestants: Sequence[Contestant], at: str) -> list[str]:
    """What differs between contestants beside what they are ranked for."""
    found = []
    flops = [value for one in contestants for run in one.runs if (value := run.flops()) is not None]
    if flops and max(flops) > UNEQUAL * min(flops) and not at.startswith("params"):
        found.append(
            f"compute differs by a factor of {max(flops) / min(flops):.3g}; "
            f"--at flops={sorted(flops)[len(flops) // 2]:.2g} ranks recipes at equal compute"
        )
    if at and any(len(one.runs) < 2 for one in contestants):
        found.append("some recipes have one seed only: its luck is not in the intervals, which resample items")
    return found


def _draw(one: Board, paths: Sequence[Path], digest: str) -> None:
    # matplotlib takes half a second, only where a figure is drawn
    from analysis.figures.forest import forest_figure, panel_of
    from analysis.figures.style import render

    svg, png = render(forest_figure(panel_of(one)), "leaderboard", digest)
    for path in paths:
        with writes(path):
            write_atomic(path, svg if path.suffix.lower() == ".svg" else png)
