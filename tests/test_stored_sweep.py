"""A sweep of an early version (tests/stored/make.py) is read, fitted, resumed and branched from as it was."""

import functools
import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from analysis.logs.load import load_sweep
from core.codec import from_json, to_json
from training.spec import RunSpec

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "tests" / "stored"
GOLDEN = STORED / "golden"
SWEEP = Path("runs", "stored")
RUNS = sorted(path.name for path in (STORED / SWEEP).iterdir())
# Trained with another peak, and with muP, beside runs of their sizes: no law takes them with the others. What fits find
# in the others is what commit b3a5d7f found in a copy without these two.
VARIED = ("w16-l1-t16.4k-s4-923505f0", "w16-l1-t8.19k-s3-6673b0fe")
EQUAL = [name for name in RUNS if name not in VARIED]
COMMANDS = json.loads((STORED / "commands.json").read_text())
# Of golden JSON: how the input is hashed, and which packages are installed.
IGNORED = {"sha256", "versions"}
# Relative; fits on another processor or JAX than the golden ones to ELSEWHERE.
FITS, LOSSES, ELSEWHERE = 1e-6, 1e-5, 1e-4


def a_copy(folder: Path) -> Path:
    """The stored corpus and runs in a folder of their own, where commands may work on them."""
    for name in ("corpus", "runs"):
        shutil.copytree(STORED / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def read_only(tmp_path_factory) -> Path:
    """A copy on which only readers work."""
    return a_copy(tmp_path_factory.mktemp("read"))


@pytest.fixture(scope="module")
def equal(tmp_path_factory) -> Path:
    """The same without the runs of other settings."""
    copy = a_copy(tmp_path_factory.mktemp("equal"))
    for name in VARIED:
        shutil.rmtree(copy / SWEEP / name)
    return copy


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory) -> Path:
    """A copy on which runs are trained."""
    return a_copy(tmp_path_factory.mktemp("trained"))


