"""A run that begins with the final weights of another: what it begins with, what it keeps, and what is refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from analysis.logs.load_run import read_run
from core.codec import to_json
from core.errors import BadInput
from core.files import write_json
from core.methods import MethodsOfRun, methods
from data.config import DataConfig
from model.config import ModelConfig
from tests.support.compare_runs import assert_equal_runs
from tests.support.small import cache_folder, write_corpus
from tests.support.stop_after import StopAfter
from training.execute import execute
from training.execution import Execution
from training.lineage import lineage_of
from training.load import load
from training.provenance import card, provenance
from training.spec import OptimConfig, RunSpec

STEP = 256


def run(data: DataConfig, *, steps: int = 8, seed: int = 0, **fields) -> RunSpec:
    fields = {"evaluation_marks": (0,), **fields}
    return RunSpec(
        model=ModelConfig(width=16, depth=1, heads=2, kv_heads=2, scan=False),
        data=data,
        optim=OptimConfig(learning_rate=1e-2),
        seed=seed,
        tokens=steps * STEP,
        batch_tokens=STEP,
        **fields,
    )


def train(sweep, cache, specs, *stops):
    """Train runs together in `sweep`, stopped after so many steps each time; their folders."""
    folders = [sweep / spec.run_id for spec in specs]
    for folder, spec in zip(folders, specs, strict=True):
        if not folder.exists():
            write_json(folder / "spec.json", to_json(spec))
    for steps in (*stops, 0):
        outcomes = execute(folders, Execution(cache_root=cache, stop_requested=StopAfter(steps)))
        assert {one.status for one in outcomes.values()} == {75 if steps else 0}, outcomes
    return folders


def evaluations(folder):
    return {
        (row["tokens"], row["name"]): row["value"]
        for row in map(json.loads, (folder / "evals.jsonl").read_text().splitlines())
    }


def methods_of(folder):
    """The paragraph of a report for a run alone."""
    run = read_run(folder)
    return methods([MethodsOfRun(run.spec, run.env, run.count(), run.tokens)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A sweep with two base runs, two data sets, and the cache."""
    folder = tmp_path_factory.mktemp("stages")
    cache = cache_folder(folder)
    texts = [
        DataConfig(
            corpus=f"text:{write_corpus(folder / f'text{number}', 60, seed=number)}",
            sequence_length=32,
            validation_tokens=512,
        )
        for number in range(2)
    ]
    bases = [run(texts[0], seed=seed) for seed in range(2)]
    for base in bases:
        train(folder / "sweep", cache, [base])
    return folder / "sweep", cache, texts, bases


def later(text, parent, **fields):
    return run(text, start="weights", parent=parent.run_id, **fields)


@pytest.mark.slow
def test_it_begins_with_the_very_weights_and_says_where_they_come_from(place):
    sweep, cache, texts, bases = place
    second = later(texts[0], bases[0], steps=4)
    third = later(texts[1], second, steps=4)
    for spec in (second, third):
        train(sweep, cache, [spec])
    base, two, three = (sweep / spec.run_id for spec in (bases[0], second, third))
    assert evaluations(two)[0, "val/loss"] == evaluations(base)[bases[0].tokens, "val/loss"]
    lineage = json.loads((three / "env.json").read_text())["lineage"]
    assert [(stage["run"], stage["tokens"], stage["objective"]) for stage in lineage] == [
        (bases[0].run_id, 8 * STEP, "next_token"),
        (second.run_id, 4 * STEP, "next_token"),
    ]
    assert len({stage["weights"] for stage in lineage}) == 2 and all(stage["weights"] for stage in lineage)
    assert "lineage" not in json.loads((base / "env.json").read_text())
    result = json.loads((three / "result.json").read_text())
    assert result["role"] == "stage" and result["trained_tokens"] == 4 * STEP
    for text in (card(provenance(three, third.tokens)), methods_of(three)):
        assert (
            "It began with the final weights of another run, with a fresh optimizer (next_token on text:"
            in text
        )
        assert "which others share" not in text
    assert not any(map(np.array_equal, *(jax.tree.leaves(load(one).params) for one in (base, three))))


