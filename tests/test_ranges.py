"""Every number of a run has a range: what cannot be trained, or trains nothing, is refused by name before JAX loads."""

import dataclasses
import json
import typing

import numpy as np
import pytest

import launch
from core import bounds
from core.bounds import Allowed, allowed_in
from core.codec import from_json, to_json, with_settings
from core.errors import BadInput
from data.config import DataConfig
from experiments import registry
from experiments.command import settings
from experiments.scaling import ScalingRule
from launchers.local.command import RunFlags
from model.config import ModelConfig
from planning.flags import PlanFlags
from tests.support.small import ROOT
from training.spec import OptimConfig, RunSpec

GROUPS = {"": RunSpec, "model.": ModelConfig, "data.": DataConfig, "optim.": OptimConfig}
NUMBERS = [
    (f"{prefix}{field.name}", hint)
    for prefix, kind in GROUPS.items()
    for field in dataclasses.fields(kind)
    if (hint := typing.get_type_hints(kind)[field.name]) in (int, float, int | None)
]


def refusal(settings: dict[str, str]) -> str:
    with pytest.raises(BadInput) as caught:
        with_settings(RunSpec(), settings)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 2000
    return message


@pytest.mark.parametrize(("key", "kind"), NUMBERS)
def test_no_number_is_infinite_and_none_is_beyond_every_machine(key, kind):
    values = [
        "1e999",
        "-1e999",
        "Infinity",
        "NaN",
        "1" + "0" * 30,
        "-1",
        "1" + "0" * 5000,
        "[]",
        "true",
        '"1"',
        "{}",
    ]
    for value in values:
        assert f"{key}" in refusal({key: value})


@pytest.mark.parametrize("kind", [*GROUPS.values(), ScalingRule, RunFlags, PlanFlags])
def test_every_number_says_its_range_where_it_is_declared(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    for name, plain in typing.get_type_hints(kind).items():
        if plain in (int, float, int | None, float | None):
            assert allowed_in(hints[name]) is not None, name


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        # XLA would abort, or the memory of no machine suffices.
        ({"model.width": "1000000000"}, ["model.width=1000000000", "parameters", "at most 1e+13"]),
        ({"model.ff_width": "100000000000"}, ["model.ff_width", "at most 2147483647", "int32"]),
        ({"model.vocabulary": "2000000000", "model.width": "100000"}, ["parameters", "at most 1e+13"]),
        ({"model.depth": "1000000"}, ["model.depth=1000000", "at most 10000"]),
        ({"batch_tokens": "549755813888", "tokens": "549755813888"}, ["batch_tokens", "int32"]),
        ({"data.sequence_length": "33554432"}, ["data.sequence_length", "float32"]),
        ({"tokens": "1" + "0" * 25}, ["tokens", "2^63"]),
        ({"tokens": str(4096 * 2**32)}, ["steps", "int32"]),
        ({"data.tokenizer": "bpe:1" + "0" * 30}, ["data.tokenizer"]),
        # In float32 these are 0, 1 or infinite.
        ({"optim.beta1": "0.99999999"}, ["optim.beta1=0.99999999", "float32"]),
        ({"optim.beta2": "0.99999998"}, ["optim.beta2=0.99999998", "float32"]),
        ({"optim.epsilon": "1e-60"}, ["optim.epsilon=1e-60", "float32"]),
        ({"optim.weight_decay": "1e-50"}, ["optim.weight_decay=1e-50", "or 0 for none"]),
        ({"optim.z_loss": "1e-60"}, ["optim.z_loss=1e-60"]),
        ({"model.rope_base": "1e300"}, ["model.rope_base=1e+300"]),
        # These train nothing.
        ({"optim.learning_rate": "1e-45"}, ["optim.learning_rate=1e-45", "between 1e-09"]),
        ({"optim.epsilon": "1e10"}, ["optim.epsilon=10000000000", "nothing is trained"]),
        ({"optim.clip_norm": "1e-50"}, ["optim.clip_norm=1e-50", "or 0 for none", "vanish"]),
        ({"model.norm_epsilon": "1e308"}, ["model.norm_epsilon=1e+308", "nothing is trained"]),
        ({"model.logit_softcap": "1e-8"}, ["model.logit_softcap=1e-08", "or 0 for none"]),
        ({"model.logit_softcap": "1e38"}, ["model.logit_softcap=1e+38"]),
        ({"optim.warmup_tokens": "2097152"}, ["optim.warmup_tokens", "longer than the run"]),
        ({"task_items": "0"}, ["task_items=0"]),
        # A step would turn the sign of every weight.
        ({"optim.weight_decay": "1000"}, ["optim.weight_decay=1000", "must be below 1"]),
        ({"optim.weight_decay": "1", "optim.decay": "independent"}, ["optim.weight_decay=1", "below 1"]),
        # What is no number or no text.
        ({"seed": "true"}, ["seed=True", "whole number"]),
        ({"model.tied": "1"}, ["model.tied=1", "true or false"]),
        ({"data.corpus": "5"}, ["data.corpus=5", "text"]),
        ({"data.corpus": '"text:a\\u0000b"'}, ["data.corpus", "NUL"]),
        ({"data.corpus": f"text:{'x' * 5000}"}, ["data.corpus", "at most 4000"]),
        ({"evaluation_marks": "[1e999]"}, ["evaluation_marks"]),
        ({"modle.width": "3"}, ["did you mean model.width?"]),
        ({"model.widht": "3"}, ["did you mean model.width?"]),
        ({"learning_rate": "3"}, ["did you mean optim.learning_rate?"]),
        ({"x" * 3000: "3"}, ["unknown key", "x...", "allowed are"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings, words):
    message = refusal(settings)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("tokens", "1.048576e6", 1_048_576),
        ("batch_tokens", "8_192", 8192),
        ("model.vocabulary", "1k", 1000),
        ("optim.learning_rate", "1e-3", 1e-3),
        ("optim.beta2", "0.9999", 0.9999),
        ("data.tokenizer", "bpe:1000", "bpe:1000"),
    ],
)
def test_numbers_as_people_type_them(key, text, value):
    *_, group, name = ["", *key.split(".")]
    spec = with_settings(RunSpec(), {key: text})
    assert getattr(getattr(spec, group) if group else spec, name) == value


