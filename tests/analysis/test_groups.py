"""Runs that differ in what a law does not know are never pooled; what follows from the size splits nothing."""

import contextlib
import dataclasses
import json
from collections import Counter

import pytest

from analysis.emergence.table import read_task_table, sweep_rows
from analysis.fit.command import main as fit
from analysis.isoflop.command import main as isoflop
from analysis.logs import groups
from analysis.logs.load import load_sweep
from analysis.report.command import write_report
from analysis.task_table import task_table
from core.codec import to_json
from data.config import DataConfig
from experiments import registry
from experiments.command import settings
from experiments.grids import distinct_models, over_tokens
from experiments.scaling import ScalingRule
from experiments.spec import Sweep
from model.config import ModelConfig
from tests.support.small import ROOT
from tests.support.trained_by_law import write_runs
from training.spec import OptimConfig, RunSpec

TOKENS = (65_536, 131_072, 262_144)
SHAPES = ((16, 2), (32, 2), (48, 2), (48, 4), (64, 4))
SIZES = (1e4, 2e4, 4e4, 9e4, 2e5)


def grid(sizes=4, tokens=TOKENS, trunk=False):
    rule = ScalingRule(data=DataConfig(validation_tokens=65_536))
    models = [rule.shape(width, depth) for width, depth in SHAPES[:sizes]]
    if trunk:
        return Sweep(run for model in models for run in rule.trunk_and_branches(0, tokens, 0, model))
    return Sweep(run for model in models for run in over_tokens(rule, model, tokens, 0, trunk=False))


def found(folder, *sweeps):
    for sweep in sweeps:
        write_runs(folder, sweep)
    return load_sweep(folder).groups


# How many groups an experiment's runs make by themselves: one, unless it is about a setting.
ABOUT_A_SETTING = {
    "learning_rate": 5,
    "lr_transfer": 12,
    "tune": 6,
    "tokenizer": 5,
    "depth_width": 4,
    "mixtures": 4,
    "optimizers": 20,
    "encoder": 2,
    "encoder_decoder": 6,
    "experts": 4,
    "experts h100": 3,
    "recurrence": 6,
    "transfer": 3,
}


@pytest.mark.parametrize("name", registry.names())
def test_what_follows_from_the_size_splits_no_experiment(name, tmp_path):
    experiment = registry.load(name)
    for preset, arguments in experiment.presets.items():
        made = found(tmp_path / preset, experiment.sweep(**arguments))
        expected = ABOUT_A_SETTING.get(f"{name} {preset}", ABOUT_A_SETTING.get(name, 1))
        assert len(made) == expected, groups.sentence(made)


@pytest.mark.parametrize("trunk", [False, True])
@pytest.mark.parametrize(
    "choices",
    [
        {"batch_rule": "power_line"}, {"batch_rule": "kaplan"}, {"batch_rule": "deepseek"}, {"batch_rule": "step_law"},
        {"parametrization": "mup", "decay_timescale": 0.2}, {"warmup_rule": "parameters"}, {"warmup_rule": "adam"},
        {"learning_rate_exponent": 0.0}, {"learning_rate_exponent": 0.25},
    ],
)  # fmt: skip
def test_every_rule_of_size_is_one_group(choices, trunk, tmp_path):
    rule = ScalingRule(**choices)
    runs = [run for model in distinct_models(rule, SIZES) for run in over_tokens(rule, model, TOKENS, 0, trunk)]
    assert len(found(tmp_path / "rule", Sweep(runs))) == 1


@pytest.mark.parametrize(
    "changed",
    [
        "model.qk_norm=false", "model.tied=false", "model.compute_dtype=bfloat16", "model.activation=gelu",
        "model.heads=1 model.kv_heads=1", "model.ff_width=64", "model.rope_base=500", "optim.learning_rate=3e-3",
        "optim.weight_decay=0", "optim.weight_decay=0.2", "optim.beta2=0.99", "optim.clip_norm=0.5",
        "optim.z_loss=1e-4", "optim.warmup_tokens=0", "optim.schedule=cosine optim.cooldown_tokens=0",
        "batch_tokens=2048", "data.tokenizer=bpe:512 model.vocabulary=512", "data.domain=docs",
        "data.corpus=text:docs", "data.sequence_length=64", "data.validation_tokens=8192", "data.skills=copying@0.1",
    ],
)  # fmt: skip
def test_any_setting_that_was_varied_splits_the_sweep(changed, tmp_path):
    other = grid().with_settings(settings(changed.split()))
    made = found(tmp_path / "mixed", grid(), other)
    assert len(made) == 2
    assert {run.run for run in made[0].runs} | {run.run for run in made[1].runs} == {
        spec.run_id for spec in [*grid(), *other]
    }
    key = changed.partition("=")[0]
    said = groups.sentence(made)
    assert key in said
    assert all(f"{len(group.runs)} runs" in said for group in made)


@pytest.mark.parametrize(
    "changed", ["seed=3", "model.scan=true", "model.remat=block", "data.unique_tokens=32768"]
)
def test_what_a_law_knows_and_what_changes_no_number_splits_nothing(changed, tmp_path):
    assert len(found(tmp_path / "one", grid(), grid().with_settings(settings([changed])))) == 1


