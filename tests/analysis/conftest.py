"""Shared by the tests of analysis: a synthetic sweep written once, copied where a test damages it."""

import shutil
from pathlib import Path

import pytest

from tests.analysis.synthetic_sweep import write_sweep


@pytest.fixture(scope="session")
def sweep_once(tmp_path_factory) -> Path:
    """A complete 5 by 4 sweep with 0.2% noise; not to be written to."""
    return write_sweep(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def sweep(sweep_once, tmp_path) -> Path:
    """The same sweep, the test's own copy."""
    return Path(shutil.copytree(sweep_once, tmp_path / "runs" / sweep_once.name))
