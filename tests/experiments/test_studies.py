"""The shipped studies: what their plans promise, and every bad argument refused in one line."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import launch
from core.errors import BadInput
from experiments import chinchilla, data_constrained, depth_width, isoflop, kaplan, registry, tokenizer
from training.cost import ledger_of, parameter_count, training_flops

pytestmark = pytest.mark.slow

# The optimum that the default ladder of isoflop is built around: tokens per parameter.
RATIO = 36.0
H100_DENSE_BF16 = 989e12  # FLOP/s, NVIDIA H100 SXM data sheet


def whole_flops(run):
    """FLOPs of the whole training that a run stands for, the tokens of its trunk included."""
    return ledger_of(run)["flops_per_token"]["exact"] * run.tokens


def ends(sweep):
    return [run for run in sweep if not run.is_trunk]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("chinchilla", ["--params"], ["params"]),
        ("chinchilla", ["--params", "10"], ["params=10"]),
        ("chinchilla", ["--params", "-5"], ["params=-5"]),
        ("chinchilla", ["--params", "nan"], ["params=nan"]),
        ("chinchilla", ["--tokens", "100"], ["tokens=100", "1024"]),
        ("chinchilla", ["--tokens", "0"], ["tokens=0"]),
        ("chinchilla", ["--most-flops", "-1"], ["most_flops=-1"]),
        ("chinchilla", ["--most-flops", "1e9"], ["most_flops=1e+09", "tokens=163840"]),
        ("chinchilla", ["--seeds", "0"], ["seeds=0"]),
        ("chinchilla", ["--sequence-length", "1"], ["sequence_length=1"]),
        ("chinchilla", ["--compute-dtype", "float8"], ["compute-dtype", "float8"]),
        ("isoflop", ["--budgets", "0"], ["budgets=0"]),
        ("isoflop", ["--budgets", "inf"], ["budgets=inf"]),
        ("isoflop", ["--budgets", "1e6"], ["params"]),
        ("isoflop", ["--sizes", "2"], ["sizes=2", "at least 3"]),
        ("isoflop", ["--step", "1"], ["step=1"]),
        ("isoflop", ["--tokens-per-param", "0"], ["--tokens-per-param=0"]),
        ("kaplan", ["--params", "0"], ["params=0"]),
        ("kaplan", ["--tokens", "-1024"], ["tokens=-1024"]),
        ("kaplan", ["--corpus", "novels"], ["novels", "text:PATH"]),
        ("data_constrained", ["--unique-tokens", "-1"], ["unique_tokens=-1"]),
        ("data_constrained", ["--unique-tokens", "5"], ["unique_tokens=5", "128"]),
        (
            "data_constrained",
            ["--unique-tokens", "99999999"],
            ["unique_tokens=99999999", "nothing is repeated"],
        ),
        ("tokenizer", ["--tokenizers", "morse"], ["morse", "bpe:SIZE"]),
        ("tokenizer", ["--tokenizers", "bpe:10"], ["bpe:10", "257"]),
        ("tokenizer", ["--tokenizers", "word:many"], ["word:many"]),
        ("tokenizer", ["--tokenizers", "file:x.json"], ["file:x.json"]),
        ("tokenizer", ["--budgets", "1e6"], ["budgets=1e+06", "below one batch"]),
        ("tokenizer", ["--widths", "20"], ["widths=20", "16"]),
        ("tokenizer", ["--characters", "0"], ["characters=0"]),
        ("depth_width", ["--depths", "0"], ["depths=0"]),
        ("depth_width", ["--depths", "500"], ["depths=500", "params=34000"]),
        ("depth_width", ["--params", "1"], ["params=1"]),
        ("depth_width", ["--preset", "gpu"], ["--preset=gpu", "cpu"]),
    ],
)
def test_bad_arguments_are_one_line(capsys, tmp_path, name, arguments, words):
    with pytest.raises(SystemExit) as caught:
        launch.main(["plan", name, *arguments, "--runs", str(tmp_path)])
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sweep", "arguments", "name"),
    [
        (chinchilla.sweep, {"params": ()}, "params"),
        (chinchilla.sweep, {"tokens": ()}, "tokens"),
        (isoflop.sweep, {"budgets": ()}, "budgets"),
        (kaplan.sweep, {"tokens": ()}, "tokens"),
        (data_constrained.sweep, {"unique_tokens": ()}, "unique_tokens"),
        (data_constrained.sweep, {"tokens": ()}, "tokens"),
        (tokenizer.sweep, {"tokenizers": ()}, "tokenizers"),
        (tokenizer.sweep, {"widths": ()}, "widths"),
        (depth_width.sweep, {"depths": ()}, "depths"),
        (depth_width.sweep, {"params": ()}, "params"),
    ],
)
def test_an_empty_list_is_refused_by_name(sweep, arguments, name):
    with pytest.raises(BadInput, match=f"{name}=|empty"):
        sweep(**arguments)


@pytest.mark.parametrize(
    "name", ["chinchilla", "isoflop", "kaplan", "data_constrained", "tokenizer", "depth_width"]
)
def test_trunks_save_a_third_of_every_study(name):
    """0.8 of the longest data size of a factor 2 ladder and 0.2 of all, over all: 0.6 for a long ladder."""
    sweep = registry.load(name).sweep(**registry.load(name).presets["cpu"])
    apart = sum(whole_flops(run) for run in ends(sweep))
    assert sum(map(training_flops, sweep)) < 0.67 * apart


def test_the_plan_says_that_shared_tokens_are_counted_once(capsys, tmp_path):
    assert launch.main(["plan", "kaplan", "--runs", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    sweep = kaplan.sweep()
    shared = sum(run.branch_at_tokens or 0 for run in sweep)
    assert f"branches share {shared / 1e6:.3g}M tokens with their trunks: trained once, counted once" in text
    trained = sum(ledger_of(run)["flops_per_token"]["exact"] * run.trained_tokens for run in sweep)
    assert f"{trained:.3e} FLOPs (exact)" in text


def test_no_run_of_chinchilla_costs_more_than_its_limit():
    sweep = chinchilla.sweep()
    assert max(whole_flops(run) for run in ends(sweep)) <= 1.2e12
    reached = {(run.model, run.tokens) for run in ends(sweep)}
    assert len({model for model, _ in reached}) == 6
    # Whatever is left out would have cost more.
    for model in {model for model, _ in reached}:
        cost = next(ledger_of(run)["flops_per_token"]["exact"] for run in sweep if run.model == model)
        for tokens in (163_840, 327_680, 655_360, 1_310_720, 2_621_440, 5_242_880, 10_485_760):
            assert ((model, tokens) in reached) == (tokens * cost <= 1.2e12)


def test_the_h100_grid_is_what_its_docstring_says():
    sweep = chinchilla.sweep(**chinchilla.PRESETS["h100"])
    sizes = sorted({parameter_count(run) for run in sweep})
    assert len(sizes) >= 6
    assert len({run.tokens for run in ends(sweep)}) >= 4
    assert 0.9e6 < sizes[0] < 1.2e6
    assert 5e7 < sizes[-1] < 6.5e7
    assert any(run.is_trunk for run in sweep)
    assert sum(map(training_flops, sweep)) / (0.08 * H100_DENSE_BF16) == pytest.approx(25 * 60, rel=0.05)


@settings(max_examples=10, deadline=None)
@given(st.floats(3e11, 1e18), st.integers(3, 7))
def test_sizes_of_a_budget_cost_the_budget_and_surround_the_optimum(budget, sizes):
    runs = ends(isoflop.sweep(budgets=(budget,), sizes=sizes))
    assert all(abs(whole_flops(run) / budget - 1) < 0.02 for run in runs)
    counts = [parameter_count(run) for run in runs]
    optimum = math.sqrt(budget / 6 / RATIO)
    assert min(counts) < optimum < max(counts)


def test_a_size_that_serves_several_budgets_is_one_trunk():
    sweep = isoflop.sweep()
    trunks = [run for run in sweep if run.is_trunk]
    assert len({run.model for run in trunks}) == len(trunks)
    assert all(sum(other.parent == trunk.run_id for other in sweep) >= 2 for trunk in trunks)


def test_only_repetition_differs_between_limits():
    sweep = data_constrained.sweep()
    assert {run.data.unique_tokens for run in sweep} == {0, 32_768, 131_072, 524_288}
    assert all(run.tokens > run.data.unique_tokens for run in sweep)
    assert len({(run.model, run.optim.warmup_tokens) for run in sweep}) == len({run.model for run in sweep})


def test_tokenizers_get_equal_compute_and_enough_rows():
    sweep = tokenizer.sweep()
    rows = {run.data.tokenizer: run.model.vocabulary for run in sweep}
    assert rows == {"byte": 256, "char": 256, "word:2048": 2048, "bpe:512": 512, "bpe:2048": 2048}
    for run in ends(sweep):
        assert min(abs(whole_flops(run) / budget - 1) for budget in (1e11, 2e11, 4e11, 8e11)) < 0.02
    body = {(run.model.width, run.model.depth, run.model.resolved_ff_width, run.model.heads) for run in sweep}
    assert len(body) == 2


@settings(max_examples=10, deadline=None)
@given(st.floats(3e4, 3e6), st.integers(1, 8))
def test_shapes_agree_in_parameters_within_a_percent(params, depth):
    rule = isoflop.ScalingRule()
    try:
        model = depth_width.shape(rule, params, depth)
    except BadInput as error:
        assert f"depths={depth}" in str(error)  # noqa: PT017 - a refusal is one of two right answers
        return
    assert abs(rule.count(model) / params - 1) <= 0.01
    assert model.depth == depth
    assert model.width % model.heads == 0
    assert 1.5 <= model.ff_width / model.width <= 5


def test_the_shipped_shapes_span_an_order_of_magnitude_in_aspect():
    for size in (3.4e4, 1.2e5):
        shapes = [depth_width.shape(isoflop.ScalingRule(), size, depth) for depth in (1, 2, 4, 8)]
        aspects = [shape.width / shape.depth for shape in shapes]
        assert max(aspects) / min(aspects) > 10
