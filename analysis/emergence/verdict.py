"""From a task table to a verdict per task, with everything that it rests on and one plain sentence."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from analysis.emergence.collapse import loss_collapse
from analysis.emergence.effect import big_bench, largest_share, onset
from analysis.emergence.hypotheses import FEWEST_CLUSTERS, STAGES, p_values
from analysis.emergence.inverse import fall_before_rise, fall_p
from analysis.emergence.metric import MetricCheck, check
from analysis.emergence.noise import Design
from analysis.emergence.power import power
from analysis.emergence.presence import Presence, presence
from analysis.emergence.seeds import seed_report
from analysis.emergence.sentences import sentence
from analysis.emergence.settings import MINIMUM_SCALES, Settings
from analysis.emergence.statistics import Evaluation, evaluate
from analysis.emergence.table import TaskRows

SAME_SCALE = 1e-9
MOST_REPLICATES = 19999
RISES = ("smooth", "delayed onset", "sharp", "metric artefact")


@dataclass(frozen=True)
class Judged:
    """A task with its tests done, before the tasks are seen together."""

    task: TaskRows
    design: Design | None
    observed: Evaluation | None
    presence: Presence | None
    delayed_onset: float | None
    sharp: float | None
    checks: tuple[MetricCheck, ...]
    inverse: float | None = None


def design_of(task: TaskRows) -> Design | None:
    """The design of a task's accuracy; None for a table of continuous metrics."""
    if task.n_R is None:
        return None
    x_K, scale_R = distinct(task.coordinate_R)
    return Design(x_K, scale_R, task.n_R, task.chance)


