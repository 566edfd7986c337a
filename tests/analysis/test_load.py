"""Run directories read back: completeness, attempts, torn lines, conventions and differences."""

import json
import math
import shutil
import time

import numpy as np
import pytest

from analysis.logs.files import read_logs
from analysis.logs.load import load_sweep
from analysis.logs.load_curves import EVALUATION_COLUMNS
from analysis.logs.read import read_table
from core.errors import BadInput
from core.sweep_file import SweepRequest, write_sweep_file
from tests.support.synthetic_sweep import params_of, run_name, write_run, write_sweep


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_table_of_a_sweep_holds_every_final_evaluation(sweep_once):
    table = read_table(sweep_once)
    assert table.rows == 20
    rows = {str(run): index for index, run in enumerate(table.columns["run"])}
    for width, tokens in ((16, 524_288), (96, 4_194_304)):
        index = rows[run_name(width, tokens, 0)]
        result = json.loads((sweep_once / run_name(width, tokens, 0) / "result.json").read_text())
        assert table.columns["params"][index] == params_of(width)
        assert table.columns["tokens"][index] == tokens
        assert table.columns["loss"][index] == result["evals"]["val/loss"]
        assert table.columns["flops"][index] == result["flops"]["exact"]
    assert "unique_tokens" not in table.columns
    assert table.warnings == ()


def test_conventions_are_the_ledgers(sweep_once):
    loaded = load_sweep(sweep_once)
    default, total = loaded.table(), loaded.table(params="total", flops="6N_total")
    head = np.array([256 * run.spec["model"]["width"] for run in loaded.usable])
    np.testing.assert_allclose(total.columns["params"], default.columns["params"] + head)
    np.testing.assert_allclose(
        total.columns["flops"], 6 * total.columns["params"] * total.columns["tokens"], rtol=1e-12
    )


def test_incomplete_failed_and_damaged_runs_are_listed_and_left_out(sweep):
    names = sorted(path.name for path in sweep.iterdir())
    (sweep / names[0] / "result.json").unlink()
    (sweep / names[1] / "result.json").unlink()
    (sweep / names[1] / "error.txt").write_text("loss is NaN at step 17\nsee metrics\n")
    (sweep / names[2] / "result.json").unlink()
    (sweep / names[2] / "error.txt").write_text(
        "Traceback (most recent call last):\n  x\njax.errors.OutOfMemoryError: 5\n----\nnote\n"
    )
    (sweep / names[3] / "ledger.json").write_text('{"params": {"tot')
    rewrite(sweep / names[4] / "result.json", lambda result: result["evals"].pop("val/loss"))
    (sweep / "report").mkdir()
    loaded = load_sweep(sweep)
    assert [run.status for run in loaded.runs[:5]] == [
        "incomplete",
        "failed",
        "failed",
        "unreadable",
        "unreadable",
    ]
    reasons = loaded.left_out()
    assert reasons.pop(names[4]).startswith("result.json is damaged (has no val/loss")
    assert reasons == {
        names[0]: "no result.json yet",
        names[1]: "loss is NaN at step 17",
        names[2]: "jax.errors.OutOfMemoryError: 5",
        names[3]: "ledger.json is damaged (not a JSON object)",
    }
    table = loaded.table()
    assert table.rows == 15
    assert table.warnings[0].startswith("5 of 20 runs are missing from the fits (")
    assert not {*names[:5]} & set(table.columns["run"])


def test_a_run_that_failed_once_and_then_finished_is_complete(sweep):
    (next(sweep.iterdir()) / "error.txt").write_text("killed\n")
    assert load_sweep(sweep).left_out() == {}


def test_runs_at_constant_rate_are_not_mixed_with_cooled_ones(sweep):
    write_run(sweep, 64, 8_388_608, 0, 3.0, schedule="constant")
    loaded = load_sweep(sweep)
    assert list(loaded.left_out().values()) == ["trained at a constant learning rate, others were cooled down"]
    assert loaded.table().rows == 20


