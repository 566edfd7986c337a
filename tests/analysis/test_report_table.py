"""The report of a table of one's own."""

import json

import numpy as np
import pytest

from analysis.fit.prediction import predict_law
from analysis.laws import get_law
from analysis.report import command as report_command

pytestmark = pytest.mark.slow


def write(path, law, noise=0.002, header="N,D,val"):
    law = get_law(law)
    params, tokens = np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e8, 1e11, 5))
    columns = {"params": params.ravel(), "tokens": tokens.ravel()}
    loss = predict_law(law, np.array([list(law.planted.values())]), columns)[0]
    loss = loss * np.exp(noise * np.random.default_rng(0).standard_normal(loss.size))
    rows = zip(*columns.values(), loss, strict=True)
    path.write_text("\n".join([header, *(",".join(repr(float(cell)) for cell in row) for row in rows)]) + "\n")
    return path


NAMES = ["--column", "params=N", "--column", "tokens=D", "--column", "loss=val"]


@pytest.mark.parametrize("law", ["chinchilla", "kaplan"])
def test_the_law_on_top_is_the_one_that_the_table_supports(law, tmp_path, capsys):
    path = write(tmp_path / "mine.csv", law)
    report_command.main([str(path), *NAMES, "--bootstrap", "50"])
    printed = " ".join(capsys.readouterr().out.split())
    folder = tmp_path / "mine-report"
    fit = json.loads((folder / "fit.json").read_text())
    assert fit["law"] == law
    planted = get_law(law).planted
    exponents = [name for name in planted if name.startswith(("alpha", "beta"))]
    assert all(fit["parameters"][name] == pytest.approx(planted[name], rel=0.1) for name in exponents)
    assert "25 rows of a table" in printed
    assert ("These runs support the law kaplan" in printed) == (law == "kaplan")
    assert "Back-test: of the" in printed
    page = (folder / "report.md").read_text()
    for title in ("The law", "Compute-optimal frontier", "Back-test", "Power laws in one variable", "Rows"):
        assert f"## {title}" in page
    table = (folder / "table.csv").read_text().splitlines()
    assert table[0].startswith("loss,params,tokens")
    assert len(table) == 26
    # a second time nothing is made again, and the names are part of what it was made from
    before = (folder / "report.html").stat().st_mtime_ns
    report_command.main([str(path), *NAMES, "--bootstrap", "50"])
    assert (folder / "report.html").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("text", "flags", "told"),
    [
        ("flops,loss\n1e20,2.5\n1e21,2.2\n1e22,2.0\n", [], "--law power_flops_floor"),
        ("N,D,val_loss\n1e8,1e9,3\n1e9,1e10,2.5\n", [], "--column loss=val_loss"),
        ("params,tokens,loss\n1e8,1e9,\n1e9,1e10,2.5\n", [], "--drop-missing"),
        ("params,tokens,loss\n1e8,1e9,3\n1e9,1e10,2.5\n", ["--column", "loss=nothing"], "no column nothing"),
        ("", [], "empty"),
        ("\x00\x01", [], "mine.csv: "),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(text, flags, told, tmp_path, capsys):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(SystemExit) as stop:
        report_command.main([str(path), *flags])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "mine-report").exists()


def test_few_rows_get_a_report_that_says_what_is_missing(tmp_path, capsys):
    path = tmp_path / "two.csv"
    path.write_text("params,tokens,loss\n1e8,1e9,3.2\n1e9,1e10,2.5\n")
    report_command.main([str(path), "--bootstrap", "0"])
    assert "No law is fitted" in capsys.readouterr().out
