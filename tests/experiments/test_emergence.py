"""The design of the emergence experiment: enough scales, the transition inside them, labels of the tasks."""

import itertools

import pytest

from core.errors import BadInput
from data.skills import parse_skills
from data.tasks.registry import load
from experiments import registry
from experiments.emergence import ALGORITHMS, COUNTED, HELD_OUT, POSITIVE, SMOOTH, sweep
from model.ledger import parameter_counts

PRESETS = registry.load("emergence").presets


def sizes_and_depths(preset):
    found = {}
    for run in sweep(**PRESETS[preset]):
        found[parameter_counts(run.model)["non_embedding_plus_head"]] = run.model.depth
    return sorted(found.items())


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_at_least_eight_sizes_and_three_seeds_of_500_items(preset):
    runs = list(sweep(**PRESETS[preset]))
    sizes = sizes_and_depths(preset)
    assert len(sizes) >= 8 and len(runs) == 3 * len(sizes)
    assert {run.seed for run in runs} == {0, 1, 2} and {run.task_items for run in runs} == {500}
    assert len({(run.tokens, run.data, run.batch_tokens) for run in runs}) == 1
    steps = [after / before for (before, _), (after, _) in itertools.pairwise(sizes)]
    assert min(steps) > 1.05


@pytest.mark.parametrize("preset", ["cpu", "h100"])
def test_depth_grows_with_size_and_the_second_layer_comes_in_the_middle(preset):
    depths = [depth for _, depth in sizes_and_depths(preset)]
    assert depths == sorted(depths)
    assert 3 <= depths.index(2) <= len(depths) - 4


def test_the_counterfactual_covers_the_same_sizes_with_one_layer():
    deep, shallow = sizes_and_depths("cpu"), sizes_and_depths("cpu-shallow")
    assert {depth for _, depth in shallow} == {1}
    assert shallow[0][0] == deep[0][0] and shallow[-1][0] > 0.8 * deep[-1][0]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_controls_are_trained_on_and_held_out_tasks_are_not(preset):
    run = next(iter(sweep(**PRESETS[preset])))
    trained = {skill.task.name for skill in parse_skills(run.data.skills)}
    families = {skill.task.family for skill in parse_skills(run.data.skills)}
    assert trained == {*POSITIVE, COUNTED, "bigram", "grammar"}
    assert {load(name).family for name in SMOOTH} <= families
    assert set(run.tasks) >= {*POSITIVE, *SMOOTH, COUNTED, *HELD_OUT}
    for name in (*HELD_OUT, *ALGORITHMS):
        assert load(name).family not in families and load(name).name == name


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_problem_fits_and_exists(preset):
    from data.tokenizers import ByteTokenizer
    from training.evaluate.score import prepare_task

    run = next(iter(sweep(**PRESETS[preset])))
    for name in run.tasks:
        prepare_task(load(name), run.task_items, ByteTokenizer(), run.data.sequence_length)


def test_no_skill_is_read_more_than_twice():
    for preset in PRESETS:
        run = next(iter(sweep(**PRESETS[preset])))
        for skill in parse_skills(run.data.skills):
            assert run.tokens * skill.percent / 100 <= 2.2 * run.data.skill_tokens


def test_the_experiment_is_registered():
    assert "emergence" in registry.names()
    assert "emerges" in registry.load("emergence").headline


def test_shapes_come_in_pairs():
    with pytest.raises(BadInput, match="as many as widths"):
        sweep(widths=(16, 32), depths=(1,))
    with pytest.raises(BadInput, match="seeds=0"):
        sweep(seeds=0)