def test_a_setting_that_was_varied_at_one_size_splits_the_runs(sweep):
    twin = sweep / "twin"
    shutil.copytree(sweep / run_name(32, 1_048_576, 0), twin)
    rewrite(twin / "result.json", lambda result: result.update(run="twin"))
    rewrite(twin / "spec.json", lambda spec: spec["optim"].update(learning_rate=1e-2))
    loaded = load_sweep(sweep)
    (warning,) = loaded.warnings
    assert warning.startswith("runs differ in optim.learning_rate, which a law of size and data does not know")
    assert [len(group.runs) for group in loaded.groups] == [20, 1]
    assert loaded.table().rows == 20


def test_trunks_carry_branches_and_are_no_rows(sweep):
    trunk = write_run(sweep, 64, 8_388_608, 0, 3.0, schedule="constant")
    rewrite(trunk / "spec.json", lambda spec: spec.update(checkpoint_marks=[8192]))
    loaded = load_sweep(sweep)
    assert [run.run for run in loaded.trunks] == [trunk.name]
    assert loaded.left_out() == {}
    assert loaded.table().rows == 20
    assert loaded.warnings == ()
    (trunk / "result.json").unlink()
    assert list(load_sweep(sweep).left_out()) == [trunk.name]


def test_environments_of_several_attempts_are_read(sweep):
    def attempts(jax):
        return [{"attempt": 1, "packages": {"jax": "0.1"}, "device": "cpu"}, {"packages": {"jax": jax}}]

    for place, run in enumerate(sorted(sweep.iterdir())):
        path = run / "env.json"
        value = {
            "commit": "abc",
            "corpus": {"fingerprint": "f", "train_tokens": 10**12},
            "attempts": attempts("0.3" if place == 7 else "0.2"),
        }
        path.write_text(json.dumps(value))
    (warning,) = load_sweep(sweep).warnings
    assert warning.startswith("the set of package versions differs between runs: 2 sets")


def test_runs_of_unlike_precision_are_named(sweep):
    """Some on a processor, some on a GPU, and one that went from the one to the other."""
    for place, run in enumerate(sorted(sweep.iterdir())):
        names = {0: ["float32", "float32", "tensorfloat32"], 1: ["tensorfloat32"]}.get(place, ["float32"])
        attempts = [{"implementations": {"products": {"name": name, "reason": "x"}}} for name in names]
        (run / "env.json").write_text(json.dumps({"attempts": attempts}))
    (warning,) = [said for said in load_sweep(sweep).warnings if "matrix products" in said]
    assert warning == (
        "what matrix products are computed in differs between runs: 3 precisions (float32 in 18, float32, then "
        "tensorfloat32 in 1, tensorfloat32 in 1 runs)"
    )


def test_a_sweep_all_at_constant_rate_is_usable(tmp_path):
    assert load_sweep(write_sweep(tmp_path, schedule="constant")).table().rows == 20


def test_the_last_attempt_wins_and_torn_lines_spoil_only_themselves(sweep):
    run = sweep / run_name(32, 1_048_576, 0)
    path = run / "evals.jsonl"
    before = [json.loads(line) for line in path.read_text().splitlines()]
    replayed = {**before[0], "value": 1.25, "attempt": 3}
    stale = {**before[0], "value": 9.75, "attempt": 2}
    torn = '{"tokens": 99, "name": "val/lo'
    path.write_text(
        path.read_text() + torn + "\n" + json.dumps(replayed) + "\n" + json.dumps(stale) + "\n" + torn
    )
    curves = load_sweep(sweep).evaluations()
    rows = curves.frame.filter(run=run.name, name=before[0]["name"], tokens=before[0]["tokens"])
    assert rows["value"].to_list() == [1.25]
    assert curves.frame.filter(run=run.name).height == len(before)
    assert curves.warnings == (f"{run.name}/evals.jsonl: 2 lines are torn and left out",)


