"""Equal specifications are one run, and nobody learns that from a missing line of a table."""

import json
import re
from pathlib import Path

import pytest

import launch
from experiments import data_constrained, kaplan, quickstart, registry
from experiments.spec import Sweep
from tests.support.documents import blocks, commands
from tests.support.small import ROOT

EXAMPLES = [
    (page, block)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    for block in blocks(page)
    if block.title.startswith("experiments/")
]

# Of five shapes this leaves two, which differ in depth.
ONE_SHAPE = {"model.width": "48", "model.heads": "1", "model.kv_heads": "1", "optim.learning_rate": "0.01"}


def test_a_sweep_says_what_it_collapses_to():
    run = next(iter(quickstart.sweep(trunk=False)))
    assert Sweep([run]).collapsed == ""
    said = Sweep([run, run, run]).collapsed
    assert said.startswith("3 specs, 1 distinct: ")
    assert f"{run.run_id} is given 3 times" in said


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: quickstart.sweep(sizes=1, tokens=(65_536, 65_600), trunk=False), "2 specs, 1 distinct"),
        (lambda: quickstart.sweep(sizes=1, tokens=(65_536, 65_600, 131_072)), "4 specs, 3 distinct"),
        (lambda: kaplan.sweep(params=(2.1e4, 2.11e4), tokens=(65_536, 131_072)), "6 specs, 3 distinct"),
        (lambda: data_constrained.sweep(params=(1.1e4, 1.11e4), unique_tokens=(0,)), "12 specs, 6 distinct"),
        (lambda: quickstart.sweep(trunk=False).with_settings(ONE_SHAPE), "25 specs, 13 distinct"),
        (lambda: quickstart.sweep(seeds=2, trunk=False).with_settings({"seed": "0"}), "50 specs, 25 distinct"),
    ],
)  # fmt: skip
def test_arguments_and_settings_that_make_runs_equal_are_said(made, words):
    assert made().collapsed.startswith(words)


@pytest.mark.parametrize("name", registry.names())
def test_no_shipped_experiment_collapses(name):
    experiment = registry.load(name)
    for arguments in experiment.presets.values():
        assert experiment.sweep(**arguments).collapsed == ""


def collapsing(verb, folder):
    """Of two token counts, less than a batch apart."""
    words = f"{verb} quickstart --sizes 1 --tokens 65536 65600 --no-trunk".split()
    return [*words, "--runs", str(folder), "--cache", str(folder)]


def test_plan_says_it_in_words_and_in_json(capsys, tmp_path):
    words = collapsing("plan", tmp_path)
    assert launch.main(words) == 0
    assert "2 specs, 1 distinct" in capsys.readouterr().out
    assert launch.main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["totals"]["specs"] == 2 and plan["totals"]["runs"] == 1 == len(plan["runs"])
    assert plan["collapsed"].startswith("2 specs, 1 distinct")


def test_run_says_it(capsys, tmp_path):
    assert launch.main([*collapsing("run", tmp_path), "--dry-run"]) == 0
    assert "2 specs, 1 distinct" in capsys.readouterr().out


@pytest.mark.parametrize(("page", "block"), EXAMPLES, ids=lambda value: getattr(value, "title", ""))
def test_an_example_of_a_page_makes_as_many_runs_as_the_page_says(page, block):
    """At its printed values, and with the flags of the commands beneath it."""
    namespace: dict = {"__name__": "example"}
    exec(compile(block.text, block.title, "exec"), namespace)
    assert namespace["sweep"]().collapsed == ""
    name = Path(block.title).stem
    said = {
        command.line: int(found[1])
        for other in blocks(page)
        if other.language == "sh"
        for command in commands(other)
        if f"plan {name}" in command.line and (found := re.search(r"(\d+) runs", command.comment))
    }
    assert said, f"{page.name}: no command says how many runs {name} makes"
    for line, count in said.items():
        flags = re.findall(r"--(\w+) (\d+)", line)
        assert len(namespace["sweep"](**{flag: int(value) for flag, value in flags})) == count, line
