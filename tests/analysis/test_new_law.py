"""A new law is one new file: dropped into a copy of the tree it is listed, fitted, compared and tested."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LAW = '''
"""Loss against the number of experts."""

from analysis.laws.base import Term, power_sum, spread_starts

TERMS = (Term("E"), Term("A", (("experts", "alpha", -1.0),)))

power_experts = power_sum(
    name="power_experts",
    inputs=("experts",),
    terms=TERMS,
    grid=spread_starts(TERMS, exponents=(0.1, 0.3, 0.9), shares=(0.1, 0.5, 0.9)),
    source="A test of 2026",
    text="L = E + A / experts^alpha",
    planted={"E": 1.5, "A": 3.0, "alpha": 0.4},
    compare=True,
)
'''


def python(copy: Path, *arguments: str) -> str:
    """What a command prints in the copy."""
    done = subprocess.run([sys.executable, *arguments], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for room in ("analysis", "core", "tests"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "analysis" / "laws" / "experts.py").write_text(LAW)
    return folder


def test_fit_lists_it_and_recovers_it(copy):
    shown = python(copy, "-m", "analysis.fit", "--help")
    assert "power_experts" in shown and "L = E + A / experts^alpha" in shown and "A test of 2026" in shown
    experts = np.geomspace(1, 1000, 20)
    rows = [f"{x!r},{1.5 + 3.0 / x**0.4!r}" for x in experts.tolist()]
    (copy / "table.csv").write_text("\n".join(["experts,loss", *rows]) + "\n")
    python(copy, "-m", "analysis.fit", "table.csv", "--law", "power_experts", "--out", "fit.json")
    found = json.loads((copy / "fit.json").read_text())["parameters"]
    assert found == pytest.approx({"E": 1.5, "A": 3.0, "alpha": 0.4}, rel=1e-6)


def test_tables_with_its_inputs_compare_it_and_the_tests_of_laws_cover_it(copy):
    code = "from analysis.laws import compared_laws as laws; print(*(law.name for law in laws({})))"
    assert python(copy, "-c", code.format("['params', 'tokens']")) == "chinchilla kaplan\n"
    assert python(copy, "-c", code.format("['params', 'experts']")) == "power_experts\n"
    tested = python(copy, "-m", "pytest", "tests/analysis/test_laws.py", "-k", "power_experts")
    assert "2 passed" in tested
