"""The simulated launcher: sums where they can be done by hand, and what holds for every sweep."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.scaling import ScalingRule
from launchers.packs import pack_gain
from planning.simulate import POLL_SECONDS, simulate
from planning.throughput import Estimate

RULE = ScalingRule()
SPEED = Estimate(
    tokens_per_second=1024.0, first_seconds=10.0, load_seconds=2.0, run_seconds=1.0, evaluation_seconds=0.0,
    start_seconds=5.0, peak_bytes=None, basis="measured",
)  # fmt: skip


def run(width: int, steps: int, seed: int = 0):
    return RULE.run(0, 1024 * steps, seed, model=RULE.shape(width, 2))


def test_one_worker_does_everything_in_turn_and_compiles_each_shape_once():
    runs = [run(16, 100), run(16, 50), run(32, 30)]
    line = simulate(runs, lambda spec: SPEED, 1)
    assert line.wall_seconds == pytest.approx(5 + 2 * 10 + 180 + 3 * 1)
    assert line.compile_seconds == 20
    assert simulate(runs, lambda spec: SPEED, 1, cached=True).compile_seconds == 4


def test_two_workers_share_the_longest_group_and_load_what_the_other_compiled():
    runs = [run(16, 100, seed) for seed in range(4)]
    line = simulate(runs, lambda spec: SPEED, 2)
    # the first: 5 + 10, then twice 101; the second loads (2) instead of compiling
    assert line.wall_seconds == pytest.approx(5 + 10 + 202)
    assert line.busy_seconds == (212.0, 204.0)


def test_a_branch_waits_for_the_checkpoint_of_its_trunk():
    trunk, *branches = RULE.trunk_and_branches(0, (102_400, 204_800), model=RULE.shape(16, 2))
    line = simulate([trunk, *branches], lambda spec: SPEED, 2)
    begun = 5 + 10
    seconds = {spec.run_id: SPEED.seconds(spec) for spec in (trunk, *branches)}
    first, last = branches
    assert first.branch_at_tokens is not None
    share = first.branch_at_tokens / trunk.tokens
    ready = begun + share * seconds[trunk.run_id] + POLL_SECONDS
    assert line.ends[first.run_id] == pytest.approx(ready + 2 + seconds[first.run_id])
    assert line.ends[trunk.run_id] == pytest.approx(begun + seconds[trunk.run_id])
    assert line.ends[last.run_id] > line.ends[trunk.run_id]


def test_a_branch_whose_trunk_is_done_starts_at_once():
    _, branch, _ = RULE.trunk_and_branches(0, (102_400, 204_800), model=RULE.shape(16, 2))
    assert simulate([branch], lambda spec: SPEED, 1).wall_seconds == pytest.approx(15 + SPEED.seconds(branch))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([16, 32]), st.integers(20, 200), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 5),
)
def test_whatever_the_sweep_every_run_ends_once_and_no_bound_is_broken(described, workers):
    specs = {}
    for index, (width, steps, trunked) in enumerate(described):
        model = RULE.shape(width, 2)
        new = (
            RULE.trunk_and_branches(0, (512 * steps, 1024 * steps), index, model)
            if trunked
            else [RULE.run(0, 1024 * steps, index, model=model)]
        )
        specs |= {spec.run_id: spec for spec in new}
    line = simulate(list(specs.values()), lambda spec: SPEED, workers)
    assert set(line.ends) == set(specs)
    work = sum(SPEED.seconds(spec) for spec in specs.values())
    assert sum(line.busy_seconds) == pytest.approx(work + line.compile_seconds)
    assert line.wall_seconds >= 5 + (sum(line.busy_seconds)) / workers - 1e-6
    assert line.wall_seconds >= max(line.ends.values()) - 1e-6
    for spec in specs.values():
        if spec.parent is not None:  # it waits for the trunk's tokens, whoever trains them
            assert line.ends[spec.run_id] >= 5 + 2 + (spec.branch_at_tokens or 0) / 1024 + SPEED.seconds(spec)


def test_a_pack_trains_its_runs_at_its_own_speed_and_the_rest_in_turn():
    runs = [run(16, 100, seed) for seed in range(4)] + [run(32, 30)]
    gains = {1: 1.0, 4: 2.5}
    line = simulate(runs, lambda spec: SPEED, 1, most=lambda spec: 4, gain=lambda spec, members: gains[members])
    # two programs (4 lanes, and 1 of the other shape), 400 s of steps at 2.5 times the speed, 30 s alone, 5 runs' 1 s
    assert line.wall_seconds == pytest.approx(5 + 2 * 10 + 400 / 2.5 + 30 + 5 * 1)
    assert len({line.ends[spec.run_id] for spec in runs[:4]}) == 1
    assert line.packs == 1


def test_a_pack_of_branches_waits_for_the_checkpoint_of_its_trunks():
    tokens = (102_400, 204_800)
    families = [RULE.trunk_and_branches(0, tokens, seed, RULE.shape(16, 2)) for seed in range(2)]
    trunks, branches, later = zip(*families, strict=True)
    line = simulate([*trunks, *branches, *later], lambda spec: SPEED, 2, most=lambda spec: 2)
    together = 2 * SPEED.seconds(trunks[0])
    share = branches[0].branch_at_tokens / trunks[0].tokens
    ready = 5 + 10 + share * together + POLL_SECONDS
    assert line.packs == 3
    for spec in trunks:
        assert line.ends[spec.run_id] == pytest.approx(5 + 10 + together)
    for spec in branches:
        assert line.ends[spec.run_id] == pytest.approx(ready + 2 + 2 * SPEED.seconds(spec))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 3))
def test_packs_without_a_gain_cost_what_their_runs_cost(count, most, workers):
    runs = [run(16, 10 + index // 5, index) for index in range(count)]
    line = simulate(runs, lambda spec: SPEED, workers, most=lambda spec: most)
    assert sum(line.busy_seconds) - line.compile_seconds == pytest.approx(sum(map(SPEED.seconds, runs)))
    if most == 1:
        assert line == simulate(runs, lambda spec: SPEED, workers)


def test_the_gain_between_measured_sizes():
    rates = {1: 100.0, 2: 150.0, 4: 350.0}
    assert [pack_gain(rates, members) for members in (1, 2, 3, 4, 9)] == [1.0, 1.5, 2.5, 3.5, 3.5]
    assert pack_gain({}, 8) == 1.0
