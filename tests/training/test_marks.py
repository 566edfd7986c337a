"""A run is evaluated before its first step too, a branch only beyond what it shares; and what NaN is blamed on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from core.codec import to_json
from core.files import write_json
from data.config import DataConfig
from model.config import ModelConfig
from tests.support.small import cache_folder, write_corpus
from training.execute import execute
from training.execution import Execution
from training.log import Clock, Diverged, MetricsLog
from training.spec import OptimConfig, RunSpec

STEP = 256
MODEL = ModelConfig(width=16, depth=1, heads=1, kv_heads=1, scan=False)


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 2])
def test_mark_0_is_the_loss_before_the_first_step(tmp_path, runs):
    corpus = write_corpus(tmp_path / "corpus", documents=60)
    data = DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=1024)
    specs = [
        RunSpec(
            model=MODEL, data=data, seed=seed, tokens=4 * STEP, batch_tokens=STEP, evaluation_marks=(0, STEP)
        )
        for seed in range(runs)
    ]
    for spec in specs:
        write_json(tmp_path / spec.run_id / "spec.json", to_json(spec))
    execute([tmp_path / spec.run_id for spec in specs], Execution(cache_root=cache_folder(tmp_path)))
    for spec in specs:
        lines = (tmp_path / spec.run_id / "evals.jsonl").read_text(encoding="utf-8").splitlines()
        losses = {row["tokens"]: row["value"] for row in map(json.loads, lines) if row["name"] == "val/loss"}
        assert list(losses) == [0, STEP, 4 * STEP]
        assert losses[0] == pytest.approx(math.log(256), rel=0.2) and losses[0] > losses[4 * STEP]


def test_a_branch_leaves_the_marks_that_it_shares_to_its_trunk():
    marks = {"evaluation_marks": (0, STEP, 2 * STEP, 3 * STEP), "tokens": 4 * STEP, "batch_tokens": STEP}
    optim = OptimConfig(cooldown_tokens=2 * STEP)
    assert RunSpec(**marks).all_marks == (0, STEP, 2 * STEP, 3 * STEP, 4 * STEP)
    branch = RunSpec(**marks, optim=optim, parent="w16", branch_at_tokens=2 * STEP)
    assert branch.all_marks == (3 * STEP, 4 * STEP)


class NoCheckpoints:
    latest_tokens = None

    def wait(self) -> None:
        pass


def said(tmp_path: Path, losses: list[float], start: int) -> str:
    """What is blamed where the last of these losses is NaN, in an attempt that begins at a step."""
    spec = RunSpec(model=MODEL, tokens=40 * STEP, batch_tokens=STEP, data=DataConfig(sequence_length=32))
    ledger = {"params": {}, "flops_per_token": {"exact": 1.0, "palm": 1.0}}
    log = MetricsLog(spec, tmp_path, ledger, NoCheckpoints(), Clock(), attempt=1, peak_flops=None, report=print)
    try:
        for number, loss in enumerate(losses, start + 1):
            log.write(number * STEP, 1e-3, loss, float(np.sqrt(loss)), 1.0, 1)
    except Diverged as diverged:
        return str(diverged)
    finally:
        log.close()
    return "it did not diverge"


def test_nan_is_blamed_on_what_can_have_caused_it(tmp_path):
    assert "not the learning rate" in said(tmp_path, [math.nan], 0)
    assert "lower optim.learning_rate=0.003" in said(tmp_path, [5.0, math.nan], 0)
    resumed = said(tmp_path, [math.nan], 9)
    assert "resumed at 2304 tokens may be damaged" in resumed and "lower optim.learning_rate" in resumed
