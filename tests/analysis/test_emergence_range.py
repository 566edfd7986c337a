"""Sharp is judged within half of the range of scales: what is gentle over a short range is not sharp."""

import numpy as np
import pytest

from analysis.chance import chance_of
from analysis.emergence.settings import Settings
from analysis.emergence.table import tasks_from_rows
from analysis.emergence.verdict import judge_all

pytestmark = pytest.mark.slow
# docs/results/emergence.md: nine sizes over 1.2 decades, means of three seeds, the seeds where they differ
SIZES = (7488, 13152, 20864, 30240, 33504, 50200, 67920, 90888, 117184)
FACTS = (0.053, 0.063, 0.106, 0.113, 0.129, 0.165, 0.225, 0.282, 0.331)
RECALL = (0.037, 0.065, 0.065, 0.125, (0.05, 1.0, 0.03), 0.999, 0.943, 1.0, 1.0)
INDUCTION = (0.011, 0.006, 0.012, 0.045, (0.27, 0.90, 0.27), 0.929, 0.841, 0.944, 0.965)


def rows_of(task, curve):
    rng = np.random.default_rng(0)
    return [
        {"task": task, "scale": size, "axis": "params", "n": 500, "chance": 0.02, "seed": seed,
         "correct": round(500 * (y[seed] if isinstance(y, tuple) else min(1.0, max(0.0, y + rng.normal(0, 0.01)))))}
        for size, y in zip(SIZES, curve, strict=True)
        for seed in range(3)
    ]  # fmt: skip


def test_a_gentle_curve_over_one_decade_is_not_sharp_and_two_jumps_are():
    rows = [*rows_of("facts", FACTS), *rows_of("recall", RECALL), *rows_of("induction", INDUCTION)]
    facts, recall, induction = judge_all(tuple(tasks_from_rows(rows)), Settings(bootstrap=999))
    assert facts["verdict"] in ("smooth", "delayed onset")
    assert facts["effect"]["sharp_within"] == pytest.approx(0.5 * np.log10(SIZES[-1] / SIZES[0]))
    assert "the scales span 1.19 decades, so sharp means within 0.597, half of that, not 2" in facts["sentence"]
    assert "a rise over this range is only steep" in facts["sentence"]
    assert recall["verdict"] == induction["verdict"] == "sharp"
    assert "faster than any S-curve 0.597 decades wide" in recall["sentence"]


def test_the_definition_is_the_users_where_the_range_allows_it():
    assert Settings().sharp_width("params", 4.0) == 2.0
    assert Settings().sharp_width("params", 10.0) == 2.0
    assert Settings().sharp_width("params", 1.2) == pytest.approx(0.6)
    assert Settings(w0=0.3).sharp_width("flops", 1.2) == 0.3
    assert Settings().sharp_width("loss", 3.0) == 1.0  # half a nat stands for a decade


def test_a_u_shaped_curve_says_where_it_turns():
    rng = np.random.default_rng(1)
    mean = (0.5, 0.45, 0.4, 0.33, 0.3, 0.32, 0.45, 0.6, 0.75, 0.85)
    rows = [
        {"task": "u", "scale": 10.0 ** (6 + k / 2), "axis": "params", "n": 1000, "chance": 0.25,
         "correct": int(rng.binomial(1000, y))}
        for k, y in enumerate(mean)
    ]  # fmt: skip
    (entry,) = judge_all(tuple(tasks_from_rows(rows)), Settings(bootstrap=199))
    assert entry["verdict"] in ("smooth", "delayed onset", "sharp")
    assert "falls before it rises: from " in entry["sentence"]
    assert "at params = 1e+06 to " in entry["sentence"]


def test_each_metric_has_its_own_chance():
    values = {"chance": 0.5, "choice_chance": 0.5}
    assert chance_of("file:mine.jsonl", "exact_match", values) == 0.0
    assert chance_of("file:mine.jsonl", "choice_accuracy", values) == 0.5
    assert chance_of("parity:bits=4", "exact_match", values) == 0.5
    assert np.isnan(chance_of("parity:bits=4", "choice_accuracy", {"chance": 0.5}))
