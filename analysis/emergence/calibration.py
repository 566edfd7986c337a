"""Sizes and power of the tests on known truths: the table that `--calibrate` prints.

Every p-value is a bootstrap p-value of 199 replicates (0.05 is one of its exact levels), or of 39 or 99 where those
say clearly that it is above 0.05.
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import false_discovery_control

from analysis.commands import write_result
from analysis.emergence.hypotheses import p_values
from analysis.emergence.metric import check
from analysis.emergence.noise import Overdispersion, draw
from analysis.emergence.presence import presence
from analysis.emergence.settings import Settings
from analysis.emergence.statistics import evaluate
from analysis.emergence.table import TaskRows
from analysis.emergence.truths import (
    FAMILY_SHARP,
    FAMILY_SMOOTH,
    FAMILY_TASKS,
    FAMILY_TRUE,
    ITEMS,
    MIRAGE_NOISE,
    MIRAGE_TOKENS,
    TRUTHS,
    design,
    mirage_loss,
)
from analysis.emergence.verdict import Judged, verdict_of

STAGES = (39, 99, 199)
PIECE = 50  # repetitions of one unit of work


@dataclass(frozen=True)
class Row:
    """One measured share and what it is held to."""

    truth: str
    quantity: str
    share: float
    target: str

    @property
    def met(self) -> bool:
        if not self.target:
            return True
        sign, bound = self.target.split()
        return self.share >= float(bound) if sign == ">=" else self.share <= float(bound)


def simulate(mean_BK: np.ndarray, plan, over: float, settings: Settings, rng: np.random.Generator):
    """Draw data sets around means and test each; p-values (B,) of both tests, and the data."""
    flat_B = np.full(len(mean_BK), over)
    correct_BR = draw(plan, mean_BK, Overdispersion(flat_B, flat_B), rng)
    tested = p_values(
        plan, correct_BR, evaluate(plan, correct_BR, settings, "params"), settings, "params", rng, stages=STAGES
    )
    return tested, correct_BR


def _truth_piece(index: int, piece: int, repetitions: int, settings: Settings) -> np.ndarray:
    truth = TRUTHS[index]
    rng = np.random.default_rng([settings.seed, 100 + index, piece])
    mean_BK = np.repeat(truth.curve(truth.design.x_K)[None], repetitions, axis=0)
    tested, _ = simulate(mean_BK, truth.design, truth.overdispersion, settings, rng)
    level = settings.alpha + 1e-12
    return np.stack([tested.delayed_onset_D <= level, tested.sharp_D <= level], axis=1).astype(float)


def _mirage_piece(_: int, piece: int, repetitions: int, settings: Settings) -> np.ndarray:
    """Columns: exact match departs; the verdict is `metric artefact`."""
    rng = np.random.default_rng([settings.seed, 200, piece])
    plan = design(12, 4.0, 1)
    plan = type(plan)(plan.x_K, plan.scale_R, plan.n_R, 0.0)
    noise_BK = MIRAGE_NOISE * rng.standard_normal((repetitions, plan.scales))
    loss_BK = mirage_loss(plan.x_K) * np.exp(noise_BK)
    tested, correct_BR = simulate(np.exp(-MIRAGE_TOKENS * loss_BK), plan, 1.0, settings, rng)
    outcome = np.zeros((repetitions, 2))
    for b in range(repetitions):
        delayed, sharp = float(tested.delayed_onset_D[b]), float(tested.sharp_D[b])
        task = TaskRows("mirage", "params", plan.x_K, plan.n_R, correct_BR[b], 0.0)
        seen = presence(correct_BR[b], plan.n_K, 0.0)
        broken = check("nll", plan.x_K, loss_BK[b], settings.seed)
        judged = Judged(task, plan, None, seen, delayed, sharp, () if broken is None else (broken,))
        verdict = verdict_of(judged, delayed, sharp, settings)
        outcome[b] = min(delayed, sharp) <= settings.alpha, verdict == "metric artefact"
    return outcome


def _family_piece(_: int, piece: int, repetitions: int, settings: Settings) -> np.ndarray:
    """Columns: false share among calls of sharp; of delayed onset; of either; share of the true ones called."""
    rng = np.random.default_rng([settings.seed, 300, piece])
    plan = design(12, 4.0, 1)
    curves = [FAMILY_SHARP[k % len(FAMILY_SHARP)] for k in range(FAMILY_TRUE)]
    curves += [FAMILY_SMOOTH[k % len(FAMILY_SMOOTH)] for k in range(FAMILY_TASKS - FAMILY_TRUE)]
    mean_BK = np.tile(np.array([curve(plan.x_K) for curve in curves]), (repetitions, 1))
    tested, _ = simulate(mean_BK, plan, 1.0, settings, rng)
    outcome = np.zeros((repetitions, 4))
    for b in range(repetitions):
        here = slice(b * FAMILY_TASKS, (b + 1) * FAMILY_TASKS)
        delayed, sharp = (
            false_discovery_control(p[here]) <= settings.alpha for p in (tested.delayed_onset_D, tested.sharp_D)
        )
        for column, called in enumerate((sharp, delayed, sharp | delayed)):
            outcome[b, column] = called[FAMILY_TRUE:].sum() / max(called.sum(), 1)
        outcome[b, 3] = sharp[:FAMILY_TRUE].mean()
    return outcome


PIECES = {"truth": _truth_piece, "mirage": _mirage_piece, "family": _family_piece}


def _run(job: tuple[str, int, int, int, Settings]) -> np.ndarray:
    kind, index, piece, repetitions, settings = job
    return PIECES[kind](index, piece, repetitions, settings)


def measure(settings: Settings, repetitions: int, workers: int) -> list[Row]:
    """All rows of the simulation table."""
    studies = [("truth", index) for index in range(len(TRUTHS))] + [("mirage", 0), ("family", 0)]
    jobs = []
    for kind, index in studies:
        size = PIECE // 5 if kind == "family" else PIECE
        for piece, start in enumerate(range(0, repetitions, size)):
            jobs.append((kind, index, piece, min(size, repetitions - start), settings))
    if workers == 1:
        results = [_run(job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            results = list(pool.map(_run, jobs))
    rows: list[Row] = []
    for study in studies:
        outcome = np.concatenate([part for job, part in zip(jobs, results, strict=True) if job[:2] == study])
        rows += _rows(study, outcome.mean(axis=0))
    return rows


def _rows(study: tuple[str, int], share: np.ndarray) -> list[Row]:
    kind, index = study
    if kind == "truth":
        truth = TRUTHS[index]
        seeds = f"{truth.seeds} seed{'s' * (truth.seeds > 1)}"
        name = f"{truth.name} ({truth.scales} scales, {truth.decades:g} decades, {seeds})"
        return [
            Row(name, test, float(share[k]), " ".join(map(str, truth.targets.get(test, ()))))
            for k, test in enumerate(("delayed_onset", "sharp"))
        ]
    if kind == "mirage":
        name = f"mirage: power-law loss, exact match of {MIRAGE_TOKENS} tokens"
        return [
            Row(name, "exact match departs", float(share[0]), ""),
            Row(name, "verdict metric artefact", float(share[1]), ">= 0.95"),
        ]
    name = f"family of {FAMILY_TASKS} tasks, {FAMILY_TRUE} sharp"
    return [
        Row(name, "false discovery rate, sharp", float(share[0]), "<= 0.05"),
        Row(name, "false discovery rate, delayed_onset", float(share[1]), "<= 0.05"),
        Row(name, "false discovery rate, either", float(share[2]), "<= 0.05"),
        Row(name, "share of the sharp called sharp", float(share[3]), ""),
    ]


def table_text(rows: list[Row], repetitions: int, seconds: float) -> str:
    """The table in Markdown, and how many targets were missed."""
    lines = [
        f"| truth (n = {ITEMS}, {repetitions} repetitions) | quantity | share | target | met |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.truth} | {row.quantity} | {row.share:.3f} | {row.target} | {'yes' if row.met else 'NO'} |"
        for row in rows
    ]
    held = [row for row in rows if row.target]
    lines.append(f"{sum(not row.met for row in held)} of {len(held)} targets missed; {seconds:.0f} s")
    return "\n".join(lines)


def calibrate(settings: Settings, repetitions: int, workers: int, out: Path | None) -> tuple[str, bool]:
    """Measure the table and write it as JSON where asked; its text, and whether every target is met."""
    started = time.perf_counter()
    rows = measure(settings, repetitions, workers)
    if out is not None:
        content = {
            "repetitions": repetitions,
            "W0": settings.w0,
            "rows": [{**vars(r), "met": r.met} for r in rows],
        }
        write_result(out, content)
    return table_text(rows, repetitions, time.perf_counter() - started), all(row.met for row in rows)
