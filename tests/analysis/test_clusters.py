"""Rows that share their run's luck: intervals that hold the truth, and a warning where no column says so."""

import numpy as np
import pytest

from analysis.fit.clusters import clusters_of, correlation_warning
from analysis.fit.fit import fit_law
from bench.calibrate_clusters import TRUTH, checkpoints

START = np.array([list(TRUTH.values())])


def grid(seed, noise=0.005, sizes=8, counts=12):
    """Independent runs: the design of the checkpoints without what they share."""
    return checkpoints(sizes, counts, 0.0, noise, np.random.default_rng(seed))


def test_independent_residuals_are_seldom_called_correlated():
    rng = np.random.default_rng(0)
    columns = grid(0)
    called = 0
    for table in range(400):
        residuals = rng.standard_t(3, 96) * np.repeat(np.geomspace(1, 5, 8), 12)  # heavy tails, unequal noise
        called += bool(correlation_warning(columns, residuals, table))
    assert called / 400 <= 0.05


def test_shared_luck_is_seen():
    rng = np.random.default_rng(0)
    columns = grid(0)
    for table in range(50):
        residuals = np.repeat(rng.standard_normal(8), 12) + 0.5 * rng.standard_normal(96)
        assert correlation_warning(columns, residuals, table)


@pytest.mark.long
def test_fits_of_independent_tables_are_seldom_called_correlated():
    called = 0
    for table in range(200):
        columns = {name: values for name, values in grid(table).items() if name != "run"}
        fit = fit_law("chinchilla", columns, starts=START, profile=False)
        called += any("are correlated" in line for line in fit.warnings)
    assert called / 200 <= 0.05


@pytest.mark.long
@pytest.mark.parametrize("bootstrap", [0, 200])
def test_intervals_of_clustered_runs_hold_the_truth(bootstrap):
    tables = 100
    held = dict.fromkeys(TRUTH, 0)
    for table in range(tables):
        columns = checkpoints(8, 12, 0.005, 0.0005, np.random.default_rng([1, table]))
        fit = fit_law("chinchilla", columns, starts=START, bootstrap=bootstrap)
        for name, value in TRUTH.items():
            held[name] += fit.intervals[name][0] <= value <= fit.intervals[name][1]
    # 95% nominal, less two binomial standard deviations
    assert all(count / tables >= 0.91 for count in held.values()), held


def test_few_runs_are_warned_of():
    columns = checkpoints(4, 12, 0.005, 0.0005, np.random.default_rng(0))
    fit = fit_law("chinchilla", columns, starts=START)
    assert any("4 clusters for 5 free parameters" in line for line in fit.warnings)
    columns["run"] = np.repeat(["a", "a", "b", "c"], 12)
    fit = fit_law("chinchilla", columns, starts=START, cluster="run")
    assert any("3 clusters are too few" in line for line in fit.warnings)
    assert fit.draws is None
    assert not any(fit.identified.values())


def test_labels_that_are_no_runs_cluster_nothing_unasked():
    columns = checkpoints(4, 12, 0.005, 0.0005, np.random.default_rng(0))
    labels, (line,) = clusters_of({**columns, "run": np.repeat(["family a", "family b"], 24)}, None)
    assert labels is None
    assert "several sizes each" in line
    three = {name: values[:36] for name, values in columns.items()}
    labels, (line,) = clusters_of(three, None)
    assert labels is None
    assert "3 runs are too few" in line
