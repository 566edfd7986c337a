"""Ten thousand runs: plan, submit --dry-run, status and report, each within 10 seconds and 1 GB: `make test-scale`.

The trainer is simulated (it writes what a short run writes). The limits are those of a machine that does nothing else:
processor time is measured, which a busy machine does not stretch.
"""

import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from core.codec import to_json
from experiments.scaling import ScalingRule
from tests.support.small import ROOT
from training.cost import ledger_of, training_flops
from training.spec import RunSpec

RUNS = 10_000
SECONDS = 10.0
BYTES = 1 << 30


def ten_thousand() -> list[RunSpec]:
    """Five sizes, each with 2,000 seeds."""
    rule = ScalingRule()
    shapes = [rule.run(0, 65_536, model=rule.shape(16 * width, 2)) for width in (1, 2, 3, 4, 6)]
    return [dataclasses.replace(spec, seed=seed) for spec in shapes for seed in range(RUNS // 5)]


def simulate(directory: Path, spec: RunSpec, index: int) -> None:
    """What a finished run leaves behind, without training it; one run in ten stands half way."""
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text(json.dumps(to_json(spec)))
    record = {"fingerprint": "f" * 64, "name": "pysource"}
    environment = {"commit": "c" * 40, "corpus": record, "attempts": [{"attempt": 1}]}
    (directory / "env.json").write_text(json.dumps(environment))
    ledger = ledger_of(spec)
    (directory / "ledger.json").write_text(json.dumps(ledger))
    done = index % 10 != 0
    loss = 2.0 + 300 / ledger["params"]["non_embedding_plus_head"] ** 0.7 + (index % 97) * 1e-4
    marks = [spec.tokens * step // 4 for step in range(1, (4 if done else 2) + 1)]
    rows = [
        {
            "step": tokens // spec.batch_tokens,
            "tokens": tokens,
            "flops": 1.0 * tokens,
            "seconds": 1.0,
            "attempt": 1,
        }
        | {"loss": loss + 1, "lr": 0.01, "grad_norm": 1.0, "tokens_per_second": 1e4, "mfu": None}
        for tokens in marks
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done:
        names = (("val/loss", loss), ("val/bits_per_byte", loss * 1.44))
        (directory / "evals.jsonl").write_text(
            "".join(
                json.dumps(
                    {"tokens": spec.tokens, "name": name, "value": value, "n": 9, "stderr": 0.01, "attempt": 1}
                )
                + "\n"
                for name, value in names
            )
        )
        result = {
            "run": spec.run_id,
            "role": "run",
            "tokens": spec.tokens,
            "steps": spec.steps,
            "evals": dict(names),
        }
        result |= {"params": ledger["params"], "flops": {"exact": training_flops(spec)}, "wall_seconds": 1.0}
        (directory / "result.json").write_text(json.dumps(result))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scale") / "many"
    for index, spec in enumerate(ten_thousand()):
        simulate(folder / spec.run_id, spec, index)
    return folder


def measure(code: str) -> tuple[float, int, str]:
    """Processor seconds and peak memory in bytes of a Python program, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    tail = "\nimport resource\nprint('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    text, _, peak = done.stdout.rpartition("PEAK ")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, int(peak), text


SWEEP = (
    "import tests.launchers.scale as t; from experiments.spec import Sweep; sweep = Sweep(t.ten_thousand())\n"
)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("plan", SWEEP + "import launch; from pathlib import Path; from experiments.command import AskedSweep\n"
         "from planning.flags import PlanFlags; from planning.plan import show\n"
         "show(AskedSweep('many', sweep, (), Path({sweep!r}), Path('cache')), PlanFlags())", "1000 to train"),
        ("submit", SWEEP + "from launchers.slurm import submit as slurm\n"
         "from pathlib import Path; from launchers.slurm.options import SlurmOptions\n"
         "done = slurm.dry_run(Path({sweep!r}), list(sweep), SlurmOptions(throttle=50), Path('cache'))\n"
         "print(slurm.describe(done, Path({sweep!r}), dry=True))", "1000 to send, 0 already queued, 9000 complete"),
        ("report", "import runpy, sys; sys.argv = ['report', {sweep!r}]\n"
         "try: runpy.run_module('analysis.report', run_name='__main__')\n"
         "except SystemExit as stop: assert not stop.code", "report.html"),
        ("status", "import launch; assert launch.main(['status', {sweep!r}]) == 0", "10000 runs: 9000 complete"),
    ],
)  # fmt: skip
def test_ten_thousand_runs(sweep, name, code, words):
    seconds, peak, text = measure(code.format(sweep=str(sweep)))
    print(f"{name}: {seconds:.1f} s of processor time, {peak / 1e6:.0f} MB")
    assert words in text
    assert seconds < SECONDS
    assert peak < BYTES
