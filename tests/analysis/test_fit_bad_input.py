"""What the fit command refuses and what it warns of: one line each, never a traceback, never a silent NaN."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.fit.checks import check_fit, usable_columns
from analysis.fit.clusters import clusters_of
from analysis.fit.command import main
from analysis.fit.fit import Fit, fit_law
from analysis.laws import get_law
from core.errors import BadInput

FAST = ["--law", "power_params_floor"]


def table(rows: int = 24) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    params, tokens = 10 ** rng.uniform(7, 10, rows), 10 ** rng.uniform(9, 12, rows)
    loss = (1.8 + 480 / params**0.35 + 2100 / tokens**0.37) * np.exp(0.01 * rng.standard_normal(rows))
    return {"params": params, "tokens": tokens, "loss": loss}


def written(path, columns, header=None):
    header = header or list(columns)
    rows = [",".join(header)] + [
        ",".join(str(value) for value in row) for row in zip(*columns.values(), strict=True)
    ]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def changed(name, row, value):
    columns = {key: values.astype(object) for key, values in table().items()}
    columns[name][row] = value
    return columns


def refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (changed("loss", 3, "nan"), "loss"),
        (changed("loss", 3, -1.0), "loss"),
        (changed("loss", 3, 0), "loss"),
        (changed("params", 2, "inf"), "params"),
        (changed("tokens", 1, "many"), "many"),
        ({name: values[:5] for name, values in table().items()}, "too few"),
        ({**table(), "params": np.full(24, 1e8)}, "constant"),
        ({**table(), "loss": np.full(24, 2.5)}, "constant"),
        ({name: np.repeat(values[:4], 6) for name, values in table().items()}, "distinct points"),
        ({"params": table()["params"], "loss": table()["loss"]}, "tokens"),
    ],
)
def test_refused_tables(tmp_path, capsys, columns, expected):
    assert expected in refused([written(tmp_path / "t.csv", columns)], capsys)


@pytest.mark.parametrize(
    "flags",
    [
        ["--law", "nonsense"], ["--robust", "median"], ["--delta", "0"], ["--delta", "nan"], ["--drop-worst", "99"],
        ["--drop-worst", "-1"], ["--bootstrap", "-3"], ["--cluster", "run"], ["--level", "1.5"], ["--fix", "alpha"],
        ["--fix", "gamma=1"], ["--fix", "alpha=x"], ["--column", "loss"], ["--seed", "-1"], ["--nonsense"],
        ["--law", "error_from_loss", "--space", "log"], ["--out", "/dev/null/fit.json"],
    ],
)  # fmt: skip
def test_refused_flags(tmp_path, capsys, flags):
    path = written(tmp_path / "t.csv", {**table(), "error": np.linspace(0.5, 0.4, 24)})
    refused(
        [path, *(FAST if flags[0] in ("--out", "--fix", "--level") and flags[-1] != "gamma=1" else []), *flags],
        capsys,
    )


def test_no_such_file(tmp_path, capsys):
    assert "missing.csv" in refused([str(tmp_path / "missing.csv")], capsys)


def test_warnings_of_a_thin_table():
    law = get_law("chinchilla")
    columns = {**table(9), "params": np.linspace(1e8, 2e8, 9)}
    usable, _ = usable_columns(law, columns)
    said = " ".join(check_fit(law, usable, 5))
    assert "9 rows for 5 free parameters" in said
    assert "params spans a factor 2" in said
    together = {**table(), "tokens": 20 * table()["params"]}
    assert "move together" in " ".join(check_fit(law, usable_columns(law, together)[0], 5))
    assert "tokens takes only 2 values" in " ".join(
        check_fit(law, usable_columns(law, {**table(), "tokens": np.tile([1e9, 1e11], 12)})[0], 5)
    )


def test_rows_of_one_run_are_taken_together_and_that_is_said():
    runs = {**table(), "params": np.repeat([1e8, 2e8, 4e8, 8e8], 6), "run": np.repeat(["a", "b", "c", "d"], 6)}
    labels, (line,) = clusters_of(runs, None)
    np.testing.assert_array_equal(labels, runs["run"])
    assert "6 rows share a run" in line
    assert "--cluster none" in line
    assert clusters_of(runs, "run") == ("run", [])
    assert clusters_of(runs, "none") == (None, [])
    assert clusters_of({**runs, "run": np.arange(24).astype(str)}, None) == (None, [])
    # a row without a label is on its own
    labels, _ = clusters_of({**runs, "run": np.repeat(["a", "", "c", "d"], 6)}, None)
    assert np.unique(labels).size == 9


def test_loss_that_rises_with_size_ends_at_a_bound_and_says_so():
    columns = {**table(), "loss": table()["loss"][np.argsort(np.argsort(-table()["params"]))]}
    columns["loss"] = np.sort(columns["loss"])[np.argsort(np.argsort(columns["params"]))]
    fit = fit_law("power_params", columns)
    assert "alpha" in fit.starts["at_bound"]
    assert not fit.identified["alpha"]
    assert any("at a bound" in warning for warning in fit.warnings)


def test_units_and_duplicates_are_warned_of(tmp_path, capsys):
    columns = {name: np.concatenate([values, values[:1]]) for name, values in table().items()}
    columns["params"] = columns["params"] / 1e6
    out = tmp_path / "fit.json"
    main([written(tmp_path / "t.csv", columns), *FAST, "--out", str(out)])
    said = " ".join(json.loads(out.read_text())["warnings"])
    assert "millions" in said
    assert "repeat" in said
    assert "warning:" in capsys.readouterr().out


def test_fit_json_holds_the_contract_and_reads_back(tmp_path):
    path, out = written(tmp_path / "t.csv", table()), tmp_path / "fit.json"
    main([path, *FAST, "--bootstrap", "50", "--out", str(out)])
    stored = json.loads(out.read_text())
    for key in ("law", "robust", "delta", "n", "objective", "parameters", "intervals", "standard_errors", "identified",
                "starts", "derived", "warnings", "input"):  # fmt: skip
        assert key in stored
    assert set(stored["starts"]) >= {"tried", "reached_best", "other_minima"}
    assert stored["input"]["rows"] == 24
    assert len(stored["input"]["sha256"]) == 64
    fit = Fit.from_json(stored)
    again = fit_law("power_params_floor", table(), bootstrap=50)
    np.testing.assert_allclose(fit.predict({"params": 1e11}), again.predict({"params": 1e11}), rtol=1e-12)
    np.testing.assert_allclose(
        fit.predict_interval({"params": 1e11}), again.predict_interval({"params": 1e11}), rtol=1e-9
    )
    with pytest.raises(BadInput, match="parameters"):
        Fit.from_json({key: value for key, value in stored.items() if key != "parameters"})


def test_flops_stand_in_for_tokens(tmp_path):
    columns = table()
    flops = {
        "N": columns["params"],
        "flops": 6 * columns["params"] * columns["tokens"],
        "loss": columns["loss"],
    }
    out = tmp_path / "fit.json"
    main([written(tmp_path / "t.csv", flops), "--column", "params=N", "--robust", "l2", "--out", str(out)])
    direct = fit_law("chinchilla", columns, robust="l2", profile=False)
    stored = json.loads(out.read_text())
    assert stored["parameters"]["alpha"] == pytest.approx(direct.parameters["alpha"], rel=1e-9)
    assert any("no tokens" in warning for warning in stored["warnings"])


def status(arguments: list[str]) -> int:
    """0, or the status that the command stops with; it may stop in no other way."""
    try:
        main(arguments)
    except SystemExit as stopped:
        return int(stopped.code)
    return 0


def has_nan(value) -> bool:
    if isinstance(value, dict):
        return any(has_nan(entry) for entry in value.values())
    if isinstance(value, list):
        return any(has_nan(entry) for entry in value)
    return isinstance(value, float) and not math.isfinite(value)


number = st.one_of(
    st.floats(min_value=1e-3, max_value=1e13),
    st.floats(),
    st.sampled_from([0.0, 1.0, 2.0, 1e8, 1e10, float("nan"), float("inf"), -1.0, 1e-300, 1e300]),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    rows=st.lists(st.tuples(number, number), min_size=0, max_size=14),
    robust=st.sampled_from(["huber", "l1", "l2"]),
    law=st.sampled_from(["power_params", "power_params_floor"]),
)
def test_random_tables_are_answered_or_refused(tmp_path, capsys, rows, robust, law):
    path, out = tmp_path / "t.csv", tmp_path / "fit.json"
    out.unlink(missing_ok=True)
    path.write_text("params,loss\n" + "".join(f"{a!r},{b!r}\n" for a, b in rows))
    if status([str(path), "--law", law, "--robust", robust, "--out", str(out)]) == 2:
        assert capsys.readouterr().err.count("\n") == 1
        assert not out.exists()
        return
    stored = json.loads(out.read_text())
    assert not has_nan(stored)
    assert all(value is not None for value in stored["parameters"].values())
    assert stored["objective"] is not None
