"""Tasks scored along training and afterwards: the same numbers, holes filled, nothing else touched."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.logs.load import load_sweep
from analysis.task_table import COLUMNS, as_csv, task_table
from core.codec import to_json
from core.errors import BadInput
from core.files import read_json, read_json_lines, write_json
from core.rundir import RunDirectory
from data.config import DataConfig
from model.config import ModelConfig
from tests.support.small import ROOT, cache_folder, write_corpus
from training.evaluate.backfill import main
from training.evaluate.holes import fill
from training.evaluate.score import METRICS
from training.execute import execute
from training.execution import Execution
from training.prepare import prepare
from training.spec import OptimConfig, RunSpec

pytestmark = pytest.mark.slow

TASK, OTHER = "copying:length=2", "associative-recall:pairs=3"
ITEMS = 40


def spec_of(corpus: Path, seed: int, **fields) -> RunSpec:
    return RunSpec(
        model=ModelConfig(width=16, depth=1, heads=2, kv_heads=2),
        data=DataConfig(
            corpus=f"text:{corpus}",
            sequence_length=32,
            validation_tokens=1024,
            skills=f"{TASK}@0.25",
            skill_tokens=20_000,
        ),
        optim=OptimConfig(learning_rate=3e-3),
        tokens=16_384,
        batch_tokens=1024,
        seed=seed,
        evaluation_marks=(8192,),
        tasks=(TASK,),
        task_items=ITEMS,
        **fields,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(sweep, cache, corpus): two complete runs, and one that never started."""
    folder = tmp_path_factory.mktemp("backfill")
    corpus = write_corpus(folder / "corpus", documents=300)
    sweep, cache = folder / "sweep", cache_folder(folder)
    for seed in range(3):
        spec = spec_of(corpus, seed)
        write_json(sweep / spec.run_id / "spec.json", to_json(spec))
        if seed < 2:
            (outcome,) = execute([sweep / spec.run_id], Execution(cache_root=cache)).values()
            assert outcome.status == 0, outcome.message
    return sweep, cache, corpus


@pytest.fixture
def sweep_and_cache(trained, tmp_path):
    """A copy of the sweep that a test may change."""
    sweep, cache, _ = trained
    shutil.copytree(sweep, tmp_path / "sweep")
    return tmp_path / "sweep", cache


def complete_runs(sweep: Path) -> list[Path]:
    return sorted(path.parent for path in sweep.glob("*/result.json"))


def rows_of(run: Path, task: str, tokens: int = 16_384) -> dict[str, dict]:
    prefix = f"task/{task}/"
    return {
        row["name"].removeprefix(prefix): row
        for row in read_json_lines(run / "evals.jsonl")
        if row["name"].startswith(prefix) and row["tokens"] == tokens
    }


def test_training_scores_every_metric_at_every_mark_with_its_record(trained):
    sweep, _, _ = trained
    for run in complete_runs(sweep):
        for tokens in (8192, 16_384):
            rows = rows_of(run, TASK, tokens)
            assert set(rows) == set(METRICS)
            assert all(row["n"] == ITEMS and row["attempt"] == 1 for row in rows.values())
        record = read_json(run / "tasks.json")[TASK]
        assert record["positive_control"] and record["items"] == ITEMS
        assert record["chance"] == pytest.approx(26.0**-2)
        assert record["overlap"]["items_found"] == 0
        assert read_json(run / "result.json")["evals"][f"task/{TASK}/nll"] == rows_of(run, TASK)["nll"]["value"]


def test_every_problem_is_stored(trained):
    sweep, _, _ = trained
    for run in complete_runs(sweep):
        stored = [row for row in read_json_lines(run / "task_items.jsonl") if row["tokens"] == 16_384]
        text, *stored = stored
        assert [row["task"] for row in stored] == [TASK]
        loss = next(
            row
            for row in read_json_lines(run / "evals.jsonl")
            if row["name"] == "val/loss" and row["tokens"] == 16_384
        )
        assert text["task"] == "val" and sum(text["target_tokens"]) == loss["n"]
        assert sum(text["nll"]) / loss["n"] == pytest.approx(loss["value"], rel=1e-5)
        for metric in ("exact_match", "choice_accuracy", "token_accuracy", "edit_distance", "nll", "brier"):
            assert len(stored[0][metric]) == ITEMS
            mean = sum(stored[0][metric]) / ITEMS
            assert mean == pytest.approx(rows_of(run, TASK)[metric]["value"], rel=1e-4, abs=1e-9)


