"""Logs: each read once, their hash moves with every byte, and what is loaded is what was hashed."""

import itertools
import json
from collections import Counter

import pytest

from analysis.logs import files as logs
from analysis.logs.files import read_logs, spread
from analysis.logs.load import load_sweep
from analysis.report import command as report
from tests.support.synthetic_sweep import write_sweep


@pytest.fixture
def sweep(tmp_path):
    folder = write_sweep(tmp_path, widths=(16, 32), tokens=(524_288, 1_048_576))
    runs = sorted(folder.iterdir())
    (runs[0] / "tasks.json").write_text("{}")
    (runs[1] / "error.txt").write_text("an earlier attempt failed")
    (folder / "forecast").mkdir()
    (folder / "forecast" / "table.csv").write_text("run,loss\n")
    return folder


def files_of(sweep):
    return sorted(path for path in sweep.rglob("*") if path.is_file() and path.parent.name != "report")


def test_a_report_reads_every_log_once(sweep, monkeypatch):
    read: Counter[str] = Counter()
    original = logs._bytes_of

    def counted(path):
        read[path] += 1
        return original(path)

    monkeypatch.setattr(logs, "_bytes_of", counted)
    report.write_report(sweep, bootstrap=0)
    assert read == Counter(str(path) for path in files_of(sweep))


def test_the_hash_moves_with_every_byte_of_every_log_and_with_nothing_else(sweep, monkeypatch):
    monkeypatch.setattr(logs, "DRAWN_RUNS", 1)  # so that most of metrics.jsonl is not kept
    seen = {read_logs(sweep).sha256}
    for path in files_of(sweep):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        seen.add(read_logs(sweep).sha256)
        path.write_bytes(content)
    run = next(sweep.glob("w*"))
    moved = run.rename(sweep / "another-name")
    seen.add(read_logs(sweep).sha256)
    moved.rename(run)
    assert len(seen) == len(files_of(sweep)) + 2
    (sweep / "report").mkdir()
    (sweep / "report" / "fit.json").write_text("{}")
    (run / "checkpoints").mkdir()
    (run / "notes.txt").write_text("no log")
    (run / "folder.json").mkdir()
    assert read_logs(sweep).sha256 in seen


def test_what_changes_after_the_hash_is_not_in_what_was_hashed(sweep):
    held = read_logs(sweep)
    before = load_sweep(sweep)
    expected = before.evaluations().frame, before.metrics().frame
    run = next(sweep.glob("w*"))
    result = json.loads((run / "result.json").read_text())
    result["evals"]["val/loss"] = 9.0
    (run / "result.json").write_text(json.dumps(result))
    for name in ("evals.jsonl", "metrics.jsonl"):
        (run / name).unlink()
    after = load_sweep(sweep, held)
    assert after.sha256 == before.sha256
    assert [one.final() for one in after.runs] == [one.final() for one in before.runs]
    assert after.evaluations().frame.equals(expected[0])
    assert after.metrics().frame.equals(expected[1])


def test_curves_of_a_spread_of_runs_are_kept_and_the_others_are_not_missed_silently(sweep, monkeypatch):
    monkeypatch.setattr(logs, "DRAWN_RUNS", 2)
    names = sorted(path.name for path in sweep.glob("w*"))
    held = read_logs(sweep)
    assert spread(names) == [names[0], names[2]]
    loaded = load_sweep(sweep, held)
    assert set(loaded.metrics(spread(names)).frame["run"]) == {names[0], names[2]}
    with pytest.raises(ValueError, match=rf"{names[1]}/metrics.jsonl: read for its hash only"):
        loaded.metrics()
    assert held.read(names[1], "absent.json") is None


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1000, 9999, 10_000])
def test_a_spread_is_even_and_has_at_most_so_many(count):
    shown = spread([str(place) for place in range(count)])
    steps = {int(after) - int(before) for before, after in itertools.pairwise(shown)}
    assert len(shown) <= logs.DRAWN_RUNS
    assert len(shown) > min(count, logs.DRAWN_RUNS) / 2
    assert len(steps) <= 1


def test_a_log_that_cannot_be_read_is_named(sweep, monkeypatch):
    run = next(sweep.glob("w*"))
    original = logs.os.open

    def refused(path, *arguments):
        if str(path).endswith(f"{run.name}/metrics.jsonl"):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *arguments)

    monkeypatch.setattr(logs.os, "open", refused)
    loaded = load_sweep(sweep, read_logs(sweep))
    assert loaded.metrics().warnings == (f"{run.name}/metrics.jsonl cannot be read (Permission denied)",)
    assert len(loaded.runs) == 4 and set(loaded.metrics().frame["run"]) == {one.run for one in loaded.runs} - {
        run.name
    }
