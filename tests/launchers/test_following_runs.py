"""Runs that begin with the weights of others come after them, on every engine and in every plan."""

import itertools
import random

import pytest

from core.errors import BadInput
from core.order import firsts, generations, waves
from experiments.spec import Sweep
from launchers.manifests import families
from launchers.packs import form_packs
from launchers.queue import RunQueue
from launchers.slurm.batch import plan_arrays
from launchers.slurm.options import SlurmOptions
from model.config import ModelConfig
from planning.simulate import Estimate, simulate
from training.spec import RunSpec


def chain(seeds: int = 2) -> list[RunSpec]:
    """For each seed a base, a stage that follows it, one that follows that, and two that follow the base."""
    found = []
    for seed in range(seeds):
        base = RunSpec(model=ModelConfig(width=16), seed=seed)
        second = RunSpec(model=base.model, seed=seed, start="weights", parent=base.run_id)
        third = RunSpec(model=base.model, seed=seed, start="weights", parent=second.run_id)
        twins = [
            RunSpec(model=base.model, seed=10 + seed, tokens=tokens, start="weights", parent=base.run_id)
            for tokens in (524_288, 2_097_152)
        ]
        found += [base, second, third, *twins]
    return found


def shuffled(specs, seed):
    specs = list(specs)
    random.Random(seed).shuffle(specs)
    return specs


@pytest.mark.parametrize("seed", range(5))
def test_places_of_a_chain(seed):
    specs = chain()
    found = generations(shuffled(specs, seed))
    assert [found[spec.run_id] for spec in specs] == [0, 1, 2, 1, 1] * 2
    first = firsts(shuffled(specs, seed))
    assert [first[spec.run_id] for spec in specs] == [specs[0].run_id] * 5 + [specs[5].run_id] * 5
    alone = specs[2]
    assert generations([alone]) == {alone.run_id: 0}
    assert firsts([alone]) == {alone.run_id: alone.parent}


def test_no_pack_holds_a_run_and_one_that_it_waits_for():
    specs = shuffled(chain(4), 0)
    place = generations(specs)
    packs = form_packs(specs, lambda spec: 8)
    assert sorted(spec.run_id for pack in packs for spec in pack) == sorted(spec.run_id for spec in specs)
    assert all(len({place[spec.run_id] for spec in pack}) == 1 for pack in packs)
    assert max(map(len, packs)) == 4


def test_slurm_arrays_wait_for_those_that_they_follow():
    specs = shuffled(chain(), 1)
    arrays = plan_arrays(specs, SlurmOptions(), most_elements=100)
    where = {run: place for place, array in enumerate(arrays) for run in array.runs}
    for spec in specs:
        if spec.parent is not None:
            assert where[spec.parent] in arrays[where[spec.run_id]].after
            assert where[spec.parent] < where[spec.run_id]
    assert [array.role for array in arrays] == ["runs", "stages", "stages"]


def test_a_chain_whose_first_run_was_sent_before_keeps_its_order():
    specs = chain()
    left = [spec for spec in specs if spec.parent is not None]
    assert [waves(shuffled(left, 3))[spec.run_id] for spec in left] == [1, 2, 1, 1] * 2
    arrays = plan_arrays(shuffled(left, 3), SlurmOptions(), most_elements=100)
    where = {run: place for place, array in enumerate(arrays) for run in array.runs}
    assert [array.role for array in arrays] == ["stages", "stages"]
    for spec in left:
        if spec.parent in where:
            assert where[spec.parent] in arrays[where[spec.run_id]].after


def test_a_family_is_in_the_order_in_which_it_must_run():
    specs = shuffled(chain(), 2)
    found = families([[spec] for spec in specs])
    assert len(found) == 2 and sum(map(len, found)) == len(specs)
    for family in found:
        names = [spec.run_id for pack in family for spec in pack]
        for pack in family:
            for spec in pack:
                assert spec.parent is None or names.index(spec.parent) < names.index(spec.run_id)


def test_the_simulated_sweep_takes_the_longest_chain():
    specs = chain(1)
    seconds = dict(zip((spec.run_id for spec in specs), (10.0, 20.0, 40.0, 1.0, 1.0), strict=True))

    def estimate(spec):
        rate = spec.tokens / seconds[spec.run_id]
        return Estimate(rate, 0.0, 0.0, 0.0, 0.0, 0.0, None, "measured")

    line = simulate(specs, estimate, workers=4)
    assert line.ends[specs[2].run_id] >= 70
    for spec, parent in itertools.product(specs, specs):
        if spec.parent == parent.run_id:
            assert line.ends[spec.run_id] >= line.ends[parent.run_id] + seconds[spec.run_id]


def test_settings_rename_parents_along_the_chain():
    changed = Sweep(chain()).with_settings({"optim.learning_rate": "0.001"})
    names = {run.run_id for run in changed}
    assert all(run.parent is None or run.parent in names for run in changed)
    assert {run.optim.learning_rate for run in changed} == {0.001}


def test_a_failed_run_takes_its_followers_out_of_the_queue():
    specs = chain(1)
    queue = RunQueue(specs, lambda spec: spec.parent is None)
    assert queue.take(0) == specs[0]
    assert {spec.run_id for spec in queue.drop_followers_of(specs[0].run_id)} == {
        spec.run_id for spec in (specs[1], *specs[3:])
    }
    assert len(queue) == 1  # it follows one that will never run; it is dropped with that one


def test_a_sweep_whose_stage_cannot_begin_with_its_parent_is_refused():
    base = RunSpec(model=ModelConfig(width=16))
    with pytest.raises(BadInput, match=r"model\.width=32: parent=.* has 16"):
        Sweep([base, RunSpec(model=ModelConfig(width=32), start="weights", parent=base.run_id)])
