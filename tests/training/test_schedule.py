"""Learning rates against optax's schedules and closed forms."""

import math

import optax
import pytest

from training.schedule import learning_rate
from training.spec import OptimConfig

BATCH = 100


def rates(optim: OptimConfig, total: int) -> list[float]:
    return [learning_rate(optim, tokens, BATCH, total) for tokens in range(0, total, BATCH)]


def test_warmup_agrees_with_optax_one_step_on():
    ours = rates(OptimConfig(learning_rate=2.0, schedule="constant", warmup_tokens=1000), 2000)
    theirs = optax.linear_schedule(0.0, 2.0, 10)
    assert ours == pytest.approx([float(theirs(step + 1)) for step in range(20)], rel=1e-6)


def test_cosine_agrees_with_optax_after_warmup():
    optim = OptimConfig(learning_rate=0.5, schedule="cosine", warmup_tokens=500, final_fraction=0.1)
    ours = rates(optim, 5000)
    theirs = optax.cosine_decay_schedule(0.5, 45, alpha=0.1)
    assert ours[5:] == pytest.approx([float(theirs(step)) for step in range(45)], rel=1e-6)


@pytest.mark.parametrize("shape", ["linear", "sqrt"])
def test_warmup_stable_decay_by_hand(shape):
    optim = OptimConfig(
        learning_rate=1.0, warmup_tokens=200, cooldown_tokens=400, cooldown_shape=shape, final_fraction=0.0
    )
    steps = [0.0, 0.25, 0.5, 0.75]
    decay = [1 - (math.sqrt(u) if shape == "sqrt" else u) for u in steps]
    assert rates(optim, 1000) == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, *decay])


def test_a_longer_run_is_the_same_until_its_shorter_one_cools_down():
    short = OptimConfig(warmup_tokens=300, cooldown_tokens=200)
    long = OptimConfig(warmup_tokens=300, cooldown_tokens=600)
    assert rates(short, 1000)[:8] == rates(long, 3000)[:8]


def test_no_step_of_any_schedule_is_at_rate_zero_or_above_the_peak():
    for schedule in ("wsd", "cosine", "constant"):
        cooldown = 500 if schedule == "wsd" else 0
        values = rates(
            OptimConfig(learning_rate=1.0, schedule=schedule, warmup_tokens=300, cooldown_tokens=cooldown), 1000
        )
        assert all(0 < value <= 1.0 for value in values)
