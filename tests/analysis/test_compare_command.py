"""analysis.compare as users call it: sweeps and tables in; compare.json, a figure, a sentence or a refusal out."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.compare.command import main as compare
from analysis.logs.load import load_sweep
from analysis.report.sections.compare import section
from analysis.report.study import Study
from core.files import write_json
from experiments import quickstart
from experiments.spec import Sweep
from tests.support.trained_by_law import write_runs

TOKENS = (65_536, 131_072, 262_144)
ROUTING = Path(__file__).resolve().parents[2] / "bench" / "published" / "routing" / "dense_and_64_experts.csv"


def grid(seeds=1, sizes=4):
    return quickstart.sweep(sizes=sizes, tokens=TOKENS, trunk=False, seeds=seeds)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two sweeps of one recipe each, and both in one."""
    root = tmp_path_factory.mktemp("runs")
    without = grid().with_settings({"model.qk_norm": "false"})
    write_runs(root / "with", grid())
    write_runs(root / "without", without)
    write_runs(root / "both", Sweep([*grid(), *without]))
    return root


def refused(capsys, *arguments):
    """The one line of a refusal."""
    with pytest.raises(SystemExit) as stop:
        compare([str(one) for one in arguments])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    return said.err


def test_two_sweeps(runs, tmp_path, capsys):
    out = tmp_path / "compare.json"
    compare([str(runs / "with"), str(runs / "without"), "--target", "1e12", "--out", str(out)])
    said = capsys.readouterr().out
    stored = json.loads(out.read_text())
    keys = {"axis", "metric", "multiplier", "trend", "crossing", "asymptote", "at_target", "warnings", "inputs"}
    assert keys <= stored.keys()
    assert said.startswith(stored["sentence"])
    assert stored["axis"] == "flops"
    assert stored["metric"] == "val/loss"
    assert {"loss", "value", "interval"} <= stored["multiplier"][0].keys()
    assert {"slope", "interval"} == stored["trend"].keys()
    low, high = stored["overall"]["interval"]
    assert low < 1 < high, "the losses of these runs do not know of qk_norm"
    assert [one["label"] for one in stored["inputs"]] == ["with", "without"]
    assert [one["rows"] for one in stored["inputs"]] == [12, 12]
    assert (tmp_path / "compare.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_the_values_of_a_setting_within_a_sweep(runs, capsys):
    compare([str(runs / "both"), "--by", "model.qk_norm", "--json"])
    stored = json.loads(capsys.readouterr().out)
    assert (stored["baseline"], stored["against"]) == ("qk_norm=false", "qk_norm=true")
    compare([str(runs / "both"), str(runs / "with"), "--where", "model.qk_norm=true", "--json"])
    overall = json.loads(capsys.readouterr().out)["overall"]
    assert overall["value"] == pytest.approx(1.0), "the same runs"


def test_several_sides_are_held_against_the_first(runs, capsys):
    third = shutil.copytree(runs / "with", runs / "third")
    compare([str(runs / "with"), str(runs / "without"), str(third), "--json"])
    stored = json.loads(capsys.readouterr().out)
    assert stored["baseline"] == "with"
    assert [one["against"] for one in stored["comparisons"]] == ["without", "third"]
    assert len(stored["inputs"]) == 3


@pytest.mark.parametrize("axis", ["tokens", "params"])
def test_other_axes(runs, axis, capsys):
    compare([str(runs / "with"), str(runs / "without"), "--axis", axis, "--metric", "bits_per_byte"])
    said = capsys.readouterr()
    assert f"times {dict(tokens='less', params='fewer')[axis]}" in said.out or "times more" in said.out
    assert said.err == ""


def test_groups_inside_one_side_are_refused(runs, capsys):
    said = refused(capsys, runs / "both", runs / "with")
    assert "differ in model.qk_norm" in said
    assert "--by KEY" in said


def test_nats_of_other_tokenizers_are_refused_and_bits_are_not(runs, tmp_path, capsys):
    other = grid().with_settings({"data.tokenizer": "bpe:512", "model.vocabulary": "512"})
    write_runs(tmp_path / "bpe", other)
    said = refused(capsys, runs / "with", tmp_path / "bpe")
    assert "nats per token cannot be compared" in said
    assert "--metric bits_per_byte" in said
    compare([str(runs / "with"), str(tmp_path / "bpe"), "--metric", "bits_per_byte"])


def test_another_corpus_is_refused(runs, tmp_path, capsys):
    write_runs(tmp_path / "docs", grid().with_settings({"data.domain": "docs"}))
    assert "nats per token cannot be compared" in refused(capsys, runs / "with", tmp_path / "docs")
    compare([str(runs / "with"), str(tmp_path / "docs"), "--metric", "bits_per_byte"])
    assert "held-out text may differ" in capsys.readouterr().out


def test_ledgers_that_count_other_things_are_refused(runs, tmp_path, capsys):
    copied = shutil.copytree(runs / "with", tmp_path / "other")
    for ledger in copied.glob("*/ledger.json"):
        value = json.loads(ledger.read_text())
        value["flops_per_token"]["experts"] = value["flops_per_token"]["exact"]
        write_json(ledger, value)
        result = ledger.parent / "result.json"
        stored = json.loads(result.read_text())
        stored.pop("files", None)
        write_json(result, stored)
    said = refused(capsys, runs / "with", copied)
    assert "FLOPs count different things" in said
    assert "--flops CONVENTION" in said
    compare([str(runs / "with"), str(copied), "--flops", "6N_total"])
    assert "are taken as 6N_total" in capsys.readouterr().out


def test_one_side_tuned_is_said_and_its_best_is_taken(runs, tmp_path, capsys):
    tuned = Sweep(
        [
            run
            for rate in ("0.001", "0.004", "0.016")
            for run in grid().with_settings({"optim.learning_rate": rate})
        ]
    )
    write_runs(tmp_path / "tuned", tuned)
    compare([str(runs / "without"), str(tmp_path / "tuned"), "--json"])
    stored = json.loads(capsys.readouterr().out)
    assert stored["inputs"][1]["rows"] == 12
    assert any(
        "learning rates tried at one size: 1 in without, 3 in tuned" in one for one in stored["warnings"]
    )
    assert any("of 36 runs the 12 of the best optim.learning_rate" in one for one in stored["warnings"])


@pytest.mark.parametrize(("rates", "edges"), [((0.001, 0.004, 0.016), 0), ((0.004, 0.008, 0.016), 12)])
def test_a_best_rate_at_the_edge_of_its_grid_is_said(runs, tmp_path, capsys, rates, edges):
    """The loss is lowest at 0.004: inside the first grid, the smallest of the second."""
    runs_of = [
        (rate, run) for rate in rates for run in grid().with_settings({"optim.learning_rate": str(rate)})
    ]
    folder = write_runs(tmp_path / "tuned", Sweep([run for _, run in runs_of]))
    for rate, run in runs_of:
        worse = 1 + 0.05 * math.log(rate / 0.004) ** 2
        for path in (folder / run.run_id / "result.json", folder / run.run_id / "evals.jsonl"):
            rescaled(path, worse)
    compare([str(runs / "without"), str(folder), "--json"])
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    said = [one for one in warnings if "is the smallest or the largest tried" in one]
    assert [
        one for one in said if f"at {edges} of 12 sizes: a better one may lie beyond its grid" in one
    ] == said
    assert bool(said) == bool(edges)


def rescaled(path, factor):
    """Losses of a record or a log, times a factor; without the checksums of what they were."""
    if path.name == "result.json":
        value = json.loads(path.read_text())
        value["evals"] = {name: number * factor for name, number in value["evals"].items()}
        write_json(path, {key: entry for key, entry in value.items() if key not in ("files", "sha256")})
        return
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"value": row["value"] * factor}) + "\n" for row in rows))