def distinct(x_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct scales, rising, and the index of each row's."""
    tolerance = SAME_SCALE * max(1.0, float(np.abs(x_R).max()))
    x_K, scale_R = np.unique(np.round(x_R / tolerance) * tolerance, return_inverse=True)
    return x_K, scale_R


def _stream(settings: Settings, task: TaskRows, use: int) -> np.random.Generator:
    """Random numbers that depend on the task's own name, so that other tasks of the table do not matter."""
    return np.random.default_rng([settings.seed, use, *f"{task.axis}/{task.name}".encode()])


def judge(task: TaskRows, settings: Settings, stages: tuple[int, ...]) -> Judged:
    """Run presence, the two tests and the metric check of one task."""
    design = design_of(task)
    x_R = distinct(task.coordinate_R)[0][distinct(task.coordinate_R)[1]]
    checks = [
        check(name, x_R, values, settings.seed) for name, values in sorted(task.metrics.items(), key=_nll_first)
    ]
    done = tuple(result for result in checks if result is not None)
    if design is None or task.correct_R is None:
        delayed = done[0].p if done else None
        return Judged(task, None, None, None, delayed, None, done)
    seen = presence(task.correct_R @ design.gather_RK, design.n_K, task.chance)
    if design.scales < MINIMUM_SCALES:
        return Judged(task, design, None, seen, None, None, done)
    observed = evaluate(design, task.correct_R[None], settings, task.axis)
    p = p_values(
        design,
        task.correct_R[None],
        observed,
        settings,
        task.axis,
        _stream(settings, task, 1),
        stages=stages,
        family_R=task.family_R,
    )
    # The claim is that an ability is there and that it came suddenly: both parts must hold (an
    # intersection-union test), so the larger p-value is the claim's.
    delayed, sharp = (max(float(part[0]), seen.p) for part in (p.delayed_onset_D, p.sharp_D))
    return Judged(
        task, design, observed, seen, delayed, sharp, done, fall_p(design, task.correct_R, task.family_R)
    )


def _nll_first(item: tuple[str, Any]) -> tuple[bool, str]:
    return item[0] != "nll", item[0]


def decide(tasks: tuple[TaskRows, ...], settings: Settings) -> list[tuple[Judged, float | None, float | None]]:
    """Every task with its q-values of delayed onset and of sharpness."""
    deep = int(min(MOST_REPLICATES, math.ceil(len(tasks) / settings.alpha)))
    stages = tuple(sorted({STAGES[0], max(settings.bootstrap, STAGES[0]), max(deep, settings.bootstrap)}))
    judged = [judge(task, settings, stages) for task in tasks]
    q_delayed, q_sharp = (_by_axis(judged, test) for test in ("delayed_onset", "sharp"))
    return list(zip(judged, q_delayed, q_sharp, strict=True))


def judge_all(tasks: tuple[TaskRows, ...], settings: Settings) -> list[dict[str, Any]]:
    """Verdicts of all tasks, in the order given; the entries of `tasks` in emergence.json."""
    decided = decide(tasks, settings)
    q_inverse = _by_axis([judged for judged, _, _ in decided], "inverse")
    return [
        _entry(judged, q_delayed, q_sharp, fall, settings)
        for (judged, q_delayed, q_sharp), fall in zip(decided, q_inverse, strict=True)
    ]


def _by_axis(tasks: list[Judged], test: str) -> list[float | None]:
    q: list[float | None] = [None] * len(tasks)
    for axis in {judged.task.axis for judged in tasks}:
        members = [
            i
            for i, judged in enumerate(tasks)
            if judged.task.axis == axis and getattr(judged, test) is not None
        ]
        values = false_discovery_control(np.array([getattr(tasks[i], test) for i in members]))
        for i, value in zip(members, values.tolist(), strict=True):
            q[i] = value
    return q


def unbroken(checks: tuple[MetricCheck, ...], settings: Settings) -> bool:
    """Whether there are continuous metrics and none of them breaks."""
    return bool(checks) and all(checked.p > settings.metric_alpha / len(checks) for checked in checks)


def verdict_of(
    judged: Judged,
    q_delayed: float | None,
    q_sharp: float | None,
    settings: Settings,
    q_inverse: float | None = None,
) -> str:
    """The verdict, from presence, q-values and the metric check."""
    if q_delayed is None:
        return "not enough scales"
    departs = q_delayed <= settings.alpha
    sharp = q_sharp is not None and q_sharp <= settings.alpha
    if judged.presence is None:
        return "delayed onset" if departs else "smooth"
    if not judged.presence.present:
        return "inverse" if q_inverse is not None and q_inverse <= settings.alpha else "none"
    if not (departs or sharp):
        return "smooth"
    if unbroken(judged.checks, settings):
        return "metric artefact"
    return "sharp" if sharp else "delayed onset"


def _entry(
    judged: Judged,
    q_delayed: float | None,
    q_sharp: float | None,
    q_inverse: float | None,
    settings: Settings,
) -> dict[str, Any]:
    task, design, observed = judged.task, judged.design, judged.observed
    verdict = verdict_of(judged, q_delayed, q_sharp, settings, q_inverse)
    entry: dict[str, Any] = {
        "task": task.name,
        "axis": task.axis,
        "verdict": verdict,
        "p": {"delayed_onset": judged.delayed_onset, "sharp": judged.sharp, "inverse": judged.inverse},
        "q": {"delayed_onset": q_delayed, "sharp": q_sharp, "inverse": q_inverse},
        "presence": None,
        "effect": None,
        "onset": None,
        "metric_check": _metric_entry(judged, settings),
        "power": None,
        "seeds": None,
        "loss_collapse": None,
        "notes": _notes(judged),
    }
    if judged.presence is not None:
        entry["presence"] = {**vars(judged.presence), "present": judged.presence.present}
    if design is not None and observed is not None and task.correct_R is not None and task.n_R is not None:
        unit = settings.unit(task.axis)
        y_K = task.correct_R @ design.gather_RK / design.n_K
        entry["effect"] = {
            "gain": float(y_K[-1] - y_K[0]),
            "share_within_one_decade": largest_share(design.x_K, y_K, design.n_K, unit),
            "decade": unit,
            "sharp_within": settings.sharp_width(task.axis, design.span),
            "span": design.span,
            "overdispersion": float(observed.over.scale_B[0]),
            **big_bench(y_K),
        }
        if verdict in ("sharp", "delayed onset", "metric artefact"):
            sharp = q_sharp is not None and q_sharp <= settings.alpha
            kind = "sharp" if sharp else "delayed onset"
            places = onset(design, observed, kind, settings, task.axis, _stream(settings, task, 2))
            scales = [scale_of(place, task.axis) for place in places]
            entry["onset"] = {
                "kind": "middle of the rise" if sharp else "knot",
                "scale": scales[0],
                "interval": sorted(scales[1:]),
            }
            if sharp:
                entry["effect"]["width"] = float(observed.sharp.parameters_BP[0, 3])
        turns = fall_before_rise(design, task.correct_R, task.family_R) if verdict in RISES else None
        if turns is not None:
            top, low = (
                f"{float(y_K[k]):.3g} at {task.axis} = {scale_of(design.x_K[k], task.axis):.3g}" for k in turns
            )
            entry["notes"].append(f"falls before it rises: from {top} to {low}")
        entry["power"] = power(design, float(observed.over.scale_B[0]), settings, task.axis)
        entry["seeds"] = seed_report(
            design.x_K, design.scale_R, task.correct_R, task.n_R, task.chance, _stream(settings, task, 3)
        )
        for row in entry["seeds"]["success"]:
            row["scale"] = scale_of(row.pop("x"), task.axis)
        if entry["seeds"]["bimodality"]:
            entry["seeds"]["bimodality"]["scale"] = scale_of(entry["seeds"]["bimodality"].pop("x"), task.axis)
        entry["loss_collapse"] = loss_collapse(
            task.loss_R, task.coordinate_R, task.correct_R, task.n_R, _stream(settings, task, 4)
        )
    entry["sentence"] = sentence(entry, judged.checks, settings)
    fell = [note for note in entry["notes"] if note.startswith("falls before it rises")]
    entry["sentence"] += "".join(f" It {note}." for note in fell)
    return entry


def scale_of(coordinate: float, axis: str) -> float:
    """Back from the coordinate to the table's scale: a power of ten, or minus the loss."""
    return float(coordinate) if axis == "loss" else float(10.0**coordinate)


def _metric_entry(judged: Judged, settings: Settings) -> dict[str, Any]:
    level = settings.metric_alpha / max(len(judged.checks), 1)
    metrics = [
        {
            "metric": checked.metric,
            "p": checked.p,
            "breaks": checked.p <= level,
            "irreducible": checked.irreducible,
        }
        for checked in judged.checks
    ]
    if not metrics:
        return {"status": "no continuous metric in the table", "metrics": []}
    broken = [checked["metric"] for checked in metrics if checked["breaks"]]
    status = "breaks" if len(broken) == len(metrics) else "no break" if not broken else "metrics disagree"
    return {"status": status, "metrics": metrics}


def _notes(judged: Judged) -> list[str]:
    notes = []
    scales, scale_R = distinct(judged.task.coordinate_R)
    if len(scales) < MINIMUM_SCALES:
        notes.append(f"{len(scales)} scale{'s' * (len(scales) > 1)}; the tests need {MINIMUM_SCALES}")
    if len(scale_R) == len(scales):
        notes.append(
            "one seed per scale: no spread between seeds, no bimodality; over-dispersion is judged from fits"
        )
    families = set() if judged.task.family_R is None else set(judged.task.family_R)
    if 1 < len(families) < FEWEST_CLUSTERS:
        notes.append(f"{len(families)} families: too few to resample families; p is from items and seeds alone")
    return notes
