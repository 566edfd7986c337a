"""From nothing to a report on a small corpus, and the report again from logs alone."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.small import cache_folder, launch_command, run_launch, write_corpus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Three sizes by three data sizes, trunks and branches, trained for real."""
    folder = tmp_path_factory.mktemp("pipeline")
    corpus = write_corpus(folder / "corpus")
    sizes = ("--sizes", "3", "--tokens", "32768", "65536", "131072")
    done = run_launch(launch_command(corpus, folder / "runs", cache_folder(folder), *sizes), timeout=600)
    assert done.returncode == 0, done.stderr
    assert "12 trained" in done.stdout
    return folder / "runs" / "quickstart"


def report(sweep: Path) -> dict[str, str]:
    """Digests of every file that `python -m analysis.report` writes."""
    done = run_launch([sys.executable, "-m", "analysis.report", str(sweep), "--bootstrap", "50"])
    assert done.returncode == 0, done.stderr
    files = (path for path in sorted((sweep / "report").rglob("*")) if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def reported(sweep) -> dict[str, str]:
    return report(sweep)


def test_the_report_is_the_same_bytes_from_logs_alone_elsewhere(sweep, reported, tmp_path):
    first = reported
    assert {"report.html", "report.md", "fit.json"} <= first.keys()
    assert any(name.endswith(".svg") for name in first)
    copy = tmp_path / sweep.name
    shutil.copytree(sweep, copy, ignore=shutil.ignore_patterns("checkpoints", "report"))
    assert report(copy) == first


def test_the_fit_takes_the_branches_and_not_the_trunks(sweep, reported):
    fit = json.loads((sweep / "report" / "fit.json").read_text())
    assert fit["n"] == 9
    assert fit["law"] == "chinchilla"


def test_loss_falls_with_size_and_with_data(sweep):
    losses = {}
    for path in sweep.glob("*/result.json"):
        result = json.loads(path.read_text())
        if result["role"] == "branch":
            losses[result["params"]["non_embedding_plus_head"], result["tokens"]] = result["evals"]["val/loss"]
    sizes = sorted({params for params, _ in losses})
    assert len(losses) == 9
    for params in sizes:
        curve = [losses[params, tokens] for tokens in (32768, 65536, 131072)]
        assert curve == sorted(curve, reverse=True)
    assert losses[sizes[-1], 131072] < losses[sizes[0], 131072]


def test_status_says_that_all_is_complete(sweep):
    done = run_launch([sys.executable, "launch.py", "status", str(sweep), "--json"])
    assert done.returncode == 0
    assert {row["state"] for row in json.loads(done.stdout)} == {"complete"}
