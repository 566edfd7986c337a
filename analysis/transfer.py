"""What pretraining is worth in tokens of the task: effective data transferred, and its law.

    python -m analysis.transfer runs/transfer --out transfer.json

For each size, runs from scratch give log L as a parabola in log D. A run that began with other weights and has loss L
after D_F tokens stands for D_E(L) tokens from scratch, of which D_T = D_E - D_F were transferred (Hernandez et al.
2021, arXiv 2102.01293). The law is theirs, D_T = k D_F^alpha N^beta, by least squares of logarithms. Intervals: the
spread of seeds, pooled over all cells, drawn anew on every loss, and everything computed again.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.commands import write_result
from analysis.logs.groups import TEXT_BEFORE, TOKENS_BEFORE, trees_of
from analysis.logs.load import SweepLogs, load_sweep
from analysis.logs.load_run import Run, at
from core import cli
from core.errors import BadInput
from core.numbers import number, short_count

DRAWS = 1000
LEAST_SCRATCH = 4  # data sizes of a size: one more than the parabola has coefficients


@dataclasses.dataclass(frozen=True)
class Losses:
    """Runs of one kind: N, D (own tokens) and loss, (R,) each."""

    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray

    @classmethod
    def of(cls, runs: Sequence[Run], metric: str) -> "Losses":
        rows = [
            (run.count(), run.tokens, value)
            for run in runs
            if run.count() and run.tokens and (value := run.final(metric)) is not None and value > 0
        ]
        params, tokens, loss = np.array(rows, float).reshape(-1, 3).T
        return cls(params, tokens, loss)


@dataclasses.dataclass(frozen=True)
class TransferCell:
    """Runs of one base, size and D_F.

    Attributes:
      params: N. tokens: D_F.
      effective: D_E in tokens; nan where runs from scratch do not reach its loss.
      interval: of D_T = D_E - D_F, in tokens; an end is nan where draws do not reach it.
    """

    params: float
    tokens: float
    effective: float
    interval: tuple[float, float]

    @property
    def transferred(self) -> float:
        """D_T in tokens; below 0 where the base did harm."""
        return self.effective - self.tokens


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What one base gives.

    Attributes:
      base: what it learned, and on how many tokens.
      cells: by size and D_F.
      law: k, alpha, beta with intervals; empty where it cannot be fitted. why: the reason.
    """

    base: str
    cells: tuple[TransferCell, ...]
    law: Mapping[str, tuple[float, float, float]]
    why: str = ""


def inverse(tokens: np.ndarray, loss_RS: np.ndarray, wanted_RC: np.ndarray) -> np.ndarray:
    """D_E: tokens from scratch that give the wanted losses at one size, (R, C); nan beyond what was trained.

    Args:
      tokens: D of the S runs from scratch. loss_RS: their losses in each of R draws.
      wanted_RC: losses of C cells.

    Raises:
      BadInput: fewer data sizes than a parabola needs.
    """
    if np.unique(tokens).size < LEAST_SCRATCH:
        raise BadInput(f"{np.unique(tokens).size} data sizes from scratch; at least {LEAST_SCRATCH}")
    centre = np.log(tokens).mean()
    x = np.log(tokens) - centre
    design = np.stack([x**2, x, np.ones_like(x)])
    a_R1, b_R1, c_R1 = np.split(np.log(loss_RS) @ np.linalg.pinv(design), 3, axis=1)
    above = c_R1 - np.log(wanted_RC)
    with np.errstate(invalid="ignore", divide="ignore"):
        # The root where the parabola falls, in the form that stays exact for a straight line.
        root = 2 * above / (-b_R1 + np.sqrt(b_R1**2 - 4 * a_R1 * above))
        return np.where((root < x.min()) | (root > x.max()), np.nan, np.exp(root + centre))


def spread(*kinds: Losses) -> tuple[float, int]:
    """Standard deviation of log loss between runs of one cell, pooled, and its degrees of freedom."""
    total, freedom = 0.0, 0
    for one in kinds:
        keys = np.stack([one.params, one.tokens])
        for cell in np.unique(keys, axis=1).T:
            own = np.log(one.loss[(cell == keys.T).all(axis=1)])
            total, freedom = total + float(((own - own.mean()) ** 2).sum()), freedom + own.size - 1
    return (float(np.sqrt(total / freedom)) if freedom else 0.0), freedom