@pytest.mark.slow
def test_a_stop_changes_no_bit_even_where_the_parent_is_gone_and_a_pack_is_its_members(place, tmp_path):
    sweep, cache, texts, bases = place
    specs = [later(texts[1], base) for base in bases]
    whole = [train(sweep, cache, [spec])[0] for spec in specs]
    for name in ("stopped", "packed"):
        for base in bases:
            shutil.copytree(sweep / base.run_id, tmp_path / name / base.run_id)
    (stopped,) = train(tmp_path / "stopped", cache, specs[:1], 3)
    assert_equal_runs(stopped, whole[0], relative=0)
    packed = train(tmp_path / "packed", cache, specs, 5)
    for mine, alone in zip(packed, whole, strict=True):
        assert_equal_runs(mine, alone, relative=1e-4)
    (begun,) = (tmp_path / "without" / spec.run_id for spec in specs[:1])
    shutil.copytree(sweep / bases[0].run_id, tmp_path / "without" / bases[0].run_id)
    write_json(begun / "spec.json", to_json(specs[0]))
    outcome = execute([begun], Execution(cache_root=cache, stop_requested=StopAfter(3)))[begun]
    assert outcome.status == 75
    shutil.rmtree(tmp_path / "without" / bases[0].run_id)
    assert_equal_runs(train(tmp_path / "without", cache, specs[:1])[0], whole[0], relative=0)


@pytest.mark.slow
def test_weights_of_another_sweep(place, tmp_path):
    sweep, cache, texts, bases = place
    spec = later(texts[1], bases[0], steps=2)
    other = dataclasses.replace(spec, parent=f"{sweep.name}/{bases[0].run_id}")
    (folder,) = train(sweep.parent / "elsewhere", cache, [other])
    (own,) = train(sweep, cache, [spec])
    assert evaluations(folder) == evaluations(own)
    assert json.loads((folder / "env.json").read_text())["lineage"][0]["run"] == other.parent


@pytest.mark.slow
def test_weights_that_changed_since_it_began_are_refused(place, tmp_path):
    sweep, cache, texts, bases = place
    spec, folder = later(texts[1], bases[0]), tmp_path / "changed"
    shutil.copytree(sweep / bases[0].run_id, folder / bases[0].run_id)
    write_json(folder / spec.run_id / "spec.json", to_json(spec))
    execute([folder / spec.run_id], Execution(cache_root=cache, stop_requested=StopAfter(2)))
    shutil.rmtree(folder / spec.run_id / "checkpoints")
    progress = folder / bases[0].run_id / "checkpoints" / str(bases[0].tokens) / "progress" / "metadata"
    content = json.loads(progress.read_text())
    content["arrays"]["params.embedding"][0][1] += 1
    progress.write_text(json.dumps(content))
    outcome = execute([folder / spec.run_id], Execution(cache_root=cache))[folder / spec.run_id]
    assert outcome.status == 2 and "changed since this run began" in outcome.message


def refused(place, tmp_path, spec, damage=lambda folder: None):
    sweep, cache, _, bases = place
    for base in bases:
        shutil.copytree(sweep / base.run_id, tmp_path / "sweep" / base.run_id)
    damage(tmp_path / "sweep" / bases[0].run_id)
    folder = tmp_path / "sweep" / spec.run_id
    write_json(folder / "spec.json", to_json(spec))
    with pytest.raises(BadInput) as caught:
        lineage_of(spec, folder, "")
    assert "\n" not in str(caught.value)
    outcome = execute([folder], Execution(cache_root=cache))[folder]
    assert outcome.status == 2
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parent": "w16-l1-t9-s0-00000000"}, "no such run"),
        ({"model": ModelConfig(width=32, depth=1, heads=2, kv_heads=2)}, "model.width=32: parent="),
        ({"model": ModelConfig(width=16, depth=1, heads=2, kv_heads=2, qk_norm=False)}, "model.qk_norm=False"),
        ({"data": "char"}, "data.tokenizer='char'"),
    ],
)
def test_a_parent_that_does_not_fit_is_refused_by_name(place, tmp_path, change, words):
    _, _, texts, bases = place
    if "data" in change:
        change = {"data": dataclasses.replace(texts[1], tokenizer=change["data"])}
    spec = dataclasses.replace(later(texts[1], bases[0]), **change)
    assert words in refused(place, tmp_path, spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "result.json").unlink(), "is not complete"),
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "has no checkpoint at its end"),
    ],
)
def test_a_parent_without_final_weights_is_refused(place, tmp_path, damage, words):
    _, _, texts, bases = place
    assert words in refused(place, tmp_path, later(texts[1], bases[0]), damage)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": "middle"}, "start='middle': must be weights, or empty"),
        ({"start": "weights"}, "parent=None: with start=weights must be the name of a run"),
        ({"start": "weights", "parent": "../../etc"}, "parent='../../etc'"),
        ({"start": "weights", "parent": "a/b/c"}, "parent='a/b/c'"),
        ({"start": "weights", "parent": "a", "branch_at_tokens": 4096}, "branch_at_tokens=4096: with start=weights"),
        ({"parent": "a"}, "a branch needs both"),
    ],
)  # fmt: skip
def test_a_specification_that_cannot_be_is_refused(change, words):
    with pytest.raises(BadInput) as caught:
        RunSpec(**change)
    assert words in str(caught.value) and "\n" not in str(caught.value)
