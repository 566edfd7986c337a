"""Which law a table supports, how far it can be trusted beyond the table, and a forecast that says so."""

import json

import numpy as np
import pytest
from scipy.integrate import quad

from analysis.fit import command as fit_command
from analysis.fit.back_test import back_test, below_nominal, misfit_noise, trust
from analysis.fit.fit import Fit, fit_law
from analysis.fit.frontier import frontier
from analysis.fit.frontier_search import frontier_of
from analysis.fit.objectives import FitObjective
from analysis.fit.prediction import predict_law
from analysis.fit.selection import _mean_log_likelihood, independent_rows
from analysis.fit.supported import compare
from analysis.forecast import predict as forecast_command
from analysis.laws import get_law
from core.errors import BadInput

TRUTH = {"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.30}
START = np.array([list(TRUTH.values())])
LARGE = {"params": 4e10, "tokens": 8e11}


def grid(law="chinchilla", natural=(1.7, 400.0, 900.0, 0.34, 0.30), noise=0.003, sizes=6, seed=0):
    params, tokens = np.meshgrid(np.geomspace(1e7, 3e9, sizes), np.geomspace(2e8, 1e11, sizes))
    columns = {"params": params.ravel(), "tokens": tokens.ravel()}
    loss = predict_law(get_law(law), np.array([natural]), columns)[0]
    return {**columns, "loss": loss * np.exp(noise * np.random.default_rng(seed).standard_normal(loss.size))}


def bent(columns, by=0.02):
    """The same runs, worse by 2% for each e-fold of compute beyond 3e19 FLOPs: a law that its table does not show."""
    flops = 6 * columns["params"] * columns["tokens"]
    return {**columns, "loss": columns["loss"] * np.exp(by * np.maximum(np.log(flops / 3e19), 0))}


@pytest.fixture
def on_disk(tmp_path):
    def write(columns, name="table.csv"):
        path = tmp_path / name
        rows = zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
        return path

    return write


def refused(main, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_of_a_law_that_holds_the_left_out_runs_are_predicted():
    columns = grid()
    fit = fit_law("chinchilla", columns, starts=START, profile=False)
    tested = trust("chinchilla", columns, whole_fit=fit)
    assert {test.axis for test in tested.tests} == {"flops", "params"}
    assert tested.covered / tested.n >= 0.8
    assert tested.error < 0.01
    largest, fitted = columns["params"].max(), tested.tests[1].cutoff
    assert fitted < largest == tested.largest["params"]
    # distances by hand: the sizes left out lie beyond in size, and in no other input further
    beyond = np.log(columns["params"][columns["params"] > fitted] / fitted)
    assert np.all(tested.tests[1].distance >= beyond - 1e-9)
    stored = tested.to_json()
    assert {"nominal", "covered", "n"} <= stored.keys()
    assert stored["n"] == sum(part["n"] for part in stored["left_out"])


def test_rows_of_a_run_are_left_out_together():
    columns = grid(sizes=8)
    columns["run"] = np.array([f"r{size:.0f}" for size in columns["params"]])
    for test in trust("chinchilla", columns, whole_fit=fit_law("chinchilla", columns, starts=START)).tests:
        left_out = columns["loss"][np.isin(columns["loss"], test.actual)]
        assert left_out.size % 8 == 0


def test_a_law_that_does_not_hold_beyond_its_table_is_found_out_and_misfit_widens_the_forecast(
    on_disk, tmp_path, capsys
):
    columns = bent(grid(noise=0.001))
    fit, plain, wide = (tmp_path / name for name in ("fit.json", "plain.json", "wide.json"))
    fit_command.main([str(on_disk(columns)), "--back-test", "--out", str(fit)])
    stored = json.loads(fit.read_text())["back_test"]
    assert stored["covered"] < 0.7 * stored["n"]
    assert stored["misfit"] > 0.002
    assert any(f"{stored['covered']} of {stored['n']} left-out rows" in line for line in below_nominal(stored))
    run = ["--params", str(LARGE["params"]), "--tokens", str(LARGE["tokens"])]
    forecast_command.main([str(fit), *run, "--out", str(plain)])
    assert "intervals beyond the table are too narrow" in capsys.readouterr().out
    forecast_command.main([str(fit), *run, "--misfit", "--out", str(wide)])
    (before, low_high), (after, wider) = (
        (made["prediction"], made["interval"])
        for made in map(json.loads, (plain.read_text(), wide.read_text()))
    )
    assert before == after
    truth = predict_law(get_law("chinchilla"), START, {name: np.array([v]) for name, v in LARGE.items()})[0, 0]
    truth *= np.exp(0.02 * np.log(6 * LARGE["params"] * LARGE["tokens"] / 3e19))
    assert not low_high[0] <= truth <= low_high[1]
    assert wider[0] <= truth <= wider[1]


def test_misfit_grows_with_the_distance_beyond_the_table():
    """tau x / reach times Student's distribution, of variance degrees / (degrees - 2); none within the table."""
    stored = {
        "misfit": 0.01,
        "reach": 1.0,
        "degrees": 10,
        "largest": {"params": 1e9, "tokens": 1e10, "flops": 6e19},
    }
    at = misfit_noise(stored, {"params": 1e9 * np.e**3, "tokens": 1e9, "flops": 6e19})
    assert np.std(at) == pytest.approx(0.03 * np.sqrt(10 / 8), rel=0.05)
    assert np.mean(at) == pytest.approx(0, abs=1e-12)
    assert not misfit_noise(stored, {"params": 1e9, "tokens": 1e10}).any()
    with pytest.raises(BadInput, match="no misfit is known"):
        misfit_noise({"nominal": 0.9, "covered": 3, "n": 4}, {})


def test_coverage_below_nominal_is_said_with_its_chance():
    assert not below_nominal({"nominal": 0.9, "covered": 9, "n": 10})
    (line,) = below_nominal({"nominal": 0.9, "covered": 8, "n": 10})
    # P(at most 8 of 10 at 0.9) = 1 - 0.9^10 - 10 0.9^9 0.1 = 0.264
    assert "p = 0.26" in line
    assert "chance may explain" in line
    (line,) = below_nominal({"nominal": 0.9, "covered": 3, "n": 10})
    assert "too narrow" in line


@pytest.mark.parametrize(
    "entry",
    [[], 7, {"nominal": 0.9}, {"nominal": "x", "covered": 1, "n": 2}, {"nominal": 0.9, "covered": 3, "n": 2}],
)
def test_a_damaged_back_test_is_bad_input(entry, on_disk, tmp_path, capsys):
    path = tmp_path / "fit.json"
    fit = fit_law(
        "power_flops_floor", {"flops": np.geomspace(1e18, 1e21, 9), "loss": 3 - np.linspace(0, 0.9, 9) ** 0.8}
    )
    stored = fit.to_json()
    path.write_text(json.dumps({**stored, "law": "power_flops", "back_test": entry}))
    assert "back_test" in refused(
        forecast_command.main, [path, "--flops", 1e22, "--out", tmp_path / "f.json"], capsys
    )
    # one that no version has written yet is read as before
    assert Fit.from_json(stored).back_test is None


def test_misfit_without_a_back_test_is_refused(tmp_path, capsys):
    flops = np.geomspace(1e18, 1e21, 12)
    fit = fit_law("power_flops_floor", {"flops": flops, "loss": 1.6 + 1500 * flops**-0.16})
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(fit.to_json()))
    line = refused(
        forecast_command.main, [path, "--flops", 1e22, "--misfit", "--out", tmp_path / "f.json"], capsys
    )
    assert "--misfit: the fit holds no back-test" in line


@pytest.mark.slow
def test_compare_finds_the_law_that_made_the_table_and_says_it(on_disk, tmp_path, capsys):
    law = get_law("kaplan")
    columns = grid("kaplan", tuple(law.planted.values()), noise=0.002)
    out = tmp_path / "fit.json"
    fit_command.main([str(on_disk(columns)), "--compare", "kaplan", "chinchilla", "--out", str(out)])
    printed, stored = " ".join(capsys.readouterr().out.split()), json.loads(out.read_text())
    assert "The table supports kaplan: AICc is higher by" in printed
    assert stored["law"] == stored["compared"]["supported"] == "kaplan"
    assert stored["compared"]["laws"][0]["back_test"]["n"] > 0
    assert stored["back_test"]["nominal"] == 0.9
    assert stored["compared"]["sentence"] in printed


@pytest.mark.slow
def test_laws_that_a_table_does_not_tell_apart_leave_the_usual_one():
    """Two laws that agree on it: chinchilla with equal exponents is chinchilla."""
    truth = (1.7, 400.0, 900.0, 0.32, 0.32)
    found = compare(["chinchilla", "chinchilla_tied"], grid(natural=truth, noise=0.01))
    assert found.supported.law.name == "chinchilla"
    assert "apart" in found.sentence or "does not rule out" in found.sentence


def test_comparisons_that_make_no_sense_are_refused(on_disk, capsys):
    path = on_disk(grid(sizes=3))
    same = refused(fit_command.main, [path, "--compare", "chinchilla"], capsys)
    assert "at least 2 laws" in same or "--compare" in same
    assert "targets" in refused(fit_command.main, [path, "--compare", "chinchilla", "error_from_loss"], capsys)
    assert "unknown" in refused(fit_command.main, [path, "--compare", "chinchilla", "kaplam"], capsys)


@pytest.mark.parametrize("spread", [1e-5, 3e-4, 1e-3, 1e-2])
def test_the_criterion_of_huber_is_that_of_a_density(spread):
    """-log of exp(-Huber / tau) / Z at the best tau, with Z by quadrature."""
    objective = FitObjective("huber", 1e-3)
    residuals = spread * np.random.default_rng(0).standard_normal(200)

    def negative(tau):
        def density(r):
            return np.exp(-objective.value(np.array([r])) / tau)

        z = 2 * (quad(density, 0, 1e-3)[0] + quad(density, 1e-3, 1e-3 + 60 * tau / 1e-3)[0])
        return np.log(z) + float(objective.value(residuals)) / 200 / tau

    value = float(objective.value(residuals)) / 200
    expected = -min(negative(value * factor) for factor in np.geomspace(0.05, 20, 400))
    assert _mean_log_likelihood(value, objective) == pytest.approx(expected, abs=1e-3)


def test_rows_of_a_run_count_as_many_as_they_are_worth():
    columns = grid(sizes=8, noise=0.0)
    fit = fit_law("chinchilla", columns, starts=START, profile=False)
    rng = np.random.default_rng(1)
    runs = np.array([f"{size:.0f}" for size in columns["params"]])
    shared = np.exp(0.01 * rng.standard_normal(8))[np.unique(runs, return_inverse=True)[1]]
    alone = {**columns, "run": runs, "loss": columns["loss"] * np.exp(0.01 * rng.standard_normal(64))}
    assert independent_rows(fit, {**columns, "run": runs, "loss": columns["loss"] * shared}, None) < 9
    assert independent_rows(fit, alone, None) > 40
    assert independent_rows(fit, alone, "none") == 64


def test_the_searched_frontier_is_the_closed_form():
    budgets = np.geomspace(1e18, 1e24, 7)
    found = frontier_of(get_law("chinchilla"), START, budgets, (1e5, 1e14))
    closed = frontier(TRUTH, budgets)
    np.testing.assert_allclose(found.params[0], closed.params, rtol=2e-3)
    np.testing.assert_allclose(found.tokens[0], closed.tokens, rtol=2e-3)
    np.testing.assert_allclose(found.loss[0], closed.loss, rtol=1e-6)
    outside = frontier_of(get_law("chinchilla"), START, budgets, (1e5, 1e7))
    assert np.isnan(outside.params[0, -1])


def test_a_cutoff_of_size_needs_sizes():
    columns = grid(sizes=3)
    assert all("too few" in line for line in trust("chinchilla", columns).refused if "parameters" in line)
    with pytest.raises(BadInput, match="cutoff"):
        back_test("chinchilla", columns, cutoffs=(1e40,))