def transfer_of(
    base: str,
    scratch: Losses,
    later: Losses,
    deviation: float,
    level: float,
    draws: int = DRAWS,
    seed: int = 0,
    freedom: int = 0,
) -> Transfer:
    """Effective data of every cell, and the law.

    Args:
      deviation: of a run's log loss. freedom: degrees of freedom that it was found with; 0 where it is known.
    """
    keys = np.unique(np.stack([later.params, later.tokens]), axis=1).T
    generator = np.random.default_rng(seed)
    scale = np.sqrt(freedom / generator.chisquare(freedom, size=(draws, 1))) if freedom else 1.0
    noise = [
        np.concatenate(
            [
                np.zeros((1, one.loss.size)),
                deviation * scale * generator.normal(size=(draws, one.loss.size)),
            ]
        )
        for one in (scratch, later)
    ]
    curves, reached = (np.log(one.loss) + own for one, own in zip((scratch, later), noise, strict=True))
    effective = np.empty((draws + 1, len(keys)))  # the first row is without noise
    for size in np.unique(keys[:, 0]):
        own, places = np.isclose(scratch.params, size, rtol=0.02), np.flatnonzero(keys[:, 0] == size)
        means = [
            reached[:, (later.params == size) & (later.tokens == keys[place, 1])].mean(axis=1)
            for place in places
        ]
        try:
            found = inverse(scratch.tokens[own], np.exp(curves[:, own]), np.exp(np.stack(means, axis=1)))
        except BadInput as error:
            raise BadInput(f"{short_count(size)} parameters: {error}") from None
        effective[:, places] = found
    point, drawn = effective[0], effective[1:]
    # Draws beyond the runs from scratch count as more than all, and ends among them are not known.
    ends = np.quantile(
        np.where(np.isnan(drawn), 1e300, drawn), [(1 - level) / 2, (1 + level) / 2], axis=0, method="nearest"
    )
    ends = np.where(ends >= 1e300, np.nan, ends)
    cells = tuple(
        TransferCell(size, own, value, (low - own, high - own))
        for (size, own), value, low, high in zip(keys, point, *ends, strict=True)
    )
    law, why = _law(keys, point, drawn, level)
    return Transfer(base, cells, law, why)


def _law(
    keys: np.ndarray, point: np.ndarray, drawn: np.ndarray, level: float
) -> tuple[dict[str, tuple[float, float, float]], str]:
    """k, alpha, beta with the ends of their intervals, from the cells whose D_T is above 0 in nearly every draw."""
    with np.errstate(invalid="ignore"):
        usable = (point > keys[:, 1]) & ((drawn > keys[:, 1]).mean(axis=0) > level)
    sizes, amounts = (np.unique(keys[usable, axis]).size for axis in (0, 1))
    if usable.sum() < 4 or sizes < 2 or amounts < 2:
        return {}, (
            f"D_T is told from 0 in {usable.sum()} of {point.size} cells; the law needs 4, of 2 sizes and 2 amounts"
        )
    design = np.stack([np.ones(usable.sum()), *np.log(keys[usable, ::-1]).T], axis=1)

    def fitted(effective: np.ndarray) -> np.ndarray | None:
        moved = effective[usable] - keys[usable, 1]
        if not (moved > 0).all():  # nan too
            return None
        return np.linalg.lstsq(design, np.log(moved), rcond=None)[0]

    best = fitted(point)
    assert best is not None
    kept = np.array([one for row in drawn if (one := fitted(row)) is not None])
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2], axis=0)
    names = ("k", "alpha", "beta")
    found = {
        name: tuple(map(float, (np.exp(ends) if name == "k" else ends)))
        for name, ends in zip(names, np.stack([best, low, high], axis=1), strict=True)
    }
    return found, ""  # type: ignore[return-value]


