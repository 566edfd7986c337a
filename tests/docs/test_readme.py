"""What README tells a user to type works."""

import json
import re
import shutil
import subprocess
import sys

from tests.support.small import ROOT, cache_folder, write_corpus


def example() -> str:
    """The experiment that README shows."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    return block


def test_the_example_experiment_is_one_short_file_and_trains(tmp_path):
    text = example()
    assert len(text.strip().splitlines()) <= 30
    checkout = tmp_path / "checkout"
    rooms = ("experiments", "launchers", "training", "model", "data", "analysis")
    for room in rooms:
        shutil.copytree(ROOT / room, checkout / room, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.py"):
        shutil.copy(path, checkout)
    (checkout / "experiments" / "aspect.py").write_text(text)
    corpus = write_corpus(tmp_path / "corpus")
    cache_folder(checkout)
    command = [sys.executable, "launch.py"]
    listing = subprocess.run([*command, "plan"], cwd=checkout, capture_output=True, text=True, check=False)
    assert "aspect" in listing.stdout
    flags = ["aspect", "--aspects", "8", "--params", "10000", "--tokens", "16384", "--corpus", f"text:{corpus}"]
    flags += ["--set", "data.validation_tokens=8192"]
    done = subprocess.run([*command, "run", *flags], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = (checkout / "runs" / "aspect").glob("*/result.json")
    assert json.loads(result.read_text())["evals"]["val/loss"] > 0


def test_every_file_that_readme_names_exists():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py|\.md|/))`", text)) | set(
        re.findall(r"\]\((\S+)\)", text)
    )
    named -= {name for name in named if name.startswith(("runs/", "cache/"))} | {
        "experiments/aspect.py"
    }  # made by commands
    assert len(named) > 5
    assert not [name for name in named if "/" in name and not (ROOT / name).exists()]


def test_every_test_that_the_list_of_faults_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "tests" / "README.md").read_text())
    assert len(named) > 20
    for path, name in named:
        assert (ROOT / path).exists(), path
        assert f"def {name}(" in (ROOT / path).read_text() or not name, name