def test_holes_are_filled_and_only_holes(sweep_and_cache):
    sweep, cache = sweep_and_cache
    before = {run: (run / "evals.jsonl").read_bytes() for run in complete_runs(sweep)}
    lines = []
    summary = fill(sweep, [TASK, OTHER], ITEMS, cache, lines.append)
    assert summary.filled == [(run.name, OTHER) for run in complete_runs(sweep)]
    assert summary.present == [(run.name, TASK) for run in complete_runs(sweep)]
    assert len(summary.incomplete) == 1 and not summary.failed and len(lines) == 2
    for run, content in before.items():
        after = (run / "evals.jsonl").read_bytes()
        assert after.startswith(content)
        added = [json.loads(line)["name"] for line in after[len(content) :].splitlines()]
        assert sorted(added) == sorted(f"task/{OTHER}/{metric}" for metric in METRICS)
        record = read_json(run / "tasks.json")
        assert set(record) == {TASK, OTHER} and not record[OTHER]["positive_control"]
    filled = {run: (run / "evals.jsonl").read_bytes() for run in complete_runs(sweep)}
    again = fill(sweep, [TASK, OTHER], ITEMS, cache)
    assert not again.filled
    assert {run: (run / "evals.jsonl").read_bytes() for run in complete_runs(sweep)} == filled


def test_the_loss_of_each_sequence_comes_back_as_it_was(sweep_and_cache, capsys):
    """Runs of an earlier version kept none."""
    sweep, cache = sweep_and_cache
    before = {}
    for run in complete_runs(sweep):
        text, *rest = (run / "task_items.jsonl").read_text().splitlines(keepends=True)[-2:]
        assert json.loads(text)["task"] == "val"
        (run / "task_items.jsonl").write_text("".join(rest))
        RunDirectory(run).write_result(RunDirectory(run).seal(RunDirectory(run).read_result()))
        before[run] = json.loads(text)
    assert main([str(sweep), "--text", "--cache", str(cache)]) == 0
    for run, row in before.items():
        found = list(read_json_lines(run / "task_items.jsonl"))[-1]
        assert found["fingerprint"] == row["fingerprint"] and found["target_tokens"] == row["target_tokens"]
        assert found["nll"] == pytest.approx(row["nll"], rel=1e-5)
        assert RunDirectory(run).is_intact("task_items.jsonl")
    again = fill(sweep, [], ITEMS, cache, text=True)
    assert again.present == [(run.name, "val") for run in before] and not again.filled
    with pytest.raises(BadInput, match="name at least one task, or give --text"):
        fill(sweep, [], ITEMS, cache)