def transfers(
    sweep: SweepLogs, metric: str = "val/loss", level: float = 0.95, draws: int = DRAWS
) -> list[Transfer]:
    """One for each base that runs of a sweep began with; the one of most tokens first.

    Raises:
      BadInput: no run began with other weights, none from scratch reads the same text, or too few of them.
    """
    later = [run for run in sweep.usable if run.spec.get("start")]
    if not later:
        raise BadInput(f"{sweep.path}: no finished run has start=weights; there is no transfer to measure")
    texts = {_text(run) for run in later}
    scratch = [
        run for run in sweep.usable if not run.spec.get("start") and not run.trunk and _text(run) in texts
    ]
    if len(texts) > 1 or not scratch:
        raise BadInput(
            f"{sweep.path}: needs runs from scratch on the text that later stages read; there are {len(scratch)}, and "
            f"{len(texts)} texts"
        )
    trees = trees_of(later)
    bases: dict[tuple[float, str], list[Run]] = {}
    for run in later:
        tree = trees[run.run]
        tokens, text = float(tree.get(TOKENS_BEFORE) or 0.0), str(tree.get(TEXT_BEFORE) or "unknown")
        bases.setdefault((tokens, text), []).append(run)
    alone = Losses.of(scratch, metric)
    groups = {key: Losses.of(runs, metric) for key, runs in bases.items()}
    deviation, freedom = spread(alone, *groups.values())
    if not freedom:
        raise BadInput(
            f"{sweep.path}: needs at least 2 seeds of something, from whose spread the intervals follow"
        )
    return [
        transfer_of(
            f"{text}, {short_count(tokens)} tokens", alone, groups[tokens, text], deviation, level, draws
        )
        for tokens, text in sorted(groups, reverse=True)
    ]


def _text(run: Run) -> str:
    names = ("corpus", "domain", "mixture")
    return "\n".join(str(at(run.spec, "data", name) or "") for name in names) + str(run.provenance.corpus)


def sentences(found: Transfer) -> list[str]:
    """What a base gave, in words."""
    told = [cell for cell in found.cells if np.isfinite(cell.effective)]
    if not told:
        return [f"{found.base}: runs from scratch do not reach the losses of what trains on."]
    above = [cell for cell in told if cell.interval[0] > 0]
    below = [cell for cell in told if cell.interval[1] < 0]
    beyond = len(found.cells) - len(told)
    lines = [
        f"{found.base}: transferred data is above 0 in {len(above)} of {len(found.cells)} cells, below 0 in "
        f"{len(below)}{f', beyond the runs from scratch in {beyond}' if beyond else ''}."
    ]
    if found.law:
        said = {
            name: f"{number(value)} [{number(low)}, {number(high)}]"
            for name, (value, low, high) in found.law.items()
        }
        lines.append(
            f"D_T = k D_F^alpha N^beta with alpha {said['alpha']}, beta {said['beta']}, k {said['k']}."
        )
    else:
        lines.append(f"No law: {found.why}.")
    return lines


def to_json(found: Sequence[Transfer], level: float) -> dict[str, Any]:
    """transfer.json; what is not known is null."""

    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        "level": level,
        "bases": [
            {
                "base": one.base,
                "cells": [
                    {
                        "params": cell.params,
                        "tokens": cell.tokens,
                        "effective_tokens": known(cell.effective),
                        "transferred": known(cell.transferred),
                        "interval": [known(end) for end in cell.interval],
                    }
                    for cell in one.cells
                ],
                "law": {
                    name: {"value": value, "interval": [low, high]}
                    for name, (value, low, high) in one.law.items()
                },
                "why_no_law": one.why,
            }
            for one in found
        ],
    }


def command(
    sweep: Path,
    /,
    *,
    metric: str = "val/loss",
    level: float = 0.95,
    draws: int = DRAWS,
    out: Path | None = None,
) -> None:
    """Measure in tokens what later stages of a sweep owe to the weights that they began with.

    Args:
      sweep: runs/<sweep>, with runs of start=weights and runs from scratch on the same text
      metric: the final evaluation that is compared
      level: of the intervals
      draws: behind the intervals
      out: the JSON file to write
    """
    found = transfers(load_sweep(sweep), metric, level, draws)
    for one in found:
        sys.stdout.write("\n".join(sentences(one)) + "\n")
    if out is not None:
        write_result(out, to_json(found, level))
        sys.stdout.write(f"written: {out}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.transfer")


if __name__ == "__main__":
    main()
