"""Text that changed under the same name is refused: by a branch, a new run of a sweep, and a run that is resumed."""

import json
import shutil
from pathlib import Path

import pytest

from core.codec import from_json
from core.errors import BadInput
from tests.support.small import cache_folder, launch_command, run_launch, write_corpus
from training.same_text import check_begun
from training.spec import RunSpec

pytestmark = pytest.mark.slow

MORE = ("--sizes", "1", "--set", "data.validation_tokens=1024")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with corpus/, cache/ and the sweep of a trunk and one branch."""
    folder = tmp_path_factory.mktemp("trained")
    write_corpus(folder / "corpus", 60)
    done = run_launch(command(folder, "--tokens", "16384"))
    assert done.returncode == 0, done.stderr
    return folder


def command(folder: Path, *arguments: str) -> list[str]:
    cache = folder / "cache"
    return launch_command(
        folder / "corpus", folder / "runs", cache if cache.exists() else cache_folder(folder), *MORE, *arguments
    )


@pytest.fixture
def changed(trained):
    """The folder with a text more in its corpus; afterwards it is as it was."""
    extra = trained / "corpus" / "extra.txt"
    extra.write_text("one more text\n" * 200)
    before = {path: path.read_bytes() for path in trained.glob("runs/*/*/*.json")}
    yield trained
    extra.unlink()
    for path in trained.glob("runs/*/*"):
        if path.is_dir() and not any(path in one.parents for one in before):
            shutil.rmtree(path)


def runs_of(folder: Path) -> dict[str, Path]:
    return {json.loads((path / "result.json").read_text())["role"]: path for path in folder.glob("runs/*/w*")}


def test_a_new_run_of_the_sweep_is_refused_before_anything_is_trained(changed):
    done = run_launch(command(changed, "--tokens", "16384", "32768", "--no-trunk"))
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the corpus of data.corpus=" in line
    assert "changed since 2 runs such as w" in line
    assert "restore it, take another --name" in line
    assert len(list(changed.glob("runs/*/w*"))) == 2
    named = run_launch(command(changed, "--tokens", "16384", "--no-trunk", "--name", "other"))
    assert named.returncode == 0, named.stderr


def test_a_branch_does_not_begin_on_other_text_than_its_trunk(trained):
    runs = runs_of(trained)
    spec = from_json(RunSpec, json.loads((runs["branch"] / "spec.json").read_text()))
    here = json.loads((runs["trunk"] / "env.json").read_text())["corpus"]
    check_begun(spec, runs["branch"], here)
    other = {**here, "fingerprint": "0" * 64, "corpus_fingerprint": "1" * 64}
    with pytest.raises(BadInput, match=rf"the corpus changed since its trunk {spec.parent} .*now 000000000000"):
        check_begun(spec, runs["branch"], other)
    with pytest.raises(BadInput, match="the tokenizer changed since its trunk"):
        check_begun(spec, runs["branch"], {**here, "fingerprint": "0" * 64})


def test_a_branch_is_refused_where_only_its_trunk_is_there(changed, tmp_path):
    """Without a launcher: python -m training.run of the branch alone."""
    runs = runs_of(changed)
    sweep = tmp_path / "sweep"
    shutil.copytree(runs["trunk"], sweep / runs["trunk"].name)
    (sweep / runs["branch"].name).mkdir()
    shutil.copy(runs["branch"] / "spec.json", sweep / runs["branch"].name)
    words = ["-m", "training.run", str(sweep / runs["branch"].name), "--cache", str(changed / "cache")]
    done = run_launch([command(changed)[0], *words])
    assert done.returncode == 2, done.stderr
    assert f"the corpus changed since its trunk {runs['trunk'].name} was trained" in done.stderr
    assert not (sweep / runs["branch"].name / "env.json").exists()


def test_a_run_that_is_resumed_is_refused_too(changed, tmp_path):
    runs = runs_of(changed)
    run = tmp_path / "sweep" / runs["trunk"].name
    shutil.copytree(runs["trunk"], run)
    (run / "result.json").unlink()
    done = run_launch([command(changed)[0], "-m", "training.run", str(run), "--cache", str(changed / "cache")])
    assert done.returncode == 2
    assert "the corpus changed since this run began" in done.stderr


def test_other_mixtures_and_thresholds_of_one_sweep_are_other_text_and_no_fault(trained, tmp_path):
    runs = runs_of(trained)
    tree = json.loads((runs["trunk"] / "spec.json").read_text())
    here = json.loads((runs["trunk"] / "env.json").read_text())["corpus"]
    (tmp_path / "sweep").mkdir()
    shutil.copytree(runs["trunk"], tmp_path / "sweep" / runs["trunk"].name)
    other = {**here, "fingerprint": "0" * 64}
    for change in ({"mixture": "pysource:code=0.50,pysource:docs=0.50"}, {"near_duplicates": 0.75}):
        spec = from_json(RunSpec, {**tree, "data": {**tree["data"], **change}})
        check_begun(spec, tmp_path / "sweep" / spec.run_id, other)
    with pytest.raises(BadInput, match="changed since run"):
        check_begun(
            from_json(RunSpec, {**tree, "seed": 7}), tmp_path / "sweep" / "w16-l1-t16.4k-s7-00000000", other
        )