def test_a_lost_score_comes_back_as_it_was(sweep_and_cache):
    sweep, cache = sweep_and_cache
    run = complete_runs(sweep)[0]
    rows = list(read_json_lines(run / "evals.jsonl"))
    lost = f"task/{TASK}/brier"
    kept = [row for row in rows if not (row["name"] == lost and row["tokens"] == 16_384)]
    (run / "evals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    original = next(row for row in rows if row["name"] == lost and row["tokens"] == 16_384)
    assert fill(sweep, [TASK], ITEMS, cache).filled == [(run.name, TASK)]
    assert rows_of(run, TASK)["brier"] == original


def test_other_problems_are_a_hole(sweep_and_cache):
    sweep, cache = sweep_and_cache
    assert len(fill(sweep, [TASK], ITEMS + 10, cache).filled) == 2
    table = task_table(load_sweep(sweep))
    assert [row["n"] for row in table] == [ITEMS + 10] * 2


def test_a_run_without_its_last_checkpoint_is_named_and_the_others_are_scored(sweep_and_cache, capsys):
    sweep, cache = sweep_and_cache
    first, second = complete_runs(sweep)
    shutil.rmtree(first / "checkpoints")
    arguments = [str(sweep), "--tasks", OTHER, "--items", str(ITEMS), "--cache", str(cache)]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert f"error: {first.name}: " in captured.err and "no checkpoint at the run's end" in captured.err
    assert f"{second.name}: scored on {OTHER}" in captured.out
    assert "1 holes filled" in captured.out and not rows_of(first, OTHER)


def test_a_task_whose_text_is_in_the_training_data_is_refused_unless_it_is_a_skill(trained, tmp_path):
    sweep, cache, corpus = trained
    lines = (corpus / "0007.txt").read_text().splitlines()[1:9]
    rows = [{"prompt": line[:10], "target": line[10:20]} for line in lines]
    (tmp_path / "stolen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInput, match="8 of 8 problems are in the training text"):
        fill(sweep, [f"file:{tmp_path}/stolen.jsonl"], 500, cache)
    stolen = dataclasses.replace(spec_of(corpus, 0), tasks=(f"file:{tmp_path}/stolen.jsonl",))
    with pytest.raises(BadInput, match="are in the training text"):
        prepare([stolen], cache)
    records = prepare([spec_of(corpus, 0)], cache)
    assert records[TASK]["positive_control"]


@pytest.mark.parametrize(
    ("names", "items", "words"),
    [
        (["copyng"], 40, ["unknown task", "copyng"]),
        (["copying:length=30"], 40, ["copying:length=30", "sequence_length=32"]),
        ([TASK], 0, ["0 items", "at least 1"]),
        ([], 40, ["--tasks"]),
    ],
)
def test_bad_input_is_one_line(trained, names, items, words):
    sweep, cache, _ = trained
    with pytest.raises(BadInput) as caught:
        fill(sweep, names, items, cache)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_no_sweep_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such directory"):
        fill(tmp_path / "none", [TASK], 10, tmp_path)
    with pytest.raises(BadInput, match="no runs in it"):
        fill(tmp_path, [TASK], 10, tmp_path)


def test_the_launcher_has_the_verb(sweep_and_cache):
    sweep, cache = sweep_and_cache
    command = [sys.executable, "launch.py", "backfill", str(sweep), "--cache", str(cache)]
    done = subprocess.run(
        [*command, "--tasks", "nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.startswith("error: unknown task 'nothing'")
    assert done.stderr.count("\n") == 1


def test_the_task_table_has_what_the_runs_logged(sweep_and_cache):
    sweep, cache = sweep_and_cache
    fill(sweep, [OTHER], ITEMS, cache)
    rows = task_table(load_sweep(sweep), axis="params")
    assert [(row["task"], row["seed"]) for row in rows] == [(OTHER, 0), (OTHER, 1), (TASK, 0), (TASK, 1)]
    for row in rows:
        logged = rows_of(sweep / row["run"], row["task"])
        assert row["correct"] / row["n"] == pytest.approx(logged["exact_match"]["value"])
        assert row["nll"] == logged["nll_per_token"]["value"]
        assert row["chance"] == logged["chance"]["value"]
        assert (
            row["scale"] == read_json(sweep / row["run"] / "ledger.json")["params"]["non_embedding_plus_head"]
        )
    text = as_csv(rows)
    assert text.splitlines()[0] == ",".join(COLUMNS) and len(text.splitlines()) == 5
    by_choice = task_table(load_sweep(sweep), score="choice_accuracy", axis="loss")
    assert by_choice[0]["chance"] == pytest.approx(1 / 3) and by_choice[0]["scale"] < 0
    with pytest.raises(BadInput, match="--axis=width"):
        task_table(load_sweep(sweep), axis="width")
    with pytest.raises(BadInput, match="--score=brier"):
        task_table(load_sweep(sweep), score="brier")
