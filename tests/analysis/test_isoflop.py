"""isoFLOP valleys: truths recovered, intervals that cover, and nothing reported that is no valley."""

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import Akima1DInterpolator, lagrange
from scipy.optimize import minimize_scalar
from scipy.spatial import ConvexHull

from analysis.isoflop import command as isoflop
from analysis.isoflop.find import Method, find_valleys
from analysis.isoflop.hull import lower_hull
from analysis.isoflop.noise import pooled_noise
from analysis.isoflop.slices import Kind, make_slices, read_weights
from analysis.isoflop.valleys import akima_minima, akima_values, parabola_minima
from core.errors import BadInput

# Hoffmann et al. 2022 (arXiv 2203.15556), eq. 10.
HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def loss_of(n, d, law=HOFFMANN):
    return law["E"] + law["A"] / n ** law["alpha"] + law["B"] / d ** law["beta"]


def best_params(flops, law=HOFFMANN):
    """Hoffmann et al. 2022, eq. 4: N_opt = G (C / 6)^a."""
    total = law["alpha"] + law["beta"]
    g = (law["alpha"] * law["A"] / (law["beta"] * law["B"])) ** (1 / total)
    return g * (flops / 6) ** (law["beta"] / total)


def budget_table(budgets, sizes=8, span=8.0, noise=0.0, seed=0, law=HOFFMANN, centre=1.0):
    n = np.concatenate([best_params(c, law) * centre * np.geomspace(1 / span, span, sizes) for c in budgets])
    c = np.repeat(np.asarray(budgets, float), sizes)
    d = c / (6 * n)
    generator = np.random.default_rng(seed)
    return {
        "params": n,
        "tokens": d,
        "loss": loss_of(n, d, law) * np.exp(noise * generator.normal(size=n.size)),
    }


BUDGETS = tuple(np.geomspace(1e18, 1e21, 7))
TRUE_A = 0.28 / 0.62


@pytest.mark.parametrize("method", ["parabola", "cubic", "akima", "hull"])
def test_exponents_of_a_noiseless_law_are_recovered(method):
    result = find_valleys(budget_table(BUDGETS, sizes=9), method=method, bootstrap=100)
    assert all(valley.ok for valley in result.valleys)
    # what akima reports is the median over noise, which is never quite nothing
    within = 1e-4 if method == "akima" else 1e-6
    assert result.derived["a_opt"] == pytest.approx(TRUE_A, abs=within)
    assert result.derived["b_opt"] == pytest.approx(1 - TRUE_A, abs=within)
    low, high = result.intervals["a_opt"] or (1.0, 0.0)
    assert low <= TRUE_A <= high


def test_parabola_finds_the_best_size_and_its_loss():
    # A narrow slice, so that the law itself is nearly a parabola there.
    (valley, *_) = find_valleys(budget_table(BUDGETS, span=1.5, sizes=7)).valleys
    assert valley.flops == pytest.approx(1e18, rel=1e-12)
    assert valley.params_opt == pytest.approx(best_params(1e18), rel=0.01)
    assert valley.tokens_opt == pytest.approx(1e18 / 6 / (valley.params_opt or 0.0), rel=1e-9)
    best = best_params(1e18)
    assert valley.loss_opt == pytest.approx(loss_of(best, 1e18 / 6 / best), rel=1e-5)


@pytest.mark.parametrize("method", ["parabola", pytest.param("akima", marks=pytest.mark.long)])
def test_intervals_cover_the_truth_as_often_as_they_say(method):
    hits, tables = 0, 200
    for seed in range(tables):
        result = find_valleys(budget_table(BUDGETS, noise=0.002, seed=seed), method, 200, level=0.9)
        low, high = result.intervals["a_opt"] or (1.0, 0.0)
        hits += low <= TRUE_A <= high
    # 90% nominal; 4 binomial standard deviations below, and no vacuous intervals.
    assert hits / tables > 0.9 - 4 * np.sqrt(0.09 / tables)
    assert high - low < 0.15


def test_repeated_seeds_measure_the_noise():
    one, two = (budget_table(BUDGETS, noise=0.004, seed=seed) for seed in (1, 2))
    both = {name: np.concatenate([one[name], two[name]]) for name in one}
    result = find_valleys(both, bootstrap=50)
    difference = np.log(one["loss"] / two["loss"])
    assert result.noise == pytest.approx(np.sqrt((difference**2).sum() / 2 / difference.size), rel=1e-9)
    assert result.noise == pytest.approx(0.004, rel=0.3)