def test_unfinished_and_missing_runs_are_said(tmp_path, capsys, runs):
    specs = list(grid())
    folder = write_runs(tmp_path / "short", Sweep(specs), finished=[run.run_id for run in specs[:-2]])
    write_json(folder / "sweep.json", {"runs": [*(run.run_id for run in specs), "w64-never-00000000"]})
    compare([str(runs / "with"), str(folder)])
    said = capsys.readouterr().out
    assert "2 of 12 runs are missing from the fits" in said
    assert "1 runs of sweep.json were never started, such as w64-never-00000000" in said


def test_one_size_is_said_and_one_cost_refused(tmp_path, runs, capsys):
    write_runs(tmp_path / "one", grid(sizes=1))
    compare([str(runs / "with"), str(tmp_path / "one")])
    assert "one: one model size only" in capsys.readouterr().out
    assert "one: 3 runs of one size only (params" in refused(
        capsys, runs / "with", tmp_path / "one", "--axis", "params"
    )


def table(path, times=1.0, noise=0.002, seed=0, **more):
    flops = np.geomspace(1e15, 1e18, 25)
    loss = (1.7 + 60 * (flops * times) ** -0.12) * np.exp(
        noise * np.random.default_rng(seed).standard_normal(25)
    )
    columns = {"N": np.sqrt(flops / 120), "D": 20 * np.sqrt(flops / 120), "C": flops, "val": loss, **more}
    lines = [
        ",".join(columns),
        *(",".join(str(one) for one in row) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


NAMES = [
    f"--column={name}={header}"
    for name, header in (("params", "N"), ("tokens", "D"), ("flops", "C"), ("loss", "val"))
]


def test_two_tables_with_names_of_their_own(tmp_path, capsys):
    a, b = table(tmp_path / "a.csv"), table(tmp_path / "b.csv", times=1.3, seed=1)
    compare([str(a), str(b), *NAMES, "--json"])
    stored = json.loads(capsys.readouterr().out)
    assert stored["overall"]["value"] == pytest.approx(1.3, rel=0.05)
    assert stored["overall"]["interval"][0] < 1.3 < stored["overall"]["interval"][1]


def test_flops_of_six_n_d_are_said_and_not_mixed(tmp_path, capsys):
    a, b = table(tmp_path / "a.csv"), table(tmp_path / "b.csv", times=1.3, seed=1)
    compare([str(a), str(b), *NAMES[:2], NAMES[3]])
    assert "FLOPs are 6 N D on both sides" in capsys.readouterr().out
    b.write_text(b.read_text().replace(",C,", ",flops,", 1))
    assert "FLOPs count different things" in refused(capsys, a, b, *NAMES[:2], NAMES[3])


def test_a_published_table_by_its_column(capsys):
    compare(
        [
            str(ROUTING),
            "--by",
            "num_experts",
            "--axis",
            "params",
            "--asymptote",
            "0",
            "--source",
            "Clark et al. 2022",
        ]
    )
    said = capsys.readouterr().out
    assert said.startswith("num_experts=64 reaches num_experts=1's loss with 4.8")
    assert "the gain shrinks with scale" in said
    assert "Floor (held, from Clark et al. 2022): 0" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--asymptote", "1.7"], "--asymptote 1.7: say where it comes from, with --source TEXT"),
        (["--asymptote", "half"], "--asymptote half: must be shared, own, or a number"),
        (["--target", "1e3", "--target-loss", "2"], "one of them is allowed"),
        (["--target", "-1"], "--target -1: must be positive"),
        (["--level", "1.5"], "--level 1.5: must be between 0 and 1"),
        (["--metric", "task/none/exact_match"], "task/none/exact_match: run"),
        (["--metric", "val/wer"], "--metric val/wer: ends in wer"),
        (["--axis", "watts"], "invalid choice: 'watts'"),
        (["--where", "model.width=7"], "--where model.width=7: no run of"),
        (["--figure", "x.gif"], "--figure x.gif: must end in .svg or .png"),
        (["--by", "model.width"], "--by model.width: takes one sweep or table"),
        (["--flops", "none"], "its ledger has exact, palm"),
    ],
)  # fmt: skip
def test_bad_flags_are_one_line(runs, capsys, arguments, words):
    assert words in refused(capsys, runs / "with", runs / "without", *arguments)


