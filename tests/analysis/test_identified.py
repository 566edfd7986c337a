"""A law at its bounds is not sold as numbers: what is not identified is called that, everywhere."""

import json

import numpy as np
import pytest

from analysis.fit.command import main as fit_command
from analysis.fit.fit import fit_law
from analysis.fit.identified import identified, known_to_within_itself, said_interval, where_it_ended
from analysis.forecast.predict import main as forecast_command
from analysis.isoflop.command import main as isoflop_command
from analysis.laws import get_law
from analysis.report.command import write_report
from analysis.report.sections import law as law_section
from tests.support.synthetic_sweep import TRUTH, truth_loss, write_sweep

CHINCHILLA = get_law("chinchilla")
VALUES = {"E": 1.2, "A": 480.0, "B": 2000.0, "alpha": 0.476, "beta": 0.527}
GOOD = {"E": (1.0, 1.4), "A": (100.0, 2000.0), "B": (500.0, 9000.0), "alpha": (0.4, 0.55), "beta": (0.45, 0.6)}


@pytest.mark.parametrize(
    ("name", "interval", "known", "why"),
    [
        ("alpha", (0.098, 0.773), False, "its interval is too wide"),
        ("alpha", (0.3, 0.6), True, ""),
        ("alpha", (0.0, 0.4), False, "its interval reaches the lower bound"),
        ("alpha", (0.001, 0.4), False, "its interval is too wide"),
        ("beta", (0.4, 5.0), False, "its interval reaches the upper bound"),
        ("E", (8.756510762696521e-27, 0.489), False, "its interval reaches the lower bound"),
        ("E", (0.12, 1.39), False, "its interval is too wide"),
        ("A", (10.0, 2000.0), False, "its interval is too wide"),
        ("B", (float("nan"), float("nan")), False, "no finite interval"),
    ],
)
def test_the_criterion_in_numbers(name, interval, known, why):
    verdicts = identified(CHINCHILLA, VALUES, {**GOOD, name: interval}, (), ())
    assert verdicts == {**dict.fromkeys(GOOD, True), name: known}
    if not known:
        assert where_it_ended(CHINCHILLA, name, VALUES[name], interval) == why


def test_a_parameter_at_a_bound_or_held():
    floor = 8.756510762696521e-27
    assert where_it_ended(CHINCHILLA, "E", floor, (floor, floor)) == "at its lower bound"
    assert said_interval(CHINCHILLA, "E", (floor, floor)) == "its lower bound"
    assert not identified(CHINCHILLA, {**VALUES, "E": floor}, GOOD, ("E",), ())["E"]
    assert identified(CHINCHILLA, VALUES, {**GOOD, "E": (floor, 9.0)}, (), ("E",))["E"]


def test_an_interval_around_zero_is_no_exponent():
    assert not known_to_within_itself(0.0242, (-0.275, 0.275))
    assert not known_to_within_itself(0.5, None)
    assert known_to_within_itself(-0.5, (-0.6, -0.4))


def table_at_a_bound(rows=24, noise=0.03):
    """No floor at all, a narrow range, much noise: the floor ends at its bound."""
    rng = np.random.default_rng(4)
    columns = {"params": 10 ** rng.uniform(3.4, 4.3, rows), "tokens": 10 ** rng.uniform(3.9, 4.8, rows)}
    loss = 14 * columns["tokens"] ** -0.18 * columns["params"] ** -0.01
    return {**columns, "loss": loss * np.exp(noise * rng.standard_normal(rows))}


@pytest.fixture(scope="module")
def unidentified():
    found = fit_law("chinchilla", table_at_a_bound(), robust="l2")
    assert not found.known
    return found


def test_nothing_tiny_is_printed_and_no_forecast_follows(unidentified, tmp_path, capsys):
    stored = unidentified.to_json()
    assert stored["law_identified"] is False
    assert "within a factor 10" in stored["identified_means"]
    path = tmp_path / "fit.json"
    path.write_text(json.dumps({**stored, "input": {"path": "t.csv", "sha256": "", "rows": 24}}))
    with pytest.raises(SystemExit) as ended:
        forecast_command(
            [str(path), "--params", "1e6", "--tokens", "1e7", "--out", str(tmp_path / "forecast.json")]
        )
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "not identified" in line
    assert not (tmp_path / "forecast.json").exists()


@pytest.mark.slow
def test_the_printed_fit_states_no_split(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    columns = table_at_a_bound()
    rows = zip(*(columns[name] for name in ("params", "tokens", "loss")), strict=True)
    path = tmp_path / "table.csv"
    path.write_text("params,tokens,loss\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in rows))
    fit_command([str(path), "--robust", "l2"])
    printed = capsys.readouterr().out
    assert "compute-optimal: not stated" in printed
    assert "N grows as C^" not in printed
    assert "e-27" not in printed
    assert "NO: " in printed


@pytest.mark.slow
def test_a_report_of_a_law_that_is_not_identified_states_no_best_split(tmp_path):
    widths, tokens = (16, 20, 24, 28), (65_536, 98_304, 131_072, 196_608)
    truth = {**TRUTH, "E": 1e-9, "A": 1e-3}
    page, said = write_report(
        write_sweep(tmp_path, widths=widths, tokens=tokens, noise=0.03, truth=truth), bootstrap=0
    )
    text = page.with_name("report.md").read_text().replace("\\", "")
    fit = json.loads((page.parent / "fit.json").read_text())
    assert fit["law_identified"] is False
    assert "No best split of a budget is stated" in text
    assert "best split of" not in " ".join(said)
    assert not (page.parent / "frontier.svg").exists()
    assert "e-27" not in text
    assert "Identified: the interval has two ends" in text
    assert "these runs do not identify" in " ".join(said)


def test_no_law_that_leaves_more_over_is_called_better():
    """Fewer parameters win by AICc though more is left unexplained."""

    def ranked(name, delta, sd):
        law = type("L", (), {"name": name})
        return type("R", (), {"fit": type("F", (), {"law": law, "residual_sd": sd}), "delta_aicc": delta})

    worse = law_section._beaten([ranked("kaplan", 0.0, 0.03), ranked("chinchilla", 20.0, 0.02)])
    better = law_section._beaten([ranked("kaplan", 0.0, 0.01), ranked("chinchilla", 20.0, 0.02)])
    endless = law_section._beaten([ranked("kaplan", 0.0, 0.01), ranked("chinchilla", np.inf, 0.02)])
    assert worse == endless == []
    assert "describes these runs better: kaplan" in better[0]


def test_isoflop_does_not_state_a_growth_that_it_does_not_know(tmp_path, capsys):
    rng, rows = np.random.default_rng(2), ["params,tokens,loss,flops"]
    for budget in (1e15, 1.3e15):
        for params in np.geomspace(2e5, 6e6, 7):
            tokens = budget / 6 / params
            loss = truth_loss(params, tokens) * np.exp(0.002 * rng.standard_normal())
            rows.append(f"{params},{tokens},{loss},{budget}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    isoflop_command([str(path), "--out", str(tmp_path / "isoflop.json")])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "isoflop.json").read_text())
    low, high = found["intervals"]["a_opt"]
    assert high - low > found["derived"]["a_opt"]
    assert "how the best params grow is not identified" in printed
    assert "best params grow as" not in printed
