"""The leaderboard: who is ranked on which items, what is refused or left out, its files, its section of the report."""

import dataclasses
import json
import math

import numpy as np
import pytest

from analysis.leaderboard.command import main
from analysis.logs.load import load_sweep
from analysis.report.sections import leaderboard
from core.files import JsonLines, read_json
from core.rundir import RunDirectory
from experiments.scaling import ScalingRule
from tests.analysis.test_sections import known
from tests.support.trained_by_law import write_runs
from training.spec import OptimConfig

BETTER = {"adamw": 0.0, "lion": 0.03, "sgd": 0.3}  # how much higher the loss of each item is, nats
ITEMS = 300


def specs_of(names=tuple(BETTER), widths=(16, 32), seeds=(0, 1), **fields):
    rule = ScalingRule()
    return [
        dataclasses.replace(
            (run := rule.run(0, 262_144, seed, model=rule.shape(width, depth=2))),
            optim=OptimConfig(**{**vars(run.optim), "name": name}),
            **fields,
        )
        for name in names
        for width in widths
        for seed in seeds
    ]


def add_items(folder, specs, fingerprint="f" * 64, task="val", attempt=1):
    """Of each held-out sequence its nats: hard ones are hard for all."""
    hard = np.random.default_rng(0).normal(2.5, 0.4, ITEMS)
    for place, spec in enumerate(specs):
        noise = np.random.default_rng(place + 1).normal(0, 0.04, ITEMS)
        loss = hard + BETTER[spec.optim.name] + noise + 0.5 * (spec.model.width == 16)
        row = {"task": task, "fingerprint": fingerprint, "tokens": spec.tokens, "attempt": attempt}
        with JsonLines(folder / spec.run_id / "task_items.jsonl") as log:
            log.append(
                {**row, "nll": [round(64 * value, 4) for value in loss], "target_tokens": [64.0] * ITEMS}
            )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "optimizers"
    specs = specs_of()
    write_runs(folder, specs)
    add_items(folder, specs)
    return folder


