"""The Epoch table (bench/published/epoch) against the numbers of Besiroglu et al. 2024, arXiv 2404.10102."""

import numpy as np
import pytest

from analysis.fit.fit import Fit, fit_law
from bench.published import load_epoch


@pytest.fixture(scope="module")
def huber() -> Fit:
    return fit_law("chinchilla", load_epoch(), drop_worst=5)


def test_huber_optimum(huber):
    assert huber.n == 240
    assert huber.value <= 0.0010182740178 * (1 + 1e-7)
    assert huber.parameters["E"] == pytest.approx(1.817218, abs=2e-5)
    assert huber.parameters["alpha"] == pytest.approx(0.3473105, abs=2e-5)
    assert huber.parameters["beta"] == pytest.approx(0.3671724, abs=2e-5)
    assert huber.parameters["A"] == pytest.approx(477.826, rel=1e-4)
    assert huber.parameters["B"] == pytest.approx(2143.417, rel=1e-4)
    assert huber.derived["a_opt"] == pytest.approx(0.5139, abs=1e-4)


def test_certificate(huber):
    assert huber.starts["tried"] == 4500
    assert huber.starts["reached_best"] > 3000
    assert huber.starts["gradient"] < 1e-9
    assert not huber.starts["at_bound"]
    assert all(minimum["objective"] > huber.value for minimum in huber.starts["other_minima"])
    assert all(np.array(list(huber.identified.values())))
