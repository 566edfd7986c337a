"""Two recipes at equal loss: the multiplier, its trend, its crossing and its intervals against known truths."""

import dataclasses

import numpy as np
import pytest

from analysis.compare.compare import compare
from analysis.compare.fitted import Choices
from analysis.compare.metric import Metric
from analysis.compare.result import to_json
from analysis.compare.sentences import crossing, described, headline, sentence, trend
from analysis.compare.side import RecipeRuns
from bench.calibrate_compare import count
from bench.published import load_routing
from core.errors import BadInput

COSTS = np.geomspace(1e15, 1e18, 9)


def law(label, scale=60.0, alpha=0.12, floor=1.7, times=1.0, costs=COSTS, noise=0.0, seed=0):
    luck = np.exp(noise * np.random.default_rng(seed).standard_normal(costs.size))
    return RecipeRuns(label, costs, (floor + scale * (times * costs) ** -alpha) * luck)


def test_a_scaled_cost_is_that_multiplier_at_every_loss():
    found = compare(law("A"), law("B", times=1.3))
    assert [one.value for one in found.multipliers] == pytest.approx([1.3] * 7, rel=1e-6)
    assert found.overall.value == pytest.approx(1.3, rel=1e-6)
    assert found.slope.value == pytest.approx(0.0, abs=1e-6)
    assert found.floors["both"].value == pytest.approx(1.7, rel=1e-5)


@pytest.mark.parametrize("axis", ["flops", "seconds"])
def test_a_scaled_cost_is_that_multiplier_on_a_surface(axis):
    params, tokens = (one.ravel() for one in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    loss = 1.7 + 400 * params**-0.34 + 410 * tokens**-0.28
    a, b = (
        RecipeRuns(name, 6 * params * tokens / m, loss, params, tokens) for name, m in (("A", 1.0), ("B", 1.3))
    )
    found = compare(a, b, Choices(axis=axis))
    assert found.how == "law of size and data"
    assert [one.value for one in found.multipliers] == pytest.approx([1.3] * 7, rel=1e-4)


def test_the_frontier_of_a_surface_is_the_closed_form():
    """Hoffmann et al. 2022, eq. 4: the loss of the best split of C = 6 N D, found here by a search over sizes."""
    params, tokens = (one.ravel() for one in np.meshgrid(np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 1e11, 4)))
    loss = 1.7 + 400 * params**-0.34 + 410 * tokens**-0.28
    side = RecipeRuns("A", 6 * params * tokens, loss, params, tokens)
    found = compare(side, dataclasses.replace(side, label="B"), Choices(draws=100))
    for cost, expected in zip(found.costs, found.losses, strict=True):
        sizes = np.geomspace(1e5, 1e12, 200_001)
        best = (1.7 + 400 * sizes**-0.34 + 410 * (cost / 6 / sizes) ** -0.28).min()
        assert expected == pytest.approx(best, rel=1e-4)


def test_closed_form_at_equal_cost():
    """Under one floor and exponent, ((L_A - E) / (L_B - E))^(1 / alpha) with the losses of one cost."""
    found = compare(law("A", scale=60.0), law("B", scale=54.0))
    loss_a, loss_b = (1.7 + scale * 1e17**-0.12 for scale in (60.0, 54.0))
    assert found.overall.value == pytest.approx(((loss_a - 1.7) / (loss_b - 1.7)) ** (1 / 0.12), rel=1e-5)


def test_a_trend_and_a_crossing_that_were_planted():
    """The slope is 1 - alpha_A / alpha_B; the curves cross where A C^-alpha is equal on both sides."""
    cross = 2e16
    b = law("B", scale=60.0 * cross**0.03, alpha=0.15, noise=0.001, seed=1)
    found = compare(law("A", noise=0.001), b)
    assert found.slope.value == pytest.approx(1 - 0.12 / 0.15, abs=0.02)
    assert found.slope.excludes(0.0)
    loss, cost = found.crossing
    assert cost.value == pytest.approx(cross, rel=0.1)
    assert cost.interval[0] < cross < cost.interval[1]
    assert loss == pytest.approx(1.7 + 60 * cross**-0.12, rel=1e-3)
    assert crossing(found).endswith("below it A is cheaper, above it B.")
    assert "grows with scale" in trend(found)


def test_no_crossing_is_named_where_no_trend_is_told():
    assert compare(law("A", noise=0.002), law("B", noise=0.002, seed=1)).crossing is None


