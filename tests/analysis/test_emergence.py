"""The emergence command: published tables, bad input, the contract of emergence.json, figures."""

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.emergence import command as emergence
from analysis.emergence import truths
from analysis.emergence.figures import save_figures
from analysis.emergence.settings import Settings
from analysis.emergence.table import TaskTable, read_task_table, tasks_from_rows
from analysis.emergence.verdict import decide, judge_all, verdict_of
from bench import published

pytestmark = pytest.mark.slow

PUBLISHED = Path(published.__file__).parent / "emergence"
QUICK = Settings(bootstrap=499)
# One in the number of choices; all others have four.
OLMO_CHANCE = {"boolq": 0.5, "csqa": 0.2, "piqa": 0.5, "socialiqa": 1 / 3, "winogrande": 0.5}


def _judge(rows, axis=None):
    return judge_all(tuple(tasks_from_rows(rows, axis)), QUICK)


def _pythia():
    """A table for each of the four series: with no and with 5 examples in the prompt, deduplicated text or not."""
    for (shots, deduped), rows in pl.read_csv(PUBLISHED / "pythia_mmlu57_final.csv").group_by(
        "shots", "deduped", maintain_order=True
    ):
        yield [
            {
                "task": f"{row['task']}, {shots} shots, deduped {deduped}",
                "scale": row["non_embedding_params"],
                "n": row["n_items"],
                "correct": round(row["acc"] * row["n_items"]),
                "chance": 0.25,
            }
            for row in rows.iter_rows(named=True)
        ]


def test_pythia_on_mmlu_shows_nothing_sharp_and_nothing_delayed():
    """228 curves: 57 subtasks at 8 scales, mostly at chance, in four series (Biderman et al. 2023).

    Each series is corrected by itself, which is less strict than all together.
    """
    verdicts, raw = [], []
    for rows in _pythia():
        for one, q_delayed, q_sharp in decide(tuple(tasks_from_rows(rows)), QUICK):
            verdicts.append(verdict_of(one, q_delayed, q_sharp, QUICK))
            raw.append([one.delayed_onset, one.sharp])
    assert len(verdicts) == 228
    assert set(verdicts) <= {"none", "smooth"}
    assert np.all(np.mean(np.array(raw) < 0.05, axis=0) <= 0.06)


def test_pythia_pooled_over_subtasks_is_less_sure_with_its_series_as_clusters():
    """The four series share sizes and text: whole series are resampled, and the p-value of a delay grows."""
    table = pl.read_csv(PUBLISHED / "pythia_mmlu57_final.csv").with_columns(
        correct=(pl.col("acc") * pl.col("n_items")).round(),
        family=pl.format("{} shots, deduped {}", "shots", "deduped"),
    )
    rows = (
        table.group_by("family", scale="non_embedding_params", maintain_order=True)
        .agg(n=pl.col("n_items").sum(), correct=pl.col("correct").sum())
        .with_columns(task=pl.lit("mmlu"), chance=pl.lit(0.25))
        .to_dicts()
    )
    found = {}
    for clustered in (False, True):
        kept = [{key: value for key, value in row.items() if clustered or key != "family"} for row in rows]
        ((one, q_delayed, q_sharp),) = decide(tuple(tasks_from_rows(kept)), QUICK)
        assert verdict_of(one, q_delayed, q_sharp, QUICK) == "none"
        found[clustered] = one.delayed_onset
    assert found[True] > 2.0 * found[False]


def test_olmo_accuracies_break_and_bits_per_byte_do_not():
    """20 tasks against compute (Bhagia et al. 2024): the kinks of accuracy are the metric's, in every task."""
    rows = [
        {
            "task": row["task"],
            "flops": 6.0 * row["params"] * row["tokens"],
            "n": row["n_items"],
            "correct": round(row["accuracy"] * row["n_items"]),
            "chance": OLMO_CHANCE.get(row["task"].rsplit("_", 1)[0], 0.25),
            "nll": row["bits_per_byte"],
        }
        for row in pl.read_csv(PUBLISHED / "olmo_ladder_accuracy_bpb.csv").iter_rows(named=True)
    ]
    verdicts = [
        (one, verdict_of(one, q_delayed, q_sharp, QUICK))
        for one, q_delayed, q_sharp in decide(tuple(tasks_from_rows(rows, "flops")), QUICK)
    ]
    assert len(verdicts) == 20
    assert sum(verdict == "metric artefact" for _, verdict in verdicts) >= 8
    assert {verdict for _, verdict in verdicts} <= {"metric artefact", "smooth", "none"}
    assert all(check.p > QUICK.metric_alpha for one, _ in verdicts for check in one.checks)