def test_the_largest_average_is_below_one_in_float32():
    most = bounds.ranges(OptimConfig)["beta1"].most
    assert np.float32(most) < 1
    assert np.float32(np.nextafter(most, 1)) <= np.float32(1)
    with pytest.raises(BadInput):
        OptimConfig(beta1=float(np.nextafter(np.float64(most), 1)))


def test_every_spec_that_there_is_stays_accepted():
    for path in (ROOT / "tests" / "stored" / "runs").rglob("spec.json"):
        spec = json.loads(path.read_text(encoding="utf-8"))
        assert from_json(RunSpec, spec).run_id == path.parent.name
    for name in registry.names():
        for preset in registry.load(name).presets.values():
            for run in registry.load(name).sweep(**preset):
                assert from_json(RunSpec, to_json(run)) == run


NAMES = [
    "",
    " ",
    "a/b",
    "..",
    ".hidden",
    "-x",
    "a\nb",
    "a\\b",
    "x ",
    " x",
    "~",
    "x" * 300,
    "é" * 150,
    "\t",
    "\x1b[31m",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_plain_folder(capsys, name):
    with pytest.raises(SystemExit) as caught:
        launch.main(["plan", "quickstart", f"--name={name}"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "--name" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--runs", "x" * 300], ["--runs", "at most 255 bytes"]),
        (["--runs", ""], ["--runs", "must be a path"]),
        (["--cache", "a\nb"], ["--cache", "must be a path"]),
        (["--set", "model.width"], ["--set model.width", "KEY=VALUE"]),
        (["--target", "1e999"], ["--target=inf", "finite"]),
        (["--target", "1e308"], ["--target=1e+308", "1e+40"]),
        (["--noise", "1e308"], ["--noise=1e+308", "1"]),
        (["--tokens", "1e308"], ["tokens=1", "at most 1000000000000000000"]),
        (["--noise", "nan"], ["--noise=nan"]),
        (["--price", "inf"], ["--price=inf", "finite"]),
        (["--workers", "0"], ["--workers=0", "at least 1"]),
        (["--workers", "1e30"], ["--workers=1", "at most 10000"]),
        (["--seeds", "1000000000"], ["--seeds=1000000000", "at most 1000"]),
        (["--sizes", "true"], ["--sizes", "'true'"]),
        (["--tokens", "9" * 5000], ["--tokens"]),
    ],
)
def test_flags_have_ranges_too(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        launch.main(["plan", "quickstart", *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and len(error) < 500
    for word in words:
        assert word in error


def test_ranges_stand_in_the_help(capsys):
    with pytest.raises(SystemExit):
        launch.main(["run", "quickstart", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(default: 1; 1 to 10000)" in shown
    assert "(default: 1; 1 to 1000)" in shown


NO_FITS = [
    "null", "[]", "3", '"x"', "{}", '{"law": "chinchilla"}', '{"law": [1], "draws": {}}',
    '{"law": "chinchilla", "draws": [[1], 2]}', '{"law": "chinchilla", "draws": 1e999}',
]  # fmt: skip


@pytest.mark.parametrize("content", NO_FITS)
def test_a_prior_is_a_fit(tmp_path, capsys, content):
    (tmp_path / "prior.json").write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        launch.main(["plan", "quickstart", "--prior", str(tmp_path / "prior.json")])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --prior={tmp_path}/prior.json: ") and error.count("\n") == 1


def test_a_range_says_what_is_allowed():
    assert str(Allowed(1, 10, zero="none")) == "1 to 10, 0 for none"


def test_of_a_key_that_is_set_twice_the_last_counts_and_that_is_said(capsys):
    assert settings(["model.width=16", "seed=1", "model.width=32", "seed=1"]) == {
        "model.width": "32",
        "seed": "1",
    }
    assert capsys.readouterr().err == (
        "note: --set model.width is given twice, as 16 and 32; the last counts\n"
    )