def test_a_target_beyond_the_runs_is_a_forecast():
    a, b = law("A", noise=1e-5), law("B", scale=40.0, alpha=0.105, noise=1e-5, seed=1)
    found = compare(a, b, Choices(target_cost=1e20))
    target_loss = 1.7 + 60 * 1e20**-0.12
    cost_b = ((target_loss - 1.7) / 40.0) ** (-1 / 0.105)
    assert found.target["value"] == pytest.approx(1e20 / cost_b, rel=0.02)
    assert found.target["interval"][0] < 1e20 / cost_b < found.target["interval"][1]
    assert found.target["extrapolated"]
    assert any("a forecast" in warning for warning in found.warnings)
    same = compare(a, b, Choices(target_loss=target_loss))
    assert same.target["value"] == pytest.approx(found.target["value"], rel=0.01)
    inside = compare(a, b, Choices(target_cost=1e16))
    assert not inside.target["extrapolated"]


def test_a_target_below_the_floor_is_refused():
    with pytest.raises(BadInput, match=r"--target-loss 1.2: at least one side does not reach it"):
        compare(law("A", noise=1e-4), law("B", noise=1e-4, seed=1), Choices(target_loss=1.2))


def test_floors_are_shared_or_own_or_given():
    a, b = law("A", floor=1.7, noise=1e-5), law("B", floor=1.5, scale=66.0, noise=1e-5, seed=1)
    own = compare(a, b, Choices(floor="own"))
    assert own.floors["A"].value == pytest.approx(1.7, abs=0.01)
    assert own.floors["B"].value == pytest.approx(1.5, abs=0.01)
    stored = to_json([own])["asymptote"]
    assert stored["how"] == "one a side, fitted"
    assert stored["value"] == [own.floors["A"].value, own.floors["B"].value]
    given = to_json([compare(a, law("B"), Choices(floor="given", given=1.7, source="a paper"))])["asymptote"]
    assert given == {"how": "pinned, from a paper", "value": 1.7, "interval": None}
    assert to_json([compare(a, law("B"))])["asymptote"]["how"] == "shared, fitted"


def test_shared_luck_narrows_the_interval():
    luck = np.array([f"{row}" for row in range(COSTS.size)])
    a, b = law("A", noise=0.004), law("B", times=1.3, noise=0.004)  # the same noise
    apart = compare(a, b)
    paired = compare(*(dataclasses.replace(side, luck=luck) for side in (a, b)))
    width = [np.log(one.overall.interval[1] / one.overall.interval[0]) for one in (apart, paired)]
    assert width[1] < width[0] / 5
    assert paired.overall.value == pytest.approx(1.3, rel=1e-3)


def test_a_law_that_misses_the_means_is_warned_of():
    costs = np.repeat(np.geomspace(1e15, 1e17, 5), 3)
    bent = np.repeat([0, 0.01, -0.015, 0.01, 0], 3)
    a = law("A", costs=costs, noise=2e-4)
    a = dataclasses.replace(a, loss=a.loss * np.exp(bent))
    b = law("B", times=1.3, costs=costs, noise=2e-4, seed=1)
    found = compare(a, b)
    assert found.how == "hull"
    assert any("the law misses the means of repeated runs" in warning for warning in found.warnings)
    kept = compare(a, b, Choices(frontier="law"))
    assert kept.how == "law of the cost"
    assert any("intervals rest on sizes, not on runs" in warning for warning in kept.warnings)
    assert kept.overall.interval[1] / kept.overall.interval[0] > 1.05


def test_few_runs_take_no_floor_and_say_so():
    costs = np.geomspace(1e15, 1e17, 3)
    found = compare(law("A", costs=costs), law("B", times=1.3, costs=costs))
    assert any("too few runs for a floor" in warning for warning in found.warnings)
    assert found.overall.value == pytest.approx(1.3, rel=0.02)
    assert to_json([found])["asymptote"]["how"] == "none"


def test_two_costs_a_side_have_no_interval():
    costs = np.geomspace(1e15, 1e17, 2)
    found = compare(law("A", costs=costs), law("B", times=1.3, costs=costs))
    assert found.overall.interval is None
    assert any("no intervals" in warning for warning in found.warnings)