def test_addition_is_learned_sharply_in_most_formats():
    """Lee et al. 2023: plain addition goes from 1.7% at 2,000 examples to 62% at 4,000."""
    rows = []
    for row in pl.read_csv(PUBLISHED / "lee2023_sample_efficiency.csv").iter_rows(named=True):
        examples = row.pop("num_train_samples")
        n = 9900 if examples >= 1000 else 1000
        for task, percent in row.items():
            if percent is not None:
                hits = round(float(percent) / 100 * n)
                rows.append(
                    {"task": task, "axis": "examples", "scale": examples, "n": n, "correct": hits, "chance": 0}
                )
    entries = {entry["task"]: entry for entry in _judge(rows)}
    assert sum(entry["verdict"] == "sharp" for entry in entries.values()) >= 5
    assert entries["addition"]["verdict"] == "sharp"
    low, high = entries["addition"]["onset"]["interval"]
    assert 2000 < low <= high < 4500


def test_loss_against_compute_does_not_break():
    """Gadre et al. 2024: 104 models, three corpora, three validation losses."""
    table = pl.read_csv(PUBLISHED / "gadre_losses.csv")
    rows = [
        {"task": f"{row['train_set']} {loss}", "scale": 6.0 * row["params"] * row["tokens"], "nll": row[loss]}
        for row in table.iter_rows(named=True)
        for loss in ("loss_c4", "loss_openlm", "loss_paloma")
    ]
    entries = _judge(rows)
    assert [entry["verdict"] for entry in entries] == ["smooth"] * 9


def _rows(curve=truths.line, scales=6, seeds=1, **more):
    rng = np.random.default_rng(0)
    x = 6.0 + np.linspace(0.0, 4.0, scales)
    return [
        {
            "task": "t",
            "scale": 10**place,
            "n": 200,
            "correct": int(rng.binomial(200, mean)),
            "chance": 0.25,
            "seed": s,
        }
        | {key: value(place) for key, value in more.items()}
        for place, mean in zip(x.tolist(), curve(x).tolist(), strict=True)
        for s in range(seeds)
    ]


def _write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 0}, "row 2: n is 0"),
        ({"n": "nan"}, "row 2: n is nan"),
        ({"n": 10.5}, "row 2: n is 10.5"),
        ({"chance": 1}, "row 2: chance is 1"),
        ({"chance": -0.1}, "row 2: chance is -0.1"),
        ({"chance": 0.5}, "task t: chance is 0.25 in some rows and 0.5 in others"),
        ({"correct": 201}, "row 2: correct is 201, above n = 200"),
        ({"correct": -1}, "row 2: correct is -1"),
        ({"correct": "many"}, "row 2: correct is many"),
        ({"correct": ""}, "row 2: correct is empty"),
        ({"scale": 0}, "row 2: scale is 0"),
        ({"scale": "inf"}, "row 2: scale is inf"),
        ({"scale": -3}, "above 0 in some rows and below 0"),
        ({"task": ""}, "row 2: task is empty"),
        ({"nll": "nan"}, "row 2: nll is nan"),
        ({"nll": -1}, "row 2: nll is -1"),
        ({"axis": "moons"}, "row 2: axis moons: unknown axis"),
    ],
)
def test_a_bad_cell_is_one_line_and_status_2(tmp_path, capsys, change, words):
    rows = _rows()
    if set(change) & {"nll", "axis"}:
        rows = [row | {key: "params" if key == "axis" else 1.0 for key in change} for row in rows]
    rows[1] = rows[1] | change
    _refused([str(_write(tmp_path / "table.csv", rows))], words, capsys)


