"""Short steps are waited for in groups, long ones one by one; what is written is the same."""

import contextlib
import math
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import pytest

from training import step_log
from training.step_log import MOST_IN_A_GROUP, StepLog


class Member:
    """A run whose log keeps what it is given, and whose loss is bad from a step on."""

    def __init__(self, bad_from: float = math.inf):
        self.lane, self.tokens, self.bad_from = 0, 0, bad_from
        self.rows: list[tuple[Any, ...]] = []
        self.cause: BaseException | None = None
        self.log = SimpleNamespace(write=self.write, clock=SimpleNamespace(compiling=0.0))

    @property
    def has_ended(self):
        return self.cause is not None

    def write(self, tokens, rate, loss, norm, seconds, sharers, others):
        if tokens >= self.bad_from:
            self.cause = ArithmeticError("diverged")
        else:
            self.rows.append((tokens, rate, loss, norm, seconds, sharers))

    def alone(self):
        return contextlib.nullcontext()


@pytest.fixture
def logged(monkeypatch):
    """Take `count` steps of so many seconds each; how many were fetched at once, and the rows."""

    def take(count: int, seconds: float, member: Member | None = None):
        clock = [0.0]
        monkeypatch.setattr(step_log.time, "perf_counter", lambda: clock[0])
        fetched: list[int] = []
        get = step_log.jax.device_get
        monkeypatch.setattr(
            step_log.jax, "device_get", lambda values: (fetched.append(len(values)), get(values))[1]
        )
        member = member or Member()
        log = StepLog([member])  # type: ignore[list-item]
        for step in range(1, count + 1):
            member.tokens = step
            clock[0] += seconds
            metrics = {"loss": jnp.float32(step), "grad_norm": jnp.float32(2 * step)}
            log.add([member], {0: {"learning_rate": step / 8}}, metrics)  # type: ignore[list-item]
        log.flush()
        return fetched, member

    return take


def test_steps_of_a_millisecond_are_fetched_in_groups_of_fifty(logged):
    fetched, member = logged(200, 0.001)
    assert fetched[0] == 1
    assert set(fetched[1:-1]) == {50}
    assert sum(fetched) == 200
    assert [row[:4] for row in member.rows] == [(n, n / 8, float(n), 2.0 * n) for n in range(1, 201)]
    assert sum(row[4] for row in member.rows) == pytest.approx(0.199)  # the first is compilation's


@pytest.mark.parametrize("seconds", [0.06, 1.0, 10.0])
def test_long_steps_are_fetched_one_by_one(logged, seconds):
    fetched, _ = logged(10, seconds)
    assert fetched == [1] * 10


def test_a_group_has_an_end(logged):
    fetched, _ = logged(500, 1e-6)
    assert max(fetched) == MOST_IN_A_GROUP


def test_nothing_is_written_after_a_divergence_in_the_middle_of_a_group(logged):
    _, member = logged(200, 0.001, Member(bad_from=77))
    assert [row[0] for row in member.rows] == list(range(1, 77))
    assert member.cause is not None
