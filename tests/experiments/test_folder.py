"""Where a sweep lies: `--set` without `--name` has a folder of its own, named after what is set."""

import re
from pathlib import Path

import pytest

from core.codec import to_json
from experiments.command import choose
from experiments.folder import MOST, named_after
from planning.flags import PlanFlags
from training.records import write_spec
from training.spec import RunSpec


def directory_of(tmp_path: Path, *words: str) -> str:
    """Name of the folder that `plan quickstart` with these words speaks of."""
    study, _ = choose("plan", ["quickstart", "--sizes", "1", "--runs", str(tmp_path), *words], PlanFlags, "")
    assert study.directory.parent == tmp_path
    return study.directory.name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "quickstart"),
        (["--seeds", "3"], "quickstart"),
        (["--set", "model.width=96"], "quickstart-width-96"),
        (["--seeds", "3", "--set", "model.width=96"], "quickstart-width-96"),
        (["--set", "optim.weight_decay=0.25"], "quickstart-weight_decay-0.25"),
        (["--set", "optim.weight_decay=2.5e-1"], "quickstart-weight_decay-0.25"),
        (["--set", "optim.weight_decay=0.25", "model.width=96"], "quickstart-width-96-weight_decay-0.25"),
        (
            ["--set", "model.width=96", "--set", "optim.weight_decay=0.25"],
            "quickstart-width-96-weight_decay-0.25",
        ),
        (["--set", "model.qk_norm=false", "--name", "mine"], "mine"),
        (["--set", "model.qk_norm=true"], "quickstart"),  # as it is anyhow
    ],
)
def test_the_folder_is_named_after_what_is_set(tmp_path, words, name):
    assert directory_of(tmp_path, *words) == name


def test_names_are_safe_short_and_different(tmp_path):
    texts = [
        "text:/a/b",
        "text:/a-b",
        "text:/a b",
        "text:../$(x)",
        f"text:/{'long/' * 60}x",
        f"text:/{'long/' * 60}y",
    ]
    trees = [to_json(RunSpec()) | {"data": to_json(RunSpec())["data"] | {"corpus": text}} for text in texts]
    names = [named_after("quickstart", tree, {"data.corpus": "typed"}) for tree in trees]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"quickstart-corpus-[A-Za-z0-9._-]+", name)
        assert len(name) <= MOST


def test_a_sweep_that_began_in_the_experiments_folder_goes_on_there(tmp_path, capsys):
    """Before it had one of its own it was trained there."""
    words = ["quickstart", "--sizes", "1", "--runs", str(tmp_path), "--set", "model.width=48"]
    study, _ = choose("plan", words, PlanFlags, "")
    assert study.directory.name == "quickstart-width-48"
    write_spec(tmp_path / "quickstart" / study.specs[0].run_id, study.specs[0])
    study, _ = choose("plan", words, PlanFlags, "")
    assert study.directory.name == "quickstart"
    said = capsys.readouterr().err
    assert "has runs of these settings, so they go on there" in said
    assert len(said.splitlines()) == 1


def test_runs_of_the_plain_experiment_draw_no_other_settings_into_its_folder(tmp_path):
    study, _ = choose("plan", ["quickstart", "--sizes", "1", "--runs", str(tmp_path)], PlanFlags, "")
    for spec in study.specs:
        write_spec(tmp_path / "quickstart" / spec.run_id, spec)
    assert directory_of(tmp_path, "--set", "model.width=48") == "quickstart-width-48"


def test_what_is_asked_for_can_be_put_down(tmp_path):
    words = [
        "quickstart",
        "--sizes",
        "2",
        "--runs",
        str(tmp_path),
        "--set",
        "model.qk_norm=false",
        "--name",
        "a b",
    ]
    study, _ = choose("run", words, PlanFlags, "")
    asked = study.asked
    assert asked is not None
    assert asked.command.startswith("python launch.py run quickstart --sizes 2 --runs ")
    assert asked.command.endswith(" --name 'a b'")
    assert (asked.experiment, asked.preset, asked.settings) == ("quickstart", None, {"model.qk_norm": "false"})
    assert asked.arguments["sizes"] == 2
    assert asked.arguments["tokens"] == []
    assert asked.runs == tuple(spec.run_id for spec in study.specs)
