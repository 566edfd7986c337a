"""Rules for batch, decay and warmup: published numbers, and what the scaling rule makes of them."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import launch
from core.errors import BadInput
from experiments import hyperparameters, registry
from experiments.scaling import ScalingRule

MUP = ScalingRule(parametrization="mup")


def test_published_formulas_at_points_worked_out_by_hand():
    # Kaplan et al., eq. 1.4: 2e8 / 3^4.7619 = 1.069e6; their L(N, D) tends to (N_c / N)^0.076 for endless data.
    assert hyperparameters.kaplan_loss(8.8e13, 1e30) == pytest.approx(1.0, rel=1e-6)
    assert hyperparameters.kaplan_loss(1e30, 5.4e13) == pytest.approx(1.0, rel=1e-6)
    assert hyperparameters.kaplan_batch(8.8e13, 1e30) == pytest.approx(2e8, rel=1e-5)
    # log10 of 0.292 C^0.3271 at 1e20 is 6.5420 - 0.5346.
    assert hyperparameters.deepseek_batch(1e20) == pytest.approx(10**6.0074, rel=1e-3)
    # log10 of 0.58 D^0.571 at 1e10 is 5.71 - 0.2366.
    assert hyperparameters.step_law_batch(1e10) == pytest.approx(10**5.4734, rel=1e-3)
    assert hyperparameters.power_line_batch(8e6, 1024, 1e6) == pytest.approx(1024 * 2.2175, rel=1e-3)
    assert hyperparameters.adam_warmup_tokens(0.95, 1024) == pytest.approx(40 * 1024)


@given(st.floats(1e6, 1e9), st.sampled_from([512, 1024, 4096]), st.floats(0.05, 1.0))
def test_decay_averages_over_the_asked_part_of_the_run(tokens, batch, timescale):
    # Kept after a part `timescale` of the run's steps: (1 - decay)^(steps * timescale), which is 1 / e.
    steps = tokens / batch
    kept = (1 - hyperparameters.decay_per_step(batch, tokens, timescale)) ** (steps * timescale)
    assert kept == pytest.approx(0.36788, rel=0.2)


def test_mup_keeps_one_peak_and_a_decay_of_its_own():
    small, large = MUP.run(1e5, 1e6), MUP.run(1e7, 1e6)
    assert small.optim.learning_rate == large.optim.learning_rate == MUP.learning_rate_at_base
    assert small.model.parametrization == large.model.parametrization == "mup"
    assert (large.model.base_width, large.model.base_depth, large.model.base_head_width) == (64, 2, 16)
    assert small.optim.decay == "independent"
    # As much as the standard rule removes at 100k parameters.
    standard = ScalingRule()
    assert MUP.decay_per_step == pytest.approx(standard.weight_decay * standard.learning_rate(1e5))


def test_rules_of_batch_decay_and_warmup_reach_the_run():
    grown = dataclasses.replace(MUP, batch_rule="power_line", batch_tokens=1024, batch_known_at=1_048_576)
    assert grown.run(1e5, 1_048_576).batch_tokens == 1024
    assert grown.run(1e5, 8 * 1_048_576).batch_tokens == 18 * 128  # 1024 * 8^0.383 = 2270.7 in whole sequences
    averaged = dataclasses.replace(MUP, decay_timescale=0.25)
    run = averaged.run(1e5, 1_048_576)
    assert run.optim.weight_decay == pytest.approx(1024 / (0.25 * 1_048_576), rel=1e-2)
    by_size = dataclasses.replace(MUP, warmup_rule="parameters").run(1e5, 1_048_576)
    assert by_size.optim.warmup_tokens == pytest.approx(MUP.count(by_size.model), abs=512)
    assert dataclasses.replace(MUP, warmup_rule="parameters").run(1e7, 1e6).optim.warmup_tokens <= 2e5 + 512
    assert dataclasses.replace(MUP, warmup_rule="adam").run(1e5, 1_048_576).optim.warmup_tokens == 40 * 1024


@pytest.mark.parametrize("rule", hyperparameters.BATCH_RULES)
def test_a_family_shares_batch_and_decay_under_every_rule(rule):
    family = dataclasses.replace(MUP, batch_rule=rule, batch_tokens=1024, decay_timescale=0.5)
    trunk, *branches = family.trunk_and_branches(3e7, (2**29, 2**30))
    assert len({run.batch_tokens for run in (trunk, *branches)}) == 1
    assert len({run.optim.weight_decay for run in (trunk, *branches)}) == 1
    assert {branch.parent for branch in branches} == {trunk.run_id}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"parametrization": "ntk"}, "parametrization='ntk': must be one of standard, mup"),
        ({"batch_rule": "largest"}, "batch_rule='largest': must be one of constant"),
        ({"warmup_rule": "none"}, "warmup_rule='none': must be one of fraction"),
        ({"batch_tokens": 0}, "batch_tokens=0: must be at least 1"),
        ({"learning_rate_at_base": -1.0}, "learning_rate_at_base=-1.0: must be positive"),
        ({"learning_rate_at_100k": float("nan")}, "learning_rate_at_100k=nan: must be positive"),
        ({"decay_per_step": -1e-3}, "decay_per_step=-0.001: must not be negative"),
        ({"warmup_fraction": 2.0}, "warmup_fraction=2.0: must be between 0 and 1"),
    ],
)
def test_an_impossible_rule_is_refused_by_name(fields, words):
    with pytest.raises(BadInput, match=words):
        ScalingRule(**fields)


def written(tmp_path, content) -> str:
    path = tmp_path / "rule.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


RULE = {"parametrization": "mup", "base_width": 32, "learning_rate_at_base": 0.0055, "batch_tokens": 512}


@pytest.mark.parametrize("name", ["quickstart", "isoflop", "kaplan", "data_constrained", "depth_width", "tune"])
def test_a_rule_file_reaches_every_run_of_a_sweep(tmp_path, name):
    path = written(tmp_path, {"kind": "scaling rule", "rule": RULE})
    runs = list(registry.load(name).sweep(rule=path))
    assert {(run.model.parametrization, run.model.base_width, run.batch_tokens) for run in runs} == {
        ("mup", 32, 512)
    }
    assert {run.optim.learning_rate for run in runs} == {0.0055} or name == "tune"
    assert {run.optim.decay for run in runs} == {"independent"}


def test_a_sweep_without_a_rule_file_has_the_default_rule():
    assert ScalingRule.read("", batch_tokens=2048) == ScalingRule(batch_tokens=2048)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", ["rule.json", "not readable as JSON"]),
        ({"rule": {}}, ["rule.json", "is not a scaling rule"]),
        ([1], ["rule.json", "is not a scaling rule"]),
        (
            {"kind": "scaling rule", "rule": {"learning_rate": 1}},
            ["unknown key 'learning_rate'", "batch_tokens"],
        ),
        ({"kind": "scaling rule", "rule": {"vocabulary": 9}}, ["unknown key 'vocabulary'"]),
        (
            {"kind": "scaling rule", "rule": {"batch_tokens": "many"}},
            ["rule.batch_tokens='many'", "whole number"],
        ),
        ({"kind": "scaling rule", "rule": {"learning_rate_at_base": -1}}, ["learning_rate_at_base=-1"]),
        ({"kind": "scaling rule", "rule": 7}, ["rule.json", "must be an object"]),
    ],
)
def test_a_bad_rule_file_is_refused_in_one_line(tmp_path, capsys, content, words):
    with pytest.raises(SystemExit) as caught:
        launch.main(["plan", "quickstart", "--rule", written(tmp_path, content)])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines[0]


def test_a_missing_rule_file_is_refused(capsys):
    with pytest.raises(SystemExit):
        launch.main(["plan", "quickstart", "--rule", "/no/such/rule.json"])
    assert "/no/such/rule.json: no such file" in capsys.readouterr().err