@pytest.mark.parametrize("interpolated", [False, True])
def test_noise_is_estimated_without_bias(interpolated):
    if interpolated:
        n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(3e9, 1e11, 6)))
        table = {"params": n, "tokens": d, "loss": np.full(n.size, 2.0)}
    else:
        table = {**budget_table(BUDGETS), "loss": np.full(56, 2.0)}
    slices, _ = make_slices(table, "interpolated" if interpolated else "budgets")
    generator = np.random.default_rng(3)
    shape = (1000, len(table["loss"]))
    estimates = [pooled_noise(slices, loss) for loss in 2.0 * (1 + 0.01 * generator.normal(size=shape))]
    squares = np.array([sd**2 for sd, *_ in estimates])
    assert squares.mean() == pytest.approx(1e-4, rel=0.08)
    # Satterthwaite: the relative variance of a mean square with f degrees of freedom is 2 / f.
    assert 2 / (squares.var() / squares.mean() ** 2) == pytest.approx(estimates[0][1], rel=0.3)


def test_an_upside_down_valley_is_refused():
    table = budget_table(BUDGETS)
    middle = np.log(table["params"]) - np.log(best_params(6 * table["params"] * table["tokens"]))
    table["loss"] = 3.0 - 0.02 * middle**2
    result = find_valleys(table)
    assert {valley.why for valley in result.valleys} == {
        "opens downward: the parabola through it has a maximum, no minimum"
    }
    assert all(valley.params_opt is None and not valley.ok for valley in result.valleys)
    assert result.derived["a_opt"] is None
    assert "no power law: 0 valleys" in " ".join(result.warnings)


@pytest.mark.parametrize(("centre", "edge"), [(30.0, "smallest"), (1 / 30, "largest")])
@pytest.mark.parametrize("method", ["parabola", "akima"])
def test_a_minimum_beyond_the_sizes_tried_is_refused(method, centre, edge):
    result = find_valleys(budget_table(BUDGETS, centre=centre), method)
    assert all(f"at or beyond the {edge} size tried" in valley.why for valley in result.valleys)
    assert result.derived["a_opt"] is None


@pytest.mark.parametrize("centre", [30.0, 1 / 30])
def test_the_hull_does_not_report_unbracketed_sizes(centre):
    result = find_valleys(budget_table(BUDGETS, centre=centre), "hull", bootstrap=0)
    assert result.valleys
    assert all(not valley.ok and "not bracketed" in valley.why for valley in result.valleys)


@pytest.mark.parametrize("method", ["parabola", "akima"])
def test_noise_without_a_valley_is_not_taken_for_one(method):
    reported, looked = 0, 0
    for seed in range(40):
        table = budget_table(BUDGETS)
        table["loss"] = 3.0 + 0.01 * np.random.default_rng(seed).normal(size=table["loss"].size)
        valleys = find_valleys(table, method, bootstrap=0).valleys
        reported += sum(valley.ok for valley in valleys)
        looked += len(valleys)
        assert {True} != {valley.ok for valley in valleys}
    assert reported / looked < 0.1


def test_a_bad_budget_leaves_the_others_standing():
    table = budget_table(BUDGETS)
    keep = np.ones(table["loss"].size, bool)
    keep[3:8] = False  # the first budget keeps three sizes
    result = find_valleys({name: values[keep] for name, values in table.items()})
    assert result.valleys[0].why == "too few sizes: 3 at this budget, 4 are needed"
    assert [valley.ok for valley in result.valleys] == [False] + [True] * 6
    assert result.derived["a_opt"] == pytest.approx(TRUE_A, abs=1e-6)


def test_losses_are_corrected_to_the_exact_budget():
    table = budget_table(BUDGETS)
    generator = np.random.default_rng(5)
    table["tokens"] = table["tokens"] * generator.uniform(0.96, 1.04, size=table["tokens"].size)
    table["loss"] = loss_of(table["params"], table["tokens"])
    slices, _ = make_slices(table)
    for piece in slices:
        n = np.exp(piece.log_params_S)
        truth = loss_of(n, piece.flops / (6 * n))
        uncorrected = table["loss"][piece.rows_R] - truth
        assert np.abs(piece.losses(table["loss"]) - truth).max() < 0.35 * np.abs(uncorrected).max()
    assert find_valleys(table).derived["a_opt"] == pytest.approx(TRUE_A, abs=0.01)