def _refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        emergence.main(arguments)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]


@pytest.mark.parametrize("column", ["task", "scale", "n", "correct", "chance"])
def test_a_missing_column_is_named(tmp_path, capsys, column):
    rows = [{key: value for key, value in row.items() if key != column} for row in _rows()]
    _refused([str(_write(tmp_path / "table.csv", rows))], f"no column {column}", capsys)


def test_bad_files_and_flags_are_one_line_each(tmp_path, capsys):
    table = str(_write(tmp_path / "table.csv", _rows()))
    empty, torn, ragged = tmp_path / "empty.csv", tmp_path / "torn.jsonl", tmp_path / "ragged.csv"
    empty.write_text("task,scale,n,correct,chance\n")
    torn.write_text('{"task": "t", \n')
    ragged.write_text("task,scale,n,correct,chance\nt,1,2\n")
    for arguments, words in (
        ([str(tmp_path / "none.csv")], "no such file"),
        ([str(empty)], "no rows"),
        ([str(torn)], "line 1 is not JSON"),
        ([str(ragged)], "row 1: correct is empty"),
        ([table, "--chance", "1"], "--chance 1"),
        ([table, "--column", "correct=hits"], "no column hits to read as correct"),
        ([table, "--axis", "moons"], "unknown axis"),
        ([table, "--w0", "0"], "--w0 0"),
        ([table, "--alpha", "1"], "--alpha 1"),
        ([table, "--bootstrap", "5"], "--bootstrap 5"),
        ([], "TASK_TABLE is missing"),
    ):
        _refused(arguments, words, capsys)


def test_too_few_scales_are_a_verdict_and_one_seed_is_said():
    (entry,) = _judge(_rows(lambda x: np.full(len(x), 0.5), scales=1))
    assert entry["verdict"] == "not enough scales"
    assert "1 scale; the tests need 5" in entry["sentence"]
    (entry,) = _judge(_rows(scales=6))
    assert entry["verdict"] == "smooth"
    assert any("one seed per scale" in note for note in entry["notes"])
    assert "bimodality not computed" in entry["seeds"]["note"]


def test_the_written_result_keeps_the_contract_and_repeats(tmp_path, capsys):
    rows = _rows(truths.rise(0.7), seeds=2, nll=lambda x: 1.44 if x < 7.9 else 0.1)
    path = _write(tmp_path / "table.csv", rows)
    assert emergence.main([str(path), "--out", str(tmp_path / "a.json"), "--bootstrap", "499"]) == 0
    assert emergence.main([str(path), "--out", str(tmp_path / "b.json"), "--bootstrap", "499"]) == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    result = json.loads((tmp_path / "a.json").read_text())
    assert set(result) == {"settings", "tasks", "input", "warnings", "columns"}
    assert {"W0", "alpha", "seed", "versions"} <= set(result["settings"])
    (entry,) = result["tasks"]
    needed = {"task", "axis", "verdict", "p", "q", "effect", "onset", "metric_check", "power", "sentence"}
    assert needed <= set(entry)
    assert entry["verdict"] == "sharp"
    assert entry["metric_check"]["status"] == "breaks"
    assert entry["sentence"] in capsys.readouterr().out


def test_minus_the_loss_is_an_axis():
    rows = [row | {"scale": -(4.0 - 0.25 * k)} for k, row in enumerate(_rows())]
    (entry,) = _judge(rows)
    assert (entry["axis"], entry["verdict"]) == ("loss", "smooth")


def test_figures_are_the_same_bytes_again(tmp_path):
    path = _write(tmp_path / "table.csv", _rows(truths.rise(0.7), seeds=2, nll=lambda x: 3.0 - 0.2 * x))
    table: TaskTable = read_task_table(path)
    result = emergence.analyse(table, QUICK)
    first = save_figures(table, result, tmp_path / "one")
    second = save_figures(table, result, tmp_path / "two")
    assert {p.stem for p in first} == {
        "emergence_curves_1",
        "emergence_verdicts",
        "emergence_seeds",
        "emergence_power",
    }
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in first if p.suffix == ".png")