def run(copy: Path, *words: str) -> str:
    """Run Python with these arguments in a copy, as its user would; what it printed."""
    command = [str(ROOT / word) if word == "launch.py" else word for word in words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def entry(last: str) -> dict[str, Any]:
    """The stored command whose output or one of whose files has this name."""
    return next(
        one
        for one in COMMANDS
        if last in [one.get("stdout"), *(Path(path).name for path in one.get("files", ()))]
    )


def written(copy: Path, name: str) -> Any:
    """Run the command that writes the JSON file `name`; the content."""
    one = entry(name)
    run(copy, *one["command"])
    return json.loads((copy / next(path for path in one["files"] if path.endswith(name))).read_text())


def assert_close(mine: Any, golden: Any, tolerance: float, where: str = "") -> None:
    """Every value of `golden` stands in `mine`: numbers within a relative tolerance, all else equal."""
    if isinstance(golden, dict):
        for key in golden.keys() - IGNORED:
            assert key in mine, f"{where}.{key}"
            assert_close(mine[key], golden[key], tolerance, f"{where}.{key}")
    elif isinstance(golden, list):
        assert len(mine) == len(golden), where
        for number, (one, other) in enumerate(zip(mine, golden, strict=True)):
            assert_close(one, other, tolerance, f"{where}[{number}]")
    elif isinstance(golden, float):
        assert isinstance(mine, int | float), where
        assert math.isclose(mine, golden, rel_tol=tolerance, abs_tol=1e-12), (
            f"{where}: {mine!r}, was {golden!r}"
        )
    else:
        assert mine == golden, where


def golden_json(name: str) -> Any:
    """A golden file."""
    return json.loads((GOLDEN / name).read_text())


@functools.cache
def same_machine() -> bool:
    """Whether processor and JAX are those of the golden numbers: only then do last bits have to agree."""
    stored = golden_json("final.json")["processor"]
    try:
        text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return False
    fields = dict(re.findall(r"^(\S[^\t\n]*?)\s*: (.*)$", text, re.M))
    flags = [
        flag for flag in fields.get("flags", "").split() if re.match("avx|sse|ssse|fma|f16c|bmi|amx", flag)
    ]
    mine = {
        "jax": importlib.metadata.version("jax"),
        "jaxlib": importlib.metadata.version("jaxlib"),
        "vendor": fields.get("vendor_id"),
        "family": fields.get("cpu family"),
        "model": fields.get("model"),
        "flags": sorted(flags),
    }
    return all(stored[key] == value for key, value in mine.items())


def of_fits() -> float:
    """How close a fit has to come."""
    return FITS if same_machine() else ELSEWHERE


def part_of(old: Any, new: Any) -> bool:
    """Whether every field of an old JSON tree is in the new one with the same value; new ones may have come."""
    if isinstance(old, dict):
        return all(key in new and part_of(value, new[key]) for key, value in old.items())
    return old == new


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_spec_gives_the_name_that_its_run_has(name):
    stored = json.loads((STORED / SWEEP / name / "spec.json").read_text())
    spec = from_json(RunSpec, stored)
    assert spec.run_id == name
    assert part_of(stored, to_json(spec))


@pytest.mark.parametrize("name", ["status.txt", "doctor.txt"])
def test_status_and_doctor_print_what_they_printed(read_only, name):
    assert run(read_only, *entry(name)["command"]) == (GOLDEN / name).read_text()


def test_status_as_json_says_what_it_said(read_only):
    mine, golden = json.loads(run(read_only, *entry("status.json")["command"])), golden_json("status.json")
    assert len(mine) == len(golden)
    assert all(part_of(old, new) for old, new in zip(golden, mine, strict=True))


@pytest.mark.parametrize("name", ["fit_power_flops.json", "fit_chinchilla.json", "isoflop.json"])
def test_fits_find_what_they_found(equal, name):
    assert_close(written(equal, name), golden_json(name), of_fits())


def test_runs_of_other_settings_are_never_pooled_with_the_others(read_only):
    groups = {group.label: len(group.runs) for group in load_sweep(read_only / SWEEP).groups}
    rule = "model.parametrization=standard, optim.learning_rate"
    # a peak of 0.02 is also the rule's value at another size: its three runs are in both groups
    assert groups == {f"{rule}=0.015 to 0.0331 by size": 20, f"{rule}=0.02": 4, "model.parametrization=mup": 1}
    assert written(read_only, "fit_power_flops.json")["n"] == 20


def rows_of(text: str, names: Collection[str]) -> list[str]:
    """The header of a CSV file and the rows that name one of these runs."""
    header, *rows = text.splitlines()
    return [header, *(row for row in rows if any(name in row for name in names))]


def assert_same_report(copy: Path, names: Collection[str]) -> Path:
    """Make the report of a copy that holds these runs: tables and verdicts are the golden ones. Its folder."""
    emergence, folder = written(copy, "emergence.json"), copy / SWEEP / "report"
    for name in ("table.csv", "runs.csv", "tasks.csv"):
        assert rows_of((folder / name).read_text(), names) == rows_of((GOLDEN / name).read_text(), names), name
    assert_close(emergence, golden_json("emergence.json"), of_fits())
    return folder


def lines_of(folder: Path, starts: tuple[str, ...]) -> list[str]:
    """Lines of the report in Markdown with one of these beginnings."""
    return [line for line in (folder / "report.md").read_text().splitlines() if line.startswith(starts)]


def test_a_report_of_the_longest_runs_has_the_same_tables_and_verdicts(tmp_path):
    names = [name for name in RUNS if "-t32.8k-" in name or "-t12.3k-" in name]
    copy = a_copy(tmp_path)
    for name in set(RUNS) - set(names):
        shutil.rmtree(copy / SWEEP / name)
    folder = assert_same_report(copy, names)
    rows = lines_of(folder, ("| w",))
    assert len(rows) == len(names) and set(rows) <= set(lines_of(GOLDEN, ("| w",)))


@pytest.mark.long
def test_the_report_of_all_runs_has_the_same_tables_and_verdicts(equal):
    folder = assert_same_report(equal, EQUAL)
    starts = ("#", "|") if same_machine() else ("#",)
    for mine, golden in zip(lines_of(folder, starts), lines_of(GOLDEN, starts), strict=True):
        assert_same_line(mine, golden)


def assert_same_line(mine: str, golden: str) -> None:
    """The same words, and numbers within the 0.5% by which Student's quantile was off.

    E of the refit by absolute residuals is left out: it lies at its bound, and no start converges on it.
    """
    skipped = 2 if golden.startswith("| l1 on log |") else None
    for place, (left, right) in enumerate(zip(mine.split(" | "), golden.split(" | "), strict=True)):
        if place + 1 != skipped:
            numbers = r"\d[\d.]*(?:e[+-]\d+)?"
            assert re.sub(numbers, "#", left) == re.sub(numbers, "#", right), golden
            found, wanted = (
                [float(number.rstrip(".")) for number in re.findall(numbers, cell)] for cell in (left, right)
            )
            assert found == pytest.approx(wanted, rel=5e-3), golden
