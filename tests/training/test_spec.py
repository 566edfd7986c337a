"""Specs: identity, strict JSON, dotted settings, and every impossible value refused by name."""

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.codec import canonical_json, from_json, to_json, with_settings
from core.errors import BadInput
from data.config import DataConfig
from experiments.spec import Sweep
from model.config import ModelConfig
from training.objective_settings import OBJECTIVE_SETTINGS
from training.spec import OptimConfig, RunSpec


@given(
    width=st.integers(1, 40).map(lambda n: 16 * n),
    depth=st.integers(1, 50),
    seed=st.integers(0, 2**31 - 1),
    steps=st.integers(1, 10_000),
    rate=st.floats(1e-6, 1.0),
)
def test_a_spec_round_trips_through_json_and_keeps_its_name(width, depth, seed, steps, rate):
    spec = RunSpec(
        model=ModelConfig(width=width, depth=depth),
        optim=OptimConfig(learning_rate=rate),
        seed=seed,
        tokens=steps * 4096,
        evaluation_marks=(0, 4096),
    )
    again = from_json(RunSpec, json.loads(json.dumps(to_json(spec))))
    assert again == spec
    assert again.run_id == spec.run_id


def test_run_id_is_the_same_in_another_process_and_changes_with_every_field():
    spec = RunSpec()
    code = "from training.spec import RunSpec; print(RunSpec().run_id)"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert other == spec.run_id
    changed = [
        with_settings(spec, {key: value})
        for key, value in {
            "model.width": "96",
            "data.tokenizer": "char",
            "optim.learning_rate": "0.1",
            "seed": "1",
            "tokens": "8192",
            "evaluation_marks": "[4096]",
        }.items()
    ]
    assert len({item.run_id for item in [spec, *changed]}) == 7


def test_canonical_json_holds_every_field_sorted():
    spec = RunSpec(tasks=("copying",), task_items=20, data=DataConfig(skills="copying@0.1", skill_tokens=1000))
    tree = json.loads(canonical_json(spec))
    # These are at their defaults here: they stand in the name of a run only where they are set.
    unset = {"objective", "imported", "start", *OBJECTIVE_SETTINGS}
    assert list(tree) == sorted({field.name for field in dataclasses.fields(RunSpec)} - unset)
    assert list(tree["data"]) == sorted(
        {field.name for field in dataclasses.fields(DataConfig)} - {"mixture", "near_duplicates"}
    )


def test_fields_of_tasks_and_skills_name_a_run_only_where_they_are_set():
    plain = json.loads(canonical_json(RunSpec()))
    assert not {"tasks", "task_items"} & set(plain) and not {"skills", "skill_tokens"} & set(plain["data"])
    assert RunSpec(tasks=("copying",)).run_id != RunSpec().run_id


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.widht": "3"}, ["model.widht", "model.width"]),
        ({"widht": "3"}, ["widht", "allowed"]),
        ({"model": "3"}, ["model", "allowed"]),
        ({"seed.x": "3"}, ["seed.x"]),
        ({"model.width": "3.5"}, ["model.width=3.5", "whole number"]),
        ({"model.width": "abc"}, ["model.width='abc'", "whole number"]),
        ({"model.width": "-16"}, ["model.width=-16", "at least 1"]),
        ({"model.width": "70", "model.heads": "4", "model.kv_heads": "4"}, ["model.width=70", "model.heads=4"]),
        ({"model.heads": "4", "model.kv_heads": "3"}, ["model.kv_heads=3", "divide"]),
        ({"model.head_width": "7"}, ["model.head_width=7", "even"]),
        ({"model.activation": "relu"}, ["model.activation='relu'", "swiglu"]),
        ({"model.compute_dtype": "float16"}, ["model.compute_dtype", "bfloat16"]),
        ({"model.tied": "maybe"}, ["model.tied='maybe'", "true or false"]),
        ({"model.logit_softcap": "-1"}, ["model.logit_softcap=-1"]),
        ({"data.corpus": "wikipedia"}, ["data.corpus='wikipedia'", "pysource"]),
        ({"data.tokenizer": "bpe"}, ["data.tokenizer='bpe'", "bpe:SIZE"]),
        ({"data.domain": "poems"}, ["data.domain='poems'", "code"]),
        ({"data.sequence_length": "1"}, ["data.sequence_length=1"]),
        ({"data.validation_tokens": "5"}, ["data.validation_tokens=5"]),
        ({"data.unique_tokens": "5"}, ["data.unique_tokens=5"]),
        ({"optim.learning_rate": "0"}, ["optim.learning_rate=0", "positive"]),
        ({"optim.learning_rate": "NaN"}, ["optim.learning_rate=nan"]),
        ({"optim.beta2": "1"}, ["optim.beta2=1"]),
        ({"optim.schedule": "linear"}, ["optim.schedule='linear'", "wsd"]),
        ({"optim.schedule": "cosine", "optim.cooldown_tokens": "4096"}, ["optim.cooldown_tokens=4096", "wsd"]),
        ({"optim.warmup_tokens": "-1"}, ["optim.warmup_tokens=-1"]),
        ({"optim.warmup_tokens": "2000000"}, ["optim.warmup_tokens=2000000", "longer than the run"]),
        ({"optim.final_fraction": "1.5"}, ["optim.final_fraction=1.5"]),
        ({"optim.microbatch_tokens": "3000"}, ["optim.microbatch_tokens=3000"]),
        ({"tokens": "0"}, ["tokens=0", "at least 1"]),
        ({"tokens": "1000"}, ["tokens=1000", "below one batch"]),
        ({"tokens": "5000"}, ["tokens=5000", "4096", "8192"]),
        ({"batch_tokens": "1000"}, ["batch_tokens=1000", "128"]),
        ({"seed": "-1"}, ["seed=-1"]),
        ({"evaluation_marks": "[100]"}, ["evaluation_marks=100"]),
        ({"evaluation_marks": "[8192, 4096]"}, ["increasing"]),
        ({"evaluation_marks": "7"}, ["evaluation_marks=7", "list"]),
        ({"parent": "x"}, ["branch_at_tokens"]),
        ({"parent": "x", "branch_at_tokens": "9999999"}, ["branch_at_tokens=9999999"]),
    ],
)
def test_an_impossible_value_is_refused_in_one_line_that_names_it(settings, words):
    with pytest.raises(BadInput) as caught:
        with_settings(RunSpec(), settings)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_json_that_is_no_object_is_refused():
    with pytest.raises(BadInput, match="must be an object"):
        from_json(RunSpec, {"model": 3})
    with pytest.raises(BadInput, match="RunSpec"):
        from_json(RunSpec, [1])


def test_a_sweep_drops_repeated_specs_and_refuses_to_be_empty():
    assert len(Sweep([RunSpec(), RunSpec(seed=1), RunSpec()])) == 2
    with pytest.raises(BadInput, match="empty"):
        Sweep([])
