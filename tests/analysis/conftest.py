"""Shared by the tests of analysis: a synthetic sweep written once, copied where a test damages it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.fit.fit import fit_law
from analysis.logs.read import read_table
from core.files import write_json
from tests.support.synthetic_sweep import write_sweep


@pytest.fixture(scope="session")
def sweep_once(tmp_path_factory) -> Path:
    """A complete 5 by 4 sweep with 0.2% noise; not to be written to."""
    return write_sweep(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def sweep(sweep_once, tmp_path) -> Path:
    """The same sweep, the test's own copy."""
    return Path(shutil.copytree(sweep_once, tmp_path / "runs" / sweep_once.name))


@pytest.fixture(scope="session")
def fitted(sweep_once):
    """A fit of the synthetic sweep, started near its truth to be quick."""
    columns = read_table(sweep_once, optional=("flops",)).columns
    return fit_law("chinchilla", columns, bootstrap=200, starts=np.array([[1.0, 40.0, 180.0, 0.34, 0.36]]))


@pytest.fixture
def fit_file(fitted, sweep_once, tmp_path) -> Path:
    """fit.json as analysis.fit writes it."""
    path = tmp_path / "fit.json"
    write_json(path, {**fitted.to_json(), "input": read_table(sweep_once, optional=("flops",)).source()})
    return path