def test_a_peak_that_is_off_the_rule_is_found_where_no_two_runs_share_a_size(tmp_path):
    fixed = {"optim.learning_rate": "0.003"}
    by_tokens = found(
        tmp_path / "tokens", grid(tokens=TOKENS[:2]), grid(tokens=TOKENS[2:]).with_settings(fixed)
    )
    assert sorted(len(group.runs) for group in by_tokens) == [4, 8]
    larger = Sweep(run for run in grid(5).with_settings(fixed) if run.model.width >= 48)
    by_size = found(tmp_path / "sizes", grid(2), larger)
    assert sorted(len(group.runs) for group in by_size) == [6, 9]


def test_two_lots_of_text_are_two_groups(tmp_path):
    folder = write_runs(tmp_path / "text", grid())
    for run in load_sweep(folder).runs[:5]:
        path = folder / run.run / "env.json"
        tree = json.loads(path.read_text())
        tree["corpus"]["fingerprint"] = "9" * 64
        path.write_text(json.dumps(tree))
    assert [len(group.runs) for group in load_sweep(folder).groups] == [7, 5]


def test_fields_that_early_specifications_lack_are_at_the_values_that_they_had():
    late = {
        f"{prefix}{field.name}": field.default
        for kind, prefix in (
            (RunSpec, ""),
            (ModelConfig, "model."),
            (OptimConfig, "optim."),
            (DataConfig, "data."),
        )
        for field in dataclasses.fields(kind)
        if field.metadata.get("identity") == "if set"
    }
    assert {key: value for key, value in late.items() if key not in groups.FREE} == groups.DEFAULTS
    assert groups.FREE - groups.flat(to_json(RunSpec())).keys() == set()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """What `--set model.qk_norm=false` without a --name makes of a sweep: two grids of 5 sizes and 5 data sizes."""
    tokens = (*TOKENS, 524_288, 1_048_576)
    folder = tmp_path_factory.mktemp("runs") / "mixed"
    other = grid(5, tokens).with_settings({"model.qk_norm": "false"})
    return write_runs(write_runs(folder, grid(5, tokens)), Sweep(list(other)[:-1]))


@pytest.mark.slow
def test_fit_and_isoflop_of_a_folder_take_one_group_at_a_time(mixed, tmp_path, capsys):
    fit([str(mixed), "--law", "power_flops", "--out", str(tmp_path / "fit.json")])
    stored = [json.loads((tmp_path / name).read_text()) for name in ("fit.json", "fit-2.json")]
    assert [one["n"] for one in stored] == [25, 24]
    printed = capsys.readouterr().out
    assert "model.qk_norm=true:" in printed and "model.qk_norm=false:" in printed
    for one in stored:
        assert any("runs differ in model.qk_norm" in warning for warning in one["warnings"])
    isoflop([str(mixed), "--bootstrap", "0", "--out", str(tmp_path / "isoflop.json")])
    found = [json.loads((tmp_path / name).read_text()) for name in ("isoflop.json", "isoflop-2.json")]
    assert [one["input"]["rows"] for one in found] == [25, 24]


@pytest.mark.slow
def test_the_report_of_a_mixed_folder_fits_each_group_and_says_so_on_top(mixed):
    page, said = write_report(mixed, bootstrap=0)
    text = page.with_name("report.md").read_text()
    head = text[: text.index("## Groups")].replace("\\", "")
    assert "runs differ in model.qk_norm, which a law of size and data does not know" in head
    assert "model.qk_norm=true: 25 runs; model.qk_norm=false: 24 runs" in head
    fits = [json.loads((page.parent / name).read_text()) for name in ("fit.json", "fit-2.json")]
    assert [one["n"] for one in fits] == [25, 24]
    assert [one["input"]["path"] for one in fits] == ["table.csv", "table-2.csv"]
    assert sum(sentence.startswith("qk_norm=false: ") for sentence in said) >= 2


def test_tasks_of_mixed_runs_are_told_apart(tmp_path):
    """Emergence and the table of tasks judge each group by itself."""
    with_tasks = Sweep(dataclasses.replace(run, tasks=("copying",), task_items=40) for run in grid(trunk=True))
    folder = write_runs(tmp_path / "tasks", with_tasks)
    write_runs(folder, with_tasks.with_settings({"model.qk_norm": "false"}))
    loaded = load_sweep(folder)
    wanted = {"copying (model.qk_norm=true)": 12, "copying (model.qk_norm=false)": 12}
    for rows in (sweep_rows(loaded)[0], task_table(loaded)):
        assert Counter(row["task"] for row in rows) == wanted
    assert {task.name for task in read_task_table(folder, "params").tasks} == set(wanted)


def test_a_registered_forecast_never_pools(tmp_path, capsys):
    from analysis.register import main as register

    folder = write_runs(
        write_runs(tmp_path / "mixed", grid()), grid().with_settings({"model.qk_norm": "false"})
    )
    (folder / "held_back.json").write_text(
        json.dumps({"runs": [{"run": "later", "params": 10**6, "tokens": 10**6}], "trunks": []})
    )
    with pytest.raises(SystemExit) as ended:
        register([str(folder)])
    assert ended.value.code == 2
    assert "runs differ in model.qk_norm" in capsys.readouterr().err


@pytest.mark.parametrize("command", [fit, isoflop])
def test_a_sweep_of_several_groups_is_read_once(tmp_path, monkeypatch, command):
    loads = []

    def counted(*arguments):
        loads.append(arguments)
        return load_sweep(*arguments)

    monkeypatch.setattr("analysis.logs.read.load_sweep", counted)
    stored = ROOT / "tests" / "stored" / "runs" / "stored"
    with contextlib.suppress(SystemExit):  # too few budgets for a valley
        command([str(stored), "--bootstrap", "0", "--out", str(tmp_path / "out.json")])
    assert len(loads) == 1