def test_a_grid_is_interpolated_and_said_so():
    law = {"E": 1.0, "A": 40.0, "B": 180.0, "alpha": 0.34, "beta": 0.36}
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(2e4, 5e5, 5), np.geomspace(5e5, 8e6, 4)))
    result = find_valleys({"params": n, "tokens": d, "loss": loss_of(n, d, law)})
    assert any("slices are interpolated in tokens" in warning for warning in result.warnings)
    for piece in result.slices:
        sizes = np.exp(piece.log_params_S)
        tokens = np.exp(piece.log_tokens_S)
        np.testing.assert_allclose(6 * sizes * tokens, piece.flops, rtol=1e-9)
        assert (tokens > 5e5 * (1 - 1e-6)).all()
        assert (tokens < 8e6 * (1 + 1e-6)).all()
        np.testing.assert_allclose(piece.losses(loss_of(n, d, law)), loss_of(sizes, tokens, law), rtol=3e-4)
    for valley in result.valleys:
        if valley.ok:
            assert valley.params_opt == pytest.approx(best_params(valley.flops, law), rel=0.25)


def test_a_table_without_slices_is_refused():
    n = np.geomspace(1e6, 1e9, 8)
    columns = {"params": n, "tokens": 20 * n, "loss": loss_of(n, 20 * n)}
    for kind in ("auto", "budgets", "interpolated"):
        with pytest.raises(BadInput, match="no FLOP budget has 4 sizes"):
            find_valleys(columns, kind=kind)
    with pytest.raises(BadInput, match="2 sizes: a hull"):
        find_valleys({name: values[:2] for name, values in columns.items()}, "hull")


def test_akima_equals_scipy_and_its_minimum_is_the_lowest_point():
    generator = np.random.default_rng(0)
    for size in (4, 5, 6, 9, 15):
        x = np.sort(generator.uniform(0, 10, size))
        loss = 2 + 0.05 * (x - 5) ** 2 + 0.1 * generator.normal(size=(20, size))
        minima = akima_minima(x, loss)
        fine = np.linspace(x[0], x[-1], 4001)
        for row in range(20):
            reference = Akima1DInterpolator(x, loss[row])
            np.testing.assert_allclose(akima_values(x, loss[row], fine), reference(fine), atol=1e-11)
            guess = fine[reference(fine).argmin()]
            width = fine[1] - fine[0]
            polished = minimize_scalar(
                reference,
                bounds=(max(guess - width, x[0]), min(guess + width, x[-1])),
                method="bounded",
                options={"xatol": 1e-10},
            )
            assert minima.loss_B[row] <= min(polished.fun, reference(fine).min()) + 1e-12
            assert minima.loss_B[row] == pytest.approx(reference(minima.log_params_B[row]), abs=1e-12)


def test_parabola_equals_polyfit():
    generator = np.random.default_rng(1)
    x = np.sort(generator.uniform(15, 20, 7))
    loss = 3 + 0.1 * (x - 17) ** 2 + 0.02 * generator.normal(size=(10, 7))
    minima = parabola_minima(x, loss)
    for row in range(10):
        c2, c1, c0 = np.polyfit(x - 17, loss[row], 2)
        assert minima.log_params_B[row] == pytest.approx(17 - c1 / (2 * c2), abs=1e-9)
        assert minima.loss_B[row] == pytest.approx(c0 - c1**2 / (4 * c2), abs=1e-9)


def test_interpolation_weights_equal_scipys_polynomial():
    knots = np.array([1.0, 2.0, 3.5, 4.0, 6.0])
    values = np.array([3.0, 2.5, 2.1, 2.0, 1.9])
    assert read_weights(knots, np.array([3.7]))[0] @ values == pytest.approx(
        lagrange(knots[1:], values[1:])(3.7)
    )
    assert read_weights(knots[:3], np.array([1.7]))[0] @ values[:3] == pytest.approx(
        lagrange(knots[:3], values[:3])(1.7)
    )
    np.testing.assert_allclose(read_weights(knots, np.array([3.5]))[0], [0, 0, 1, 0, 0], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=25))
