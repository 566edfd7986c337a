"""Ctrl-C in the first seconds and a reader that leaves, for every command: no traceback, and the right status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.signals import deaf, wait_until_it_hears
from tests.support.small import ROOT

STORED = str(ROOT / "tests" / "stored" / "runs" / "stored")
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}

# What each command says of an end that a signal asked for: 75 where the same command goes on.
COMMANDS = {
    ("launch.py", "plan", "quickstart"): 130,
    ("launch.py", "run", "quickstart", "--runs", "RUNS", "--cache", "RUNS"): 75,
    ("launch.py", "run", "quickstart", "--dry-run"): 130,
    ("launch.py", "submit", "quickstart", "--dry-run", "--runs", "RUNS"): 130,
    ("launch.py", "status", STORED): 130,
    ("launch.py", "doctor", STORED): 130,
    ("launch.py", "backfill", STORED, "--tasks", "copying", "--cache", "RUNS"): 75,
    ("launch.py", "bench", "quickstart", "--cache", "RUNS"): 130,
    ("-m", "analysis.fit", STORED): 130,
    ("-m", "analysis.isoflop", STORED): 130,
    ("-m", "analysis.emergence", STORED): 130,
    ("-m", "analysis.forecast", STORED): 130,
    ("-m", "analysis.report", STORED, "--out", "RUNS"): 130,
    ("-m", "analysis.score", STORED): 130,
    ("-m", "analysis.register", STORED): 130,
    ("-m", "analysis.downstream", STORED): 130,
    ("-m", "analysis.learning_rate", STORED): 130,
    ("-m", "analysis.task_table", STORED): 130,
    ("-m", "data.cache", "--root", "RUNS"): 75,
    ("-m", "training.run", "RUNS/none"): 75,
    ("-m", "training.pack", "RUNS/none", "RUNS/other"): 75,
    ("-m", "training.worker"): 75,
    ("-m", "bench.fits"): 130,
}


def begin(words: tuple[str, ...], folder: Path, **streams) -> subprocess.Popen:
    words = tuple(word.replace("RUNS", str(folder)) for word in words)
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=ENVIRONMENT, text=True, preexec_fn=deaf, **streams
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[1:3]).replace(STORED, "STORED"))
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.7])
def test_ctrl_c_is_one_line(tmp_path, words, seconds):
    process = begin(words, tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until_it_hears(process)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors and "KeyboardInterrupt" not in errors, errors
    if process.returncode in (0, 1, 2):
        return  # it had ended before
    assert process.returncode == COMMANDS[words], errors
    assert [
        line for line in errors.splitlines() if line.startswith("stopped by SIGINT")
    ] == errors.splitlines()[-1:]


# Status of each without a reader; some with its errors unread as well, where another stream is the first to break.
READ = {
    ("launch.py", "--help"): 0,
    ("launch.py", "run", "--help"): 0,
    ("launch.py", "plan", "quickstart"): 0,
    ("launch.py", "status", STORED): 0,
    ("launch.py", "doctor", STORED): 0,
    ("-m", "analysis.fit", "--help"): 0,
    ("-m", "analysis.fit", STORED, "--law", "power_flops"): 0,
    ("-m", "data.cache", "--help"): 0,
    ("-m", "training.run", "--help"): 0,
}
BOTH = [("launch.py", "run", "--help"), ("launch.py", "doctor", STORED), ("-m", "data.cache", "--help")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "errors_too"),
    [*((words, False) for words in READ), *((words, True) for words in BOTH)],
    ids=lambda value: value if isinstance(value, bool) else " ".join(value[1:3]).replace(STORED, "STORED"),
)
def test_a_reader_that_leaves_changes_nothing(tmp_path, words, errors_too):
    """As `COMMAND | head`, and `COMMAND 2>&1 | head`, whose reader is gone before the first word."""
    with (tmp_path / "errors").open("w+") as kept:
        reader, writer = os.pipe()
        process = begin(words, tmp_path, stdout=writer, stderr=writer if errors_too else kept)
        os.close(writer)
        os.close(reader)
        status = process.wait(timeout=120)
        kept.seek(0)
        said = kept.read()
    assert status == READ[words]
    assert "Traceback" not in said and "BrokenPipe" not in said and "Exception ignored" not in said