def test_values_no_fast_parser_takes_become_null(sweep):
    run = sweep / run_name(32, 1_048_576, 0)
    lines = [
        '{"tokens": 1, "name": "a", "value": NaN}',
        '{"tokens": 2, "name": "a", "value": 1' + "0" * 400 + "}",
    ]
    lines += ['{"tokens": 3, "name": "a", "value": "high"}', '{"tokens": 4, "name": "a", "value": 0.5}', "[1]"]
    (run / "evals.jsonl").write_text("\n".join(lines) + "\n")
    curves = load_sweep(sweep).evaluations()
    assert curves.frame.filter(run=run.name)["value"].to_list() == [None, None, None, 0.5]
    assert len(curves.warnings) == 1


def test_curves_equal_a_line_by_line_reading(sweep_once):
    curves = load_sweep(sweep_once).evaluations().frame
    expected = {
        (run.name, row["tokens"], row["name"]): row["value"]
        for run in sweep_once.iterdir()
        for row in map(json.loads, (run / "evals.jsonl").read_text().splitlines())
    }
    found = {(run, tokens, name): value for run, tokens, name, value, *_ in curves.rows()}
    assert curves.columns == ["run", *EVALUATION_COLUMNS]
    assert found == expected


def test_metrics_of_chosen_runs(sweep_once):
    name = run_name(48, 2_097_152, 0)
    frame = load_sweep(sweep_once).metrics([name]).frame
    rows = [json.loads(line) for line in (sweep_once / name / "metrics.jsonl").read_text().splitlines()]
    assert frame["loss"].to_list() == [row["loss"] for row in rows]
    assert set(frame["run"]) == {name}


def test_missing_logs_give_empty_curves(sweep):
    for run in sweep.iterdir():
        (run / "evals.jsonl").unlink()
        (run / "metrics.jsonl").write_bytes(b"")
    loaded = load_sweep(sweep)
    assert loaded.evaluations().frame.height == 0
    assert loaded.metrics().frame.height == 0
    assert loaded.table().rows == 20


@pytest.mark.parametrize(
    ("file", "keys", "value", "said"),
    [
        ("env", ("commit",), "ffff", "the recorded code differs between runs: 2 commits"),
        ("env", ("corpus", "fingerprint"), "ffff", "runs differ in the recorded corpus"),
        (
            "env",
            ("attempts", 0, "packages", "jax"),
            "0.11.0",
            "the set of package versions differs between runs",
        ),
        ("spec", ("data", "tokenizer"), "char", "runs differ in data.tokenizer"),
        ("spec", ("data", "validation_tokens"), 9, "runs differ in data.validation_tokens"),
    ],
)
def test_differences_between_runs_are_warned_of(sweep, file, keys, value, said):
    def change(tree):
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    rewrite(sorted(sweep.iterdir())[3] / f"{file}.json", change)
    (warning,) = load_sweep(sweep).warnings
    assert said in warning
    assert "19" in warning


def test_unique_tokens_are_at_most_the_tokens_seen(sweep):
    name = run_name(64, 4_194_304, 0)
    rewrite(sweep / name / "spec.json", lambda spec: spec["data"].update(unique_tokens=1_000_000))
    columns = load_sweep(sweep).table().columns
    expected = np.where(columns["run"] == name, 1_000_000, columns["tokens"])
    np.testing.assert_array_equal(columns["unique_tokens"], expected)


def known(sweep, tokens):
    """The env.json of every run says how long the train split is."""
    for run in sweep.iterdir():
        rewrite(run / "env.json", lambda value: value["corpus"].update(train_tokens=tokens))


def test_repeated_text_of_the_whole_split_is_seen(sweep):
    known(sweep, 2_000_001)
    table = load_sweep(sweep).table()
    whole = 2_000_000 // 128 * 128
    np.testing.assert_array_equal(table.columns["unique_tokens"], np.minimum(table.columns["tokens"], whole))
    assert (table.columns["unique_tokens"] < table.columns["tokens"]).any()
    assert table.warnings == ()