def board_of(capsys, *arguments):
    assert main([*map(str, arguments), "--draws", "200", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_recipes_are_ranked_at_equal_size_with_seeds_averaged(sweep, capsys):
    size = RunDirectory(next(sweep.glob("w32*"))).read_ledger()["params"]["non_embedding_plus_head"]
    found = board_of(capsys, sweep, "--at", f"params={size}")
    (board,) = found["boards"]
    assert [(one["rank"], one["label"]) for one in board["standings"]] == [
        (1, "optimizers (adamw)"), (2, "optimizers (lion)"), (3, "optimizers (sgd)"),
    ]  # fmt: skip
    assert board["items"] == ITEMS and board["tied"] == 0
    by_label = {one["label"]: place for place, one in enumerate(board["standings"])}
    first, second = by_label["optimizers (adamw)"], by_label["optimizers (lion)"]
    # Two seeds averaged: noise of 0.04 of each item, so 0.03 apart wins Phi(0.03 / 0.04) of them.
    share = board["wins"][first][second]
    assert share == pytest.approx(0.5 * (1 + math.erf(0.03 / 0.04 / math.sqrt(2))), abs=0.06)
    assert board["wins"][second][first] == pytest.approx(1 - share)
    assert board["separated"] and any("no finite value" in warning for warning in found["warnings"])


def test_every_run_is_ranked_by_itself_and_unequal_compute_is_said(sweep, capsys):
    found = board_of(capsys, sweep)
    standings = found["boards"][0]["standings"]
    assert len(standings) == 12 and standings[0]["label"].startswith("w32")
    assert any("compute differs by a factor of" in warning for warning in found["warnings"])
    two = sorted(path for path in sweep.glob("w32*") if path.is_dir())[:2]
    alone = board_of(capsys, *two)["boards"][0]
    wins = alone["wins"][0][1]
    apart = alone["standings"][0]["strength"] - alone["standings"][1]["strength"]
    assert apart == pytest.approx(math.log(wins / (1 - wins)), abs=1e-6)
    assert {one["label"] for one in alone["standings"]} == {path.name for path in two}
    bits = board_of(capsys, *two, "--metric", "bits_per_byte")["boards"][0]["standings"]
    scales = []
    for one, other in zip(bits, alone["standings"], strict=True):
        assert one["strength"] == other["strength"]
        scales += [
            (end - one["value"]) / (old - other["value"])
            for end, old in zip(one["interval"], other["interval"], strict=True)
        ]
    assert scales == pytest.approx([scales[0]] * 4) and scales[0] != 1  # one number for the text


def test_several_metrics_have_a_board_each_and_one_of_all(tmp_path, capsys):
    folder, specs = tmp_path / "tasks", specs_of(widths=(16,), seeds=(0,))
    specs = [dataclasses.replace(spec, tasks=("copying",), task_items=40) for spec in specs]
    write_runs(folder, specs)
    add_items(folder, specs)
    chance = np.random.default_rng(5)
    for spec in specs:
        right = (chance.random(40) < (0.9 if spec.optim.name == "sgd" else 0.2)).astype(float).tolist()
        common = {"fingerprint": "c" * 64, "tokens": spec.tokens, "attempt": 1}
        with JsonLines(folder / spec.run_id / "task_items.jsonl") as log:
            log.append({"task": "copying", **common, "exact_match": [0.0] * 40})  # an earlier score
            log.append({"task": "copying", **common, "exact_match": right})
            log.append({"task": "lm-eval/sums", **common, "acc": [*right[:-1], None]})
        with JsonLines(folder / spec.run_id / "evals.jsonl") as log:
            for name, value in (("acc", np.mean(right[:-1])), ("chance", 0.25)):
                row = {
                    "tokens": spec.tokens,
                    "name": f"lm-eval/sums/{name}",
                    "value": value,
                    "n": 39,
                    "stderr": 0.1,
                }
                log.append({**row, "attempt": 1})
    flags = ("--metric", "val/loss", "--metric", "task/copying/exact_match", "--metric", "lm-eval/sums/acc")
    found = board_of(capsys, folder, *flags)
    loss, copying, sums, every = found["boards"]
    assert [board["metric"] for board in found["boards"]] == [*flags[1::2], "all metrics"]
    sgd = next(spec.run_id for spec in specs if spec.optim.name == "sgd")
    assert loss["standings"][-1]["label"] == sgd
    assert copying["standings"][0]["label"] == sums["standings"][0]["label"] == sgd
    assert sums["items"] == 39 and every["items"] == ITEMS + 40 + 39
    assert copying["tied"] > 0.3 and copying["standings"][0]["rank"] == 1
    for one in every["standings"]:
        assert one["value"] == pytest.approx(one["win_share"])


def test_runs_on_other_items_are_left_out_with_a_line(sweep, tmp_path, capsys):
    folder, specs = tmp_path / "mixed", specs_of(widths=(32,), seeds=(0,))
    write_runs(folder, specs)
    add_items(folder, specs[:2])
    other = {label.name for label in folder.iterdir() if label.is_dir()} - {one.run_id for one in specs[:2]}
    found = board_of(capsys, folder)
    (label,) = found["left_out"]
    assert label == f"{next(iter(other))} (val/loss)"
    assert f"python launch.py backfill {folder} --text adds them" in found["left_out"][label]
    add_items(folder, specs[2:], fingerprint="0" * 64)
    (why,) = board_of(capsys, folder)["left_out"].values()
    assert why == "was scored on other items: another text, tokenizer or length"
    both = board_of(capsys, folder, sweep)
    assert both["boards"][0]["standings"][0]["label"].startswith(("mixed/", "optimizers/"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no runs: name the directories"),
        (("none",), "none"),
        (("{sweep}", "--metric", "val/other"), "--metric val/other: ends in other"),
        (("{sweep}", "--metric", "task/copying/exact_match"), "has no task/copying/exact_match at its end"),
        (("{sweep}", "--at", "size=3"), "--at size=3: must be flops=NUMBER"),
        (("{sweep}", "--at", "params=1e9"), "0 of 0 runs can be compared"),
        (("{sweep}", "--draws", "3"), "--draws=3: must be at least 100"),
        (("{sweep}", "--figure", "a.pdf"), "--figure a.pdf: must end in .svg or .png"),
    ],
)
def test_what_cannot_be_ranked_is_refused_in_one_line(sweep, arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main([argument.format(sweep=sweep) for argument in arguments])
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(said) == 1 and words in said[0]


def test_the_files_and_the_section_of_the_report_say_the_same(sweep, tmp_path, capsys):
    out = tmp_path / "leaderboard.json"
    size = RunDirectory(next(sweep.glob("w32*"))).read_ledger()["params"]["non_embedding_plus_head"]
    assert main([str(sweep), "--at", f"params={size}", "--out", str(out), "--draws", "100"]) == 0
    table = capsys.readouterr().out
    assert "1 + those whose strength is higher" in table and f"written: {out}" in table
    for kind in (".svg", ".png"):
        assert out.with_suffix(kind).stat().st_size > 1000
    written = read_json(out)["boards"][0]["standings"]
    found = leaderboard.section(known(sweep))
    shown = found.results["leaderboard.json"]["boards"][0]["standings"]
    assert [one["strength"] for one in shown] == pytest.approx([one["strength"] for one in written])
    assert found.said == (
        "At width 32 and 262,144 tokens, adamw is first of 3 by wins on 300 held-out sequences.",
    )
    assert found.drawings[0].draw().axes
    (one,) = (
        path for path in sweep.glob("w32*s0*") if read_json(path / "spec.json")["optim"]["name"] == "adamw"
    )
    alone = dataclasses.replace(load_sweep(sweep), chosen=frozenset({one.name}))
    assert leaderboard.section(dataclasses.replace(known(sweep), sweep=alone)) is None


def test_damaged_rows_are_no_items(tmp_path, capsys):
    folder, specs = tmp_path / "damaged", specs_of(names=("adamw", "sgd"), widths=(16,), seeds=(0,))
    write_runs(folder, specs)
    add_items(folder, specs)
    with (folder / specs[0].run_id / "task_items.jsonl").open("a") as file:
        tokens = specs[0].tokens
        file.write(
            f'{{"task": "val", "fingerprint": "f", "tokens": {tokens}, "nll": [1], "target_tokens": []}}\n[1\n'
        )
        file.write(f'{{"task": 3, "tokens": {tokens}}}\n')
    assert len(board_of(capsys, folder)["boards"][0]["standings"]) == 2
