"""Logs that were emptied, cut or lost in a power cut, under checkpoints that claim their rows; done to a small run."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from core.files import read_json_lines
from tests.support.killing import on_one_core
from tests.support.small import cache_folder, launch_command, run_launch, write_corpus

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """One run with marks, trained without interruption and with several checkpoints: (cache, run directory)."""
    folder = tmp_path_factory.mktemp("rows")
    corpus = write_corpus(folder / "corpus")
    more = ("--sizes", "1", "--tokens", "65536", "--checkpoint-seconds", "0.01")
    done = run_launch(launch_command(corpus, folder / "runs", cache_folder(folder), *more))
    assert done.returncode == 0, done.stderr
    trunks = [
        p for p in (folder / "runs").glob("*/*/result.json") if json.loads(p.read_text())["role"] == "trunk"
    ]
    return folder / "cache", trunks[0].parent


@pytest.fixture
def copy(undisturbed, tmp_path) -> Path:
    """The run as it stands, without its result.json."""
    directory = Path(shutil.copytree(undisturbed[1], tmp_path / undisturbed[1].name))
    (directory / "result.json").unlink()
    return directory


def train(directory: Path, cache: Path):
    words = [sys.executable, "-m", "training.run", str(directory), "--cache", str(cache)]
    return run_launch([*words, "--checkpoint-seconds", "0.01"], preexec_fn=on_one_core)


def numbers(directory: Path, name: str) -> dict:
    """Value or loss by tokens and name, the last attempt's."""
    rows = read_json_lines(directory / name)
    return {(row["tokens"], row.get("name")): row.get("value", row.get("loss")) for row in rows}


def tokens_of(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir() if path.name.isdigit())


@pytest.mark.parametrize("damage", ["emptied", "deleted", "its last rows", "no numbers"])
def test_a_final_evaluation_that_is_lost_is_computed_again_from_the_checkpoint(undisturbed, copy, damage):
    cache, reference = undisturbed
    path = copy / "evals.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    end = max(row["tokens"] for row in rows)
    before = [row for row in rows if row["tokens"] < end]
    if damage == "its last rows":
        path.write_text("".join(json.dumps(row) + "\n" for row in before))
    elif damage == "no numbers":
        broken = [{**row, "value": float("nan")} for row in rows if row["tokens"] == end]
        path.write_text("".join(json.dumps(row) + "\n" for row in before + broken))
    else:  # marks before the end are lost too: each has its checkpoint, or one before it is there
        path.write_text("") if damage == "emptied" else path.unlink()
    done = train(copy, cache)
    if damage in ("emptied", "deleted") and tokens_of(reference)[0] > min(row["tokens"] for row in rows):
        assert done.returncode == 1 and "delete" in done.stderr and not (copy / "result.json").exists()
        return
    assert done.returncode == 0, done.stderr
    assert "missing" in done.stderr and "Traceback" not in done.stderr
    assert numbers(copy, "evals.jsonl") == numbers(reference, "evals.jsonl")
    mine, its = (json.loads((folder / "result.json").read_text()) for folder in (copy, reference))
    assert mine["evals"] == its["evals"] and mine["train_loss"] == its["train_loss"]


def test_lost_steps_of_the_tail_are_trained_again_to_the_same_bits(undisturbed, copy):
    cache, reference = undisturbed
    rows = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join(rows[:-1]))
    assert len(tokens_of(copy)) > 1
    done = train(copy, cache)
    assert done.returncode == 0, done.stderr
    assert numbers(copy, "metrics.jsonl") == numbers(reference, "metrics.jsonl")
    mine, its = (json.loads((folder / "result.json").read_text()) for folder in (copy, reference))
    assert mine["evals"] == its["evals"] and mine["train_loss"] == its["train_loss"]


def test_where_nothing_is_left_to_train_from_it_fails_in_one_line(undisturbed, copy):
    cache, _ = undisturbed
    (copy / "metrics.jsonl").write_text("")
    for tokens in tokens_of(copy)[:-1]:
        shutil.rmtree(copy / "checkpoints" / str(tokens))
    done = train(copy, cache)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "metrics.jsonl" in line and f"delete {copy}" in line
    assert "Traceback" not in done.stderr and "ZeroDivision" not in done.stderr
    assert not (copy / "result.json").exists()


ORDER = """
import json, os, sys
from pathlib import Path
from training import run

events, fsync, replace, rename = [], os.fsync, os.replace, os.rename

def seen_fsync(descriptor):
    fsync(descriptor)
    events.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, os.fstat(descriptor).st_size))

def seen(move):
    def moved(source, target, *more, **named):
        events.append((Path(target).name, 0))
        return move(source, target, *more, **named)
    return moved

os.fsync, os.rename, os.replace = seen_fsync, seen(rename), seen(replace)
status = run.main()
Path(sys.argv[1], "events.json").write_text(json.dumps(events))
sys.exit(status)
"""


def test_rows_are_on_the_disk_before_the_checkpoint_and_the_result_that_claim_them(undisturbed, tmp_path):
    cache, reference = undisturbed
    directory = tmp_path / reference.name
    directory.mkdir()
    shutil.copy(reference / "spec.json", directory)
    words = [sys.executable, "-c", ORDER, str(directory), "--cache", str(cache), "--checkpoint-seconds", "0.01"]
    done = run_launch(words, preexec_fn=on_one_core)
    assert done.returncode == 0, done.stderr
    flushed = {"metrics.jsonl": 0, "evals.jsonl": 0}
    sizes: dict[str, dict[str, int]] = {}
    for name, what in json.loads((directory / "events.json").read_text()):
        if name in flushed:
            flushed[name] = what
        elif name == "result.json" or name.isdigit():
            sizes[name] = dict(flushed)
    rows = {name: (directory / name).read_bytes().splitlines(keepends=True) for name in flushed}
    assert sizes["result.json"] == {name: len(b"".join(lines)) for name, lines in rows.items()}
    for name, durable in sizes.items():
        if name.isdigit():
            for log, lines in rows.items():
                claimed = sum(len(line) for line in lines if json.loads(line)["tokens"] <= int(name))
                assert durable[log] >= claimed, (name, log)
    assert any(name.isdigit() for name in sizes), os.listdir(directory / "checkpoints")