def test_an_old_run_takes_it_from_a_token_cache_or_is_said_to_be_unknown(sweep):
    for run in sweep.iterdir():
        rewrite(run / "env.json", lambda value: value["corpus"].pop("train_tokens"))
    loaded = load_sweep(sweep)
    assert "unique_tokens" not in loaded.table().columns
    assert {run.reading for run in loaded.runs} == {None}
    assert "do not say how often they read their text" in loaded.epochs_unknown
    folder = sweep.parent.parent / "cache" / "tokens" / "one"
    folder.mkdir(parents=True)
    meta = {"fingerprint": "f" * 64, "splits": {"train": {"tokens": 2_000_001}}}
    (folder / "meta.json").write_text(json.dumps(meta))
    columns = load_sweep(sweep).table().columns
    np.testing.assert_array_equal(
        columns["unique_tokens"], np.minimum(columns["tokens"], 2_000_000 // 128 * 128)
    )


def test_hash_depends_on_logs_and_not_on_the_place(sweep, sweep_once):
    assert load_sweep(sweep).sha256 == load_sweep(sweep_once).sha256
    rewrite(next(sweep.iterdir()) / "result.json", lambda result: result["evals"].update({"val/loss": 2.0}))
    assert load_sweep(sweep).sha256 != load_sweep(sweep_once).sha256


def test_refusals_name_the_thing(sweep, tmp_path):
    with pytest.raises(BadInput, match="no such directory"):
        load_sweep(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no runs in it"):
        read_table(tmp_path / "empty")
    with pytest.raises(BadInput, match="directory of one run"):
        load_sweep(next(sweep.iterdir()))
    with pytest.raises(BadInput, match="a sweep has no column accuracy; it has params"):
        read_table(sweep, required=("params", "accuracy"))
    with pytest.raises(BadInput, match="a sweep has no column a; it has params, tokens"):
        read_table(sweep, rename={"a": "loss"})
    total = read_table(sweep, rename={"params_total": "params"}).columns["params"]
    np.testing.assert_array_equal(total, read_table(sweep, optional=("params_total",)).columns["params_total"])
    for run in sorted(sweep.iterdir())[1:]:
        (run / "result.json").unlink()
    with pytest.raises(BadInput, match="1 of 20 runs can be used; at least 2 are needed"):
        read_table(sweep)


def test_a_thousand_runs_are_read_in_seconds(tmp_path):
    pairs = [(16 + 2 * (k % 50), 8192 * (64 + k)) for k in range(1000)]
    sweep = write_sweep(tmp_path, pairs=pairs, rows=20)
    started = time.process_time()
    loaded = load_sweep(sweep)
    curves, metrics = loaded.evaluations(), loaded.metrics()
    seconds = time.process_time() - started
    assert loaded.table().rows == 1000
    assert curves.frame.height == sum(
        len(path.read_text().splitlines()) for path in sweep.glob("*/evals.jsonl")
    )
    assert math.isclose(metrics.frame.height, 20_000, rel_tol=0.01)
    assert seconds < 5.0


def test_a_run_that_sweep_json_names_and_that_is_not_there_is_a_warning(tmp_path):
    sweep = write_sweep(tmp_path)
    before = load_sweep(sweep)
    runs = [run.run for run in before.runs]
    asked = SweepRequest("python launch.py run quickstart", "quickstart", (*runs, "w8-gone"))
    write_sweep_file(sweep, asked, "2026-01-02T03:04:05+00:00")
    for found in (load_sweep(sweep), load_sweep(sweep, read_logs(sweep))):
        (warning,) = set(found.table().warnings) - set(before.table().warnings)
        assert warning.startswith("sweep.json names 1 run that has no folder: w8-gone")
        assert "python launch.py run quickstart" in warning
        assert found.sha256 == before.sha256
    (sweep / "sweep.json").write_text("{torn")
    for found in (load_sweep(sweep), load_sweep(sweep, read_logs(sweep))):
        (warning,) = set(found.table().warnings) - set(before.table().warnings)
        assert "sweep.json: is damaged" in warning
        assert found.table().columns.keys() == before.table().columns.keys()
