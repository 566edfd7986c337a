"""What a run does about rows that its logs lack: which marks are evaluated again, and from where it trains on."""

import json
from pathlib import Path

import pytest

from core.rundir import RunDirectory
from training.lost import Lost, RowsAreLost, losses_of, lost_rows, tail_steps
from training.spec import RunSpec

SPEC = RunSpec(tokens=40 * 4096, evaluation_marks=(10 * 4096, 20 * 4096), checkpoint_marks=())
WANTED = {"val/loss"}


def write(folder: Path, metrics: range, evaluations: list[int], value: object = 2.5) -> Path:
    lines = [{"tokens": tokens, "loss": 3.0, "attempt": 1} for tokens in metrics]
    RunDirectory(folder).metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [{"tokens": tokens, "name": "val/loss", "value": value} for tokens in evaluations]
    RunDirectory(folder).evaluations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def steps(*counts: int) -> list[int]:
    return [4096 * count for count in counts]


ALL = range(4096, 41 * 4096, 4096)


@pytest.mark.parametrize(
    ("rows", "evaluations", "position", "committed", "found"),
    [
        (ALL, steps(10, 20, 40), 40, (39, 40), Lost()),
        (ALL, steps(10, 20), 40, (39, 40), Lost(tuple(steps(40)))),
        (ALL, steps(10), 40, (20, 40), Lost(tuple(steps(20, 40)))),
        (ALL, steps(10), 40, (15, 40), Lost((), 20 * 4096)),
        (ALL, steps(20), 40, (5, 10, 40), Lost(tuple(steps(10, 40)))),
        (ALL, [], 40, (5, 20, 40), Lost((), 10 * 4096)),
        (ALL, [], 5, (5,), Lost()),
        (range(0), steps(10, 20, 40), 40, (30, 40), Lost((), 39 * 4096)),
        (range(0), steps(10, 20), 30, (30,), Lost()),
        (ALL[:-1], steps(10, 20, 40), 40, (39, 40), Lost((), 40 * 4096)),
        (range(0), [], 0, (), Lost()),
    ],
)
def test_each_row_comes_from_the_nearest_checkpoint(tmp_path, rows, evaluations, position, committed, found):
    write(tmp_path, rows, evaluations)
    assert lost_rows(SPEC, tmp_path, 4096 * position, steps(*committed), WANTED) == found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "2.5", None, [], True])
def test_a_loss_that_is_no_finite_number_is_missing(tmp_path, value):
    write(tmp_path, ALL, steps(10, 20, 40), value)
    with pytest.raises(RowsAreLost, match=r"evals\.jsonl: the evaluation at 40960 tokens is missing"):
        lost_rows(SPEC, tmp_path, SPEC.tokens, [SPEC.tokens], WANTED)


def test_without_a_checkpoint_before_it_the_run_fails_and_says_what_to_do(tmp_path):
    write(tmp_path, range(0), steps(10, 20, 40))
    with pytest.raises(
        RowsAreLost, match=r"training loss at 159744 tokens .* delete .* to train the run again"
    ):
        lost_rows(SPEC, tmp_path, SPEC.tokens, [SPEC.tokens], WANTED)


def test_the_tail_is_the_last_twentieth_and_never_empty():
    assert list(tail_steps(SPEC)) == steps(39, 40)
    assert list(tail_steps(RunSpec(tokens=4096))) == [4096]
    for count in range(1, 90):
        spec = RunSpec(tokens=4096 * count)
        assert list(tail_steps(spec)) == [
            t for t in range(4096, spec.tokens + 1, 4096) if t > 0.95 * spec.tokens
        ]


def test_damaged_rows_of_a_log_are_left_out(tmp_path):
    run = RunDirectory(tmp_path)
    run.metrics.write_text(
        '{"tokens": 4096, "loss": 2.0}\n{"loss": 1}\n{"tokens": "x", "loss": 1}\n[]\n{"tokens": 8192}\n'
    )
    assert losses_of(run) == {4096: 2.0}
