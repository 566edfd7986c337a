"""Ten exponents of Porian et al. 2024 (arXiv 2406.19146) from their own points, by their own way of finding minima."""

import csv
import json

import numpy as np
import pytest

from analysis.isoflop import command as isoflop
from analysis.isoflop.find import find_valleys
from bench.published import columns_of, read_rows

NAMES = {"params": "n", "tokens": "t", "loss": "loss", "flops": "flops"}
SETTINGS = ("hparams", "warmup", "decay", "param_count", "val")
PUBLISHED = read_rows("porian/published_fits_refinedweb.csv")
IDS = ["-".join(row[name] for name in SETTINGS) for row in PUBLISHED]


def points(published):
    rows = read_rows("porian/isoflop_points_refinedweb.csv")
    return [row for row in rows if all(row[name] == published[name] for name in SETTINGS)]


@pytest.mark.parametrize("published", PUBLISHED, ids=IDS)
@pytest.mark.parametrize(("unit", "within"), [("relative", 0.01), ("nats", 0.003)])
def test_the_published_exponents(published, unit, within):
    found = find_valleys(columns_of(points(published), NAMES), "akima", noise=0.002, noise_unit=unit)
    assert found.derived["a_opt"] == pytest.approx(float(published["a"]), abs=within)
    if unit == "nats":  # as theirs is
        ends = [float(published["a_lo"]), float(published["a_hi"])]
        np.testing.assert_allclose(found.intervals["a_opt"], ends, atol=0.005)


def test_the_same_by_the_command(tmp_path):
    rows = points(PUBLISHED[1])
    path, out = tmp_path / "points.csv", tmp_path / "out.json"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    isoflop.main([str(path), "--method", "akima", "--noise", "0.002", "--column", "params=n", "--column", "tokens=t",
                  "--out", str(out)])  # fmt: skip
    written = json.loads(out.read_text())
    assert written["derived"]["a_opt"] == pytest.approx(float(PUBLISHED[1]["a"]), abs=0.01)
    assert len(written["held_apart"]) == 0
