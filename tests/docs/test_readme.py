"""What README tells a user to type works, in small; test_code_blocks.py runs it at full size."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.documents import STORED, blocks, run, write_checkout
from tests.support.small import ROOT

FILES = {block.title: block.text for block in blocks(ROOT / "README.md") if block.title}
SMALL = "--tokens 16384 --set data.corpus=text:my_text data.validation_tokens=8192"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """With the experiment and the figure that README shows."""
    folder = write_checkout(tmp_path_factory.mktemp("readme"), None)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def test_the_example_experiment_is_one_short_file_and_plans_what_it_says(checkout):
    assert len(FILES["experiments/heads.py"].strip().splitlines()) <= 40
    assert "heads" in run("python launch.py plan", checkout).stdout
    for flags, count in (("", 8), ("--seeds 3", 12)):
        plan = json.loads(run(f"python launch.py plan heads --json {flags}", checkout).stdout)
        assert len(plan["runs"]) == count


@pytest.mark.slow
def test_the_example_trains_and_ends_in_a_figure(checkout):
    done = run(f"python launch.py run heads --heads 1 4 --seeds 1 --name heads {SMALL}", checkout)
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in (checkout / "runs" / "heads").glob("*/result.json")]
    assert len(results) == 2
    assert all(result["evals"]["val/loss"] > 0 for result in results)
    drawn = run("python heads_figure.py", checkout)
    assert drawn.returncode == 0, drawn.stderr
    assert (checkout / "heads.png").read_bytes().startswith(b"\x89PNG")


def test_weights_are_read_without_this_project(tmp_path):
    """Orbax alone reads them: the program runs where none of our code is."""
    (tmp_path / "weights.py").write_text(FILES["weights.py"])
    (trunk,) = (STORED / "runs" / "stored").glob("w8-l1-t12.3k-*")
    shutil.copytree(trunk, tmp_path / "runs" / "quickstart" / trunk.name)
    done = subprocess.run(
        [sys.executable, "-P", "weights.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'query': (" in done.stdout


def test_every_file_that_readme_names_exists():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py|\.md|/))`", text)) | set(
        re.findall(r"\]\((\S+)\)", text)
    )
    named -= {name for name in named if name.startswith(("runs/", "cache/", "my_text", "site/"))} | set(FILES)
    assert len(named) > 5
    assert not [name for name in named if "/" in name and not (ROOT / name).exists()]


def test_every_test_that_the_list_of_faults_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "tests" / "README.md").read_text())
    assert len(named) > 20
    for path, name in named:
        assert (ROOT / path).exists(), path
        assert f"def {name}(" in (ROOT / path).read_text() or not name, name