def test_bad_paths_are_one_line(runs, tmp_path, capsys):
    assert "at least 2 sweeps or tables are compared" in refused(capsys, runs / "with")
    assert "no such file or directory" in refused(capsys, runs / "with", tmp_path / "none.csv")
    assert "no column num; it has router_type, num_experts" in refused(capsys, ROUTING, "--by", "num")
    (tmp_path / "text.csv").write_text("a,b\n1,x\n2,y\n")
    refused(capsys, runs / "with", tmp_path / "text.csv")


def study_of(folder):
    """What a section is given, without the fits."""
    sweep = load_sweep(folder)
    return Study(sweep, {}, np.zeros(0, bool), sweep.evaluations(), sweep.metrics([]), settings=sweep.groups)


def test_a_section_of_the_report_answers_the_one_setting(runs):
    made = section(study_of(runs / "both"))
    stored = made.results["compare.json"]
    assert stored["baseline"] == "qk_norm=false"
    assert made.answer == stored["sentence"]
    assert made.said == (stored["sentence"],)
    table = next(block for block in made.blocks if block.kind == "rows")
    assert table.rows[0][:2] == ("true", "false")
    assert made.drawings[0].draw().axes[1].get_title(loc="left") == "Multiplier at equal loss"


def test_no_section_where_nothing_is_compared(runs):
    assert section(study_of(runs / "with")) is None