def test_hulls_hold_the_truth_without_a_law():
    params, tokens = (one.ravel() for one in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e9, 1e11, 2)))
    sides = []
    for seed, (name, m) in enumerate((("A", 1.0), ("B", 1.3))):
        loss = 1.7 + 400 * params**-0.34 + 410 * tokens**-0.28
        loss = loss * np.exp(0.002 * np.random.default_rng(seed).standard_normal(params.size))
        sides.append(RecipeRuns(name, 6 * params * tokens / m, loss, params, tokens))
    found = compare(*sides)
    assert found.how == "hull"
    assert found.overall.value == pytest.approx(1.3, rel=0.08)
    assert not found.overall.excludes(1.3)
    with pytest.raises(BadInput, match="a law of both takes at least 3 of each"):
        compare(*sides, Choices(frontier="law"))


def test_disjoint_losses_are_refused():
    with pytest.raises(BadInput, match=r"no loss is reached by both sides: A from 2\.\d+ to 2\.\d+ and B from"):
        compare(law("A"), law("B", costs=COSTS * 1e6))


def test_one_cost_is_refused():
    with pytest.raises(BadInput, match="B: 3 runs of one cost only"):
        compare(law("A"), law("B", costs=np.full(3, 1e15)))


@pytest.mark.parametrize(
    "name", ["task/copying/exact_match", "task/x/choice_accuracy", "bits_per_byte", "val/loss"]
)
def test_a_metric_is_lower_the_better(name):
    metric = Metric.of(name)
    assert metric.lowered(0.25, "here") == (0.75 if "task" in name else 0.25)
    assert metric.per_token == (name == "val/loss")


def test_a_metric_of_unknown_direction_is_refused():
    with pytest.raises(BadInput, match="--metric task/copying/chance"):
        Metric.of("task/copying/chance")
    with pytest.raises(BadInput, match="w1: task/copying/exact_match 1 leaves no error"):
        Metric.of("task/copying/exact_match").lowered(1.0, "w1")


def test_sentences():
    a, b = law("A", noise=0.001), law("B", times=1.3, noise=0.001, seed=1)
    found = compare(a, b)
    low, high = found.overall.interval
    assert low < 1.3 < high
    assert headline(found).startswith(
        f"B reaches A's loss with {found.overall.value:.2f} [{low:.2f}, {high:.2f}] times less"
    )
    assert "whether the gain changes with scale is not told (slope" in sentence(found)
    assert headline(compare(b, a)).startswith("B needs") is False
    assert headline(compare(b, a)).startswith("A needs 1.3")
    assert "cannot be told apart" in headline(compare(a, law("B", noise=0.001, seed=3)))
    assert described(found)[1].startswith("  at loss 2.6")


def test_the_same_numbers_again():
    first, second = (to_json([compare(law("A", noise=0.002), law("B", noise=0.002, seed=1))]) for _ in range(2))
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("design", "pairs", "multiplier"),
    [
        ("25 runs", 60, 1.3),
        ("5 sizes, 3 seeds, paired", 60, 1.0),
        pytest.param("25 runs", 60, 1.0, marks=pytest.mark.long),
        pytest.param("5 sizes, 3 seeds, paired", 60, 1.3, marks=pytest.mark.long),
        pytest.param("5 x 5 grid", 60, 1.0, marks=pytest.mark.long),
        pytest.param("5 x 5 grid", 60, 1.3, marks=pytest.mark.long),
    ],
)
def test_coverage(design, pairs, multiplier):
    """A small edition of `python -m bench.calibrate_compare`, whose 1,000 pairs are in docs/guides/compare.md."""
    hits, values, _ = count(design, pairs, multiplier, draws=200)
    for name, hit in hits.items():
        assert np.mean(hit) >= 0.88, name
    assert np.exp(np.mean(np.log(values))) == pytest.approx(multiplier, rel=0.01)


def test_dense_against_64_experts_falls_with_size():
    """Clark et al. 2022: routing buys less as models grow, under their law, which has no floor (eq. 2)."""
    table = load_routing()
    dense, experts = (
        RecipeRuns(name, one["params"], one["loss"])
        for name, one in (("dense", table["1"]), ("64", table["64"]))
    )
    asked = Choices(axis="params", floor="given", source="Clark et al. 2022, eq. 2")
    found = compare(dense, experts, asked)
    values = [one.value for one in found.multipliers]
    assert values == sorted(values, reverse=True)
    assert found.slope.value == pytest.approx(-0.18, abs=0.01)
    assert found.slope.excludes(0.0)
    assert 3.9 < found.overall.value < 6.0
    assert "the gain shrinks with scale" in sentence(found)
    # A floor takes the curvature that this law has none for: what is left of the trend is not told from none.
    free = compare(dense, experts, dataclasses.replace(asked, floor="shared"))
    assert free.slope.value < 0
    assert not free.slope.excludes(0.0)
