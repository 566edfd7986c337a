"""A path means the file that it names where it is typed: in the run's name, for workers, on clusters."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.codec import to_json
from core.errors import EXIT_BAD_INPUT
from core.rundir import RunDirectory, SweepDirectory
from data.config import DataConfig
from experiments.command import choose
from planning.flags import PlanFlags
from tests.support.small import ROOT, cache_folder, write_corpus
from training.execute import execute
from training.execution import Execution
from training.records import write_spec
from training.spec import RunSpec

SMALL = ["--sizes", "1", "--no-trunk", "--tokens", "16384", "--name", "quickstart"]
SMALL += ["--set", "data.validation_tokens=512"]  # tests ask for more
TASK = {"prompt": "alpha ", "target": "beta", "choices": ["beta", "gamma"]}


def launch(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command line from another folder than the project's."""
    command = [sys.executable, str(ROOT / "launch.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def write_tokenizer(path: Path) -> None:
    from data.tokenizers import make

    path.write_text(make("bpe:300", ["alpha beta gamma delta 0123456789 =\n"] * 9).to_json())


def chosen(*arguments: str) -> list[RunSpec]:
    return choose("plan", ["quickstart", *SMALL, *arguments], PlanFlags, "")[0].specs


@pytest.mark.slow
def test_a_run_from_another_folder_reads_what_is_named_there(tmp_path: Path) -> None:
    cache_folder(tmp_path)
    write_corpus(tmp_path / "mytext", 100)
    write_tokenizer(tmp_path / "tok.json")
    (tmp_path / "mine.jsonl").write_text(json.dumps(TASK) + "\n")
    done = launch(
        tmp_path, "run", "quickstart", "--corpus", "text:mytext", "--workers", "1", *SMALL,
        "data.tokenizer=file:tok.json", "model.vocabulary=400", 'tasks=["file:mine.jsonl"]', "task_items=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = SweepDirectory(tmp_path / "runs" / "quickstart").runs()
    spec = json.loads(run.spec.read_text())
    assert spec["data"]["corpus"] == f"text:{tmp_path}/mytext"
    assert spec["data"]["tokenizer"] == f"file:{tmp_path}/tok.json"
    assert spec["tasks"] == [f"file:{tmp_path}/mine.jsonl"]
    environment = run.read_environment()
    assert environment["corpus"]["lost"] == 0.0
    assert SweepDirectory(run.path.parent).read_prepared() == {
        run.path.name: environment["corpus"]["fingerprint"]
    }
    again = launch(tmp_path, "backfill", "runs/quickstart", "--tasks", "file:mine.jsonl", "--items", "1")
    assert again.returncode == 0 and "0 holes filled, 1 scores already there" in again.stdout, again.stderr


def test_two_corpora_of_one_name_are_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for user in ("anna", "ben"):
        write_corpus(tmp_path / user / "mytext", 3)
        monkeypatch.chdir(tmp_path / user)
        (spec,) = chosen("--corpus", "text:mytext")
        assert spec.data.corpus == f"text:{tmp_path}/{user}/mytext"
        names.add(spec.run_id)
        assert {run.run_id for run in chosen("--corpus", "text:./mytext")} == {spec.run_id}
        assert {run.run_id for run in chosen("--corpus", f"text:../{user}/mytext")} == {spec.run_id}
    assert len(names) == 2


def test_home_is_expanded_where_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (spec,) = chosen("--corpus", "text:~/mytext?field=body", "--set", "data.tokenizer=file:~/t.json")
    assert spec.data.corpus == f"text:{tmp_path}/mytext?field=body"
    assert spec.data.tokenizer == f"file:{tmp_path}/t.json"
    refused = launch(tmp_path, "plan", "quickstart", "--corpus", "text:~nobody-here/x", *SMALL)
    assert refused.returncode == EXIT_BAD_INPUT and refused.stderr.count("\n") == 1
    assert "the home folder ~nobody-here is not known" in refused.stderr


def test_runs_named_by_a_relative_path_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = DataConfig(corpus="text:mytext", validation_tokens=512)
    (new,) = chosen("--corpus", "text:mytext")
    old = dataclasses.replace(new, data=dataclasses.replace(new.data, corpus="text:mytext"))
    assert old.data == data and old.run_id != new.run_id
    write_spec(Path("runs/quickstart") / old.run_id, old)
    assert [run.run_id for run in chosen("--corpus", "text:mytext")] == [old.run_id]


@pytest.mark.parametrize("engine", ["skypilot", "jobset"])
def test_manifests_carry_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("site.toml").write_text('[skypilot]\nbucket = "s3://my-runs"\n[jobset]\nimage = "scaling:1"\n')
    done = launch(
        tmp_path, "submit", "quickstart", "--corpus", "text:mytext", *SMALL, "--backend", engine,
        "--site", "site.toml", "--dry-run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = "".join(path.read_text() for path in Path("runs/quickstart", engine).rglob("*.yaml"))
    assert f"text:{tmp_path}/mytext" in written and "text:mytext" not in written


def test_a_worker_refuses_other_tokens_than_those_prepared(tmp_path: Path) -> None:
    spec = RunSpec(
        data=DataConfig(corpus=f"text:{write_corpus(tmp_path / 'mytext', 40)}", validation_tokens=512),
        tokens=16_384,
    )
    run = RunDirectory(tmp_path / "runs" / spec.run_id)
    run.path.mkdir(parents=True)
    run.spec.write_text(json.dumps(to_json(spec)))
    SweepDirectory(tmp_path / "runs").write_prepared({spec.run_id: "f" * 64})
    (outcome,) = execute([run.path], Execution(cache_root=cache_folder(tmp_path))).values()
    assert outcome.status == EXIT_BAD_INPUT
    assert "than what was prepared for this run (fingerprint ffffffffffff" in outcome.message
    shutil.rmtree(tmp_path / "runs")
