"""The scaling rule: sizes hit, shapes sensible, trunks cheaper by the amount that the arithmetic says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from experiments.scaling import ScalingRule
from training.cost import training_flops

RULE = ScalingRule()


@given(st.floats(1.5e4, 3e9))
def test_a_shape_comes_near_any_size(params):
    model = RULE.model(params)
    assert RULE.count(model) == pytest.approx(params, rel=0.35)
    assert model.width % model.heads == 0
    assert 2 <= model.width / model.depth <= 400


def test_known_sizes():
    small, gpt2 = RULE.model(1e5), RULE.model(1.24e8)
    assert (small.width, small.depth) == (48, 3)
    assert 500 <= gpt2.width <= 900
    assert gpt2.width / gpt2.heads == 64


def test_no_shape_is_refused_by_name():
    with pytest.raises(BadInput, match="params=100"):
        RULE.model(100)


@given(st.integers(2048, 10**9), st.integers(1, 9))
def test_runs_have_whole_batches_and_marks_inside(tokens, evaluations):
    run = RULE.run(2e4, tokens, evaluations=evaluations)
    assert abs(run.tokens - tokens) <= run.batch_tokens / 2
    assert all(0 < mark < run.tokens for mark in run.evaluation_marks)
    assert run.optim.warmup_tokens + run.optim.cooldown_tokens <= run.tokens


@pytest.mark.parametrize(("factor", "count", "bound"), [(2.0, 4, 0.65), (1.4, 7, 0.5)])
def test_trunk_and_branches_cost_what_the_arithmetic_says(factor, count, bound):
    tokens = [1e7 * factor**power for power in range(count)]
    family = RULE.trunk_and_branches(1e5, tokens)
    plain = [RULE.run(1e5, number) for number in tokens]
    ratio = sum(map(training_flops, family)) / sum(map(training_flops, plain))
    cooldown = RULE.cooldown_fraction
    expected = ((1 - cooldown) * tokens[-1] + cooldown * sum(tokens)) / sum(tokens)
    assert ratio == pytest.approx(expected, rel=1e-3)
    assert ratio <= bound


def test_a_family_shares_its_trunk_and_keeps_every_start():
    trunk, *branches = RULE.trunk_and_branches(1e5, (2**20, 2**21), seed=3)
    assert trunk.is_trunk
    assert trunk.optim.schedule == "constant"
    assert {branch.parent for branch in branches} == {trunk.run_id}
    assert {branch.branch_at_tokens for branch in branches} <= set(trunk.checkpoint_marks)
    assert [branch.tokens for branch in branches] == [2**20, 2**21]
    assert {branch.optim.warmup_tokens for branch in branches} == {trunk.optim.warmup_tokens}