def test_the_hull_is_scipys_lower_hull(points):
    xy = np.array(points, float)
    hull = lower_hull(xy[:, 0], xy[:, 1])
    assert (np.diff(xy[hull, 0]) > 0).all()
    assert (np.diff(xy[hull, 1]) < 0).all()
    if np.linalg.matrix_rank(xy - xy[0]) == 2:
        # Qhull's facets whose outward normal points down and left are exactly the falling lower part.
        equations = ConvexHull(xy)
        vertices: set[tuple[float, ...]] = set()
        for simplex, equation in zip(equations.simplices, equations.equations, strict=True):
            if equation[1] < -1e-9 and equation[0] < -1e-9:
                vertices.update(map(tuple, xy[simplex]))
        if vertices:
            assert set(map(tuple, xy[hull])) == vertices


def write_csv(path, table):
    names = list(table)
    lines = [",".join(names)] + [
        ",".join(map(repr, map(float, row))) for row in zip(*table.values(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_command_writes_the_contract(tmp_path, capsys):
    table = write_csv(tmp_path / "table.csv", budget_table(BUDGETS, noise=0.001))
    out = tmp_path / "isoflop.json"
    isoflop.main([str(table), "--method", "parabola", "--bootstrap", "200", "--out", str(out)])
    written = json.loads(out.read_text())
    assert {"method", "valleys", "derived", "intervals", "warnings", "input"} <= written.keys()
    assert written["method"] == "parabola"
    assert {"flops", "params_opt", "tokens_opt", "loss_opt", "ok", "why"} <= written["valleys"][0].keys()
    assert written["input"]["rows"] == 56
    low, high = written["intervals"]["a_opt"]
    assert low < written["derived"]["a_opt"] < high
    first = out.read_bytes()
    isoflop.main([str(table), "--method", "parabola", "--bootstrap", "200", "--out", str(out)])
    assert out.read_bytes() == first
    assert "best params grow as C^0.4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "spline"], "argument --method: invalid choice: 'spline'"),
        (["--bootstrap", "-1"], "--bootstrap -1: must be at least 0"),
        (["--bootstrap", "x"], "argument --bootstrap: invalid int value: 'x'"),
        (["--level", "1"], "--level 1.0: must be between 0 and 1"),
        (["--tolerance", "0"], "--tolerance 0.0: must be positive"),
        (["--noise", "nan"], "--noise nan: must be positive"),
        (["--min-points", "2"], "--min-points 2: must be at least 3"),
        (["--seed", "-3"], "--seed -3: must be at least 0"),
        (["--unheard-of"], "unrecognized arguments: --unheard-of"),
        (["--out", "/dev/null/x.json"], "/dev/null/x.json: cannot be written"),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, capsys, arguments, said):
    table = write_csv(tmp_path / "table.csv", budget_table(BUDGETS))
    with pytest.raises(SystemExit) as stopped:
        isoflop.main([str(table), "--out", str(tmp_path / "out.json"), *arguments])
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert said in shown.err


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_table_is_answered_or_refused_without_nan(tmp_path_factory, data):
    rows = data.draw(st.integers(2, 30))
    values = st.sampled_from([1e-300, 1e-3, 1.0, 2.0, 1e6, 2e6, 4e6, 8e6, 1e9, 1e300]) | st.floats(1e-5, 1e12)
    table = {
        name: np.array(data.draw(st.lists(values, min_size=rows, max_size=rows)))
        for name in ("params", "tokens", "loss")
    }
    folder = tmp_path_factory.mktemp("any")
    path, out = write_csv(folder / "table.csv", table), folder / "out.json"
    method = data.draw(st.sampled_from(get_args(Method)))
    kind = data.draw(st.sampled_from(get_args(Kind)))
    arguments = [str(path), "--method", method, "--slices", kind, "--bootstrap", "20", "--out", str(out)]
    with np.errstate(all="ignore"):
        try:
            isoflop.main(arguments)
        except SystemExit as stopped:
            code = stopped.code
        else:
            code = 0
    assert code in (0, 2)
    if code == 0:
        written = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
        for valley in written["valleys"]:
            assert valley["ok"] == (valley["params_opt"] is not None) == (valley["why"] == "")
