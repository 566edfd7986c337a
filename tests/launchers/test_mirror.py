"""Mirrors hold the numbers of the logs, each once, whatever restarted and however often they are made."""

import importlib.util
import json
import math
import os
import struct
import subprocess
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from launchers.mirror.command import main
from launchers.mirror.mirrored import read_mirrored
from tests.launchers.test_status import whole_run
from tests.support.run_records import an_attempt, an_environment
from tests.support.small import ROOT
from tests.support.synthetic_sweep import write_sweep

STARTED = 1_767_323_045.0  # 2026-01-02T03:04:05+00:00, of the records
TRACKERS_PYTHON = os.environ.get("TRACKERS_PYTHON", "")
elsewhere = pytest.mark.skipif(
    not TRACKERS_PYTHON, reason="TRACKERS_PYTHON names no Python that has tensorboard, wandb and trackio"
)


@pytest.fixture
def sweep(tmp_path):
    """Two runs; one was killed at its last row and went on from its sixth: it wrote four rows twice."""
    folder = write_sweep(tmp_path / "runs", "small", pairs=[(16, 81_920), (32, 81_920)], rows=10)
    run = sorted(folder.iterdir())[0]
    rows = lines_of(run / "metrics.jsonl")
    again = [row | {"attempt": 2, "loss": row["loss"] + 1, "seconds": row["seconds"] + 0.5} for row in rows[6:]]
    write_lines(run / "metrics.jsonl", [*rows, *again])
    environment = an_environment(an_attempt(), an_attempt(2, started="2026-01-02T04:04:05+00:00"))
    (run / "env.json").write_text(json.dumps(environment))
    return folder


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def mirror(sweep, *flags, status=0):
    assert main([str(sweep), "--to", "tensorboard", *flags]) == status
    return {path.parent.name: path for path in sorted((sweep / "mirror" / "tensorboard").glob("*/*tfevents*"))}


def events(path):
    """Of an event file, by its definition (length, checksum, bytes, checksum)."""
    payload, at = path.read_bytes(), 0
    while at < len(payload):
        (length,) = struct.unpack_from("<Q", payload, at)
        yield Event.FromString(payload[at + 12 : at + 12 + length])
        at += 12 + length + 4


def scalars(path):
    """[(tag, step, value, wall time)] in the order of the file."""
    return [
        (value.tag, event.step, value.simple_value, event.wall_time)
        for event in events(path)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def expected(run):
    """{(tag, tokens): value}, the rows of later lines over those of earlier ones."""
    found = {}
    for row in lines_of(run / "metrics.jsonl"):
        found |= {
            (f"train/{key}", row["tokens"]): value
            for key, value in row.items()
            if key not in ("step", "tokens", "attempt")
        }
    for row in lines_of(run / "evals.jsonl"):
        found[row["name"], row["tokens"]] = row["value"]
    return found


def test_every_number_is_there_once_and_the_last_attempt_counts(sweep, capsys):
    for name, path in mirror(sweep).items():
        found, wanted = scalars(path), expected(sweep / name)
        assert len({(tag, step) for tag, step, _, _ in found}) == len(found) == len(wanted)
        for tag, step, value, _ in found:
            assert value == pytest.approx(wanted[tag, step], rel=1e-6)  # TensorBoard keeps float32
    assert "2 runs written, 2 in it\nto look at it: tensorboard --logdir" in capsys.readouterr().out


def test_time_is_that_of_the_attempt_and_its_seconds_of_training(sweep):
    restarted, _ = mirror(sweep).values()
    times = {step: time for tag, step, _, time in scalars(restarted) if tag == "train/loss"}
    # The sixth row ended at 0.06 s of training; the second attempt began an hour after the first.
    assert [round(time - STARTED, 2) for time in list(times.values())[5:8]] == [0.06, 3600.51, 3600.52]
    assert list(times.values()) == sorted(times.values())


def test_mirrored_again_the_bytes_are_the_same_and_nothing_is_written(sweep, capsys):
    before = {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in mirror(sweep).items()}
    after = {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in mirror(sweep).items()}
    assert before == after
    assert "0 runs written, 2 in it" in capsys.readouterr().out
    # Elsewhere, made anew: the same bytes under the same name.
    elsewhere = mirror(sweep.rename(sweep.with_name("moved")), "--out", str(sweep.parent / "again"))
    assert {name: path.read_bytes() for name, path in elsewhere.items()} == {
        name: content for name, (content, _) in before.items()
    }


def test_new_rows_are_appended_and_changed_ones_replace_the_file(sweep):
    _, path = mirror(sweep).values()
    run = sweep / path.parent.name
    (run / "result.json").unlink()
    mirror(sweep)
    short, file = path.read_bytes(), path.stat().st_ino
    rows = lines_of(run / "metrics.jsonl")
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps(rows[-1] | {"tokens": 90_112, "step": 11}) + "\n")
    mirror(sweep)
    assert path.read_bytes().startswith(short) and len(path.read_bytes()) > len(short)
    assert path.stat().st_ino == file  # a TensorBoard that has it open sees what is new
    write_lines(run / "metrics.jsonl", [row | {"loss": 2.0} for row in rows])
    mirror(sweep)
    assert path.stat().st_ino != file
    assert {value for tag, _, value, _ in scalars(path) if tag == "train/loss"} == {2.0}


def test_hyperparameters_are_the_spec_by_dotted_key(sweep):
    _, path = mirror(sweep).values()
    (content,) = (
        value.metadata.plugin_data.content
        for event in events(path)
        for value in event.summary.value
        if value.tag == "_hparams_/session_start_info"
    )
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["optim.learning_rate"].number_value == 3e-3
    assert settings["data.corpus"].string_value == "pysource"
    assert settings["evaluation_marks"].string_value == "[]"
    assert "parent" not in settings  # null
    assert settings["params.non_embedding_plus_head"].number_value == 12 * 2 * 32 * 32 + 256 * 32


def test_damaged_rows_are_named_and_left_out(sweep, capsys):
    run, other = sorted(path for path in sweep.iterdir() if path.is_dir())
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"tokens": 5, "los')
    rows = lines_of(other / "metrics.jsonl")
    (other / "result.json").unlink()
    write_lines(other / "metrics.jsonl", [rows[0] | {"loss": math.nan}, *rows[1:]])
    paths = mirror(sweep)
    assert f"{run.name}/metrics.jsonl: 1 line is torn and left out" in capsys.readouterr().err
    losses = [step for tag, step, _, _ in scalars(paths[other.name]) if tag == "train/loss"]
    assert losses == [row["tokens"] for row in rows[1:]]
    (run / "spec.json").write_text("{torn")
    (other / "evals.jsonl").unlink()
    mirror(sweep)
    assert f"{run.name}: left out (spec.json is damaged" in capsys.readouterr().err


def test_follow_ends_when_no_run_is_left(tmp_path, capsys, monkeypatch):
    run = whole_run(tmp_path / "small")
    content, naps = run.result.read_bytes(), []
    run.result.unlink()

    def nap(seconds):
        naps.append(seconds)
        run.result.write_bytes(content)

    monkeypatch.setattr("launchers.mirror.command.time.sleep", nap)
    mirror(tmp_path / "small", "--follow", "--every", "7")
    assert naps == [7.0]
    assert capsys.readouterr().out.count("1 runs written, 1 in it") == 2


def test_a_missing_package_is_one_line_that_names_the_extra(sweep, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for flags, line in (
        (("--to", "wandb"), "--to wandb: needs the package wandb; pip install -e '.[wandb]'"),
        (("--to", "mlflow"), "--to='mlflow': must be one of tensorboard, trackio, wandb"),
    ):
        with pytest.raises(ValueError) as raised:
            main([str(sweep), *flags])
        assert str(raised.value) == line
    assert not (sweep / "mirror").exists()


def test_what_is_no_sweep_is_refused_in_a_line(tmp_path):
    for folder, words in ((tmp_path / "none", "no such sweep"), (tmp_path, "holds no run to mirror")):
        with pytest.raises(ValueError, match=words):
            main([str(folder), "--to", "tensorboard"])


READERS = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
for run in sorted(os.listdir(folder)):
    if os.path.isdir(os.path.join(folder, run)):
        read = EventAccumulator(os.path.join(folder, run), size_guidance={"scalars": 0}).Reload()
        found[run] = {tag: [[one.step, one.value, one.wall_time] for one in read.Scalars(tag)]
                      for tag in read.Tags()["scalars"]}
""",
    "wandb": """
import glob, struct
from wandb.proto.wandb_internal_pb2 import Record
def records(payload):  # the log format of LevelDB, behind a header of 7 bytes
    at, parts = 7, b""
    while at + 7 <= len(payload):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        length, kind = struct.unpack_from("<HB", payload, at + 4)
        parts, at = parts + payload[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""
for path in sorted(glob.glob(os.path.join(folder, "offline-run-*", "*.wandb"))):
    steps, run = {}, None
    for record in records(open(path, "rb").read()):
        if record.WhichOneof("record_type") == "run":
            run = record.run.run_id
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for tag, value in row.items():
                if not tag.startswith("_") and tag != "tokens":
                    steps.setdefault(tag, []).append([record.history.step.num, value, row["_timestamp"]])
    assert run not in found, "a run is there twice"
    found[run] = steps
""",
    "trackio": """
import datetime
os.environ["TRACKIO_DIR"] = folder
from trackio.sqlite_storage import SQLiteStorage
for project in SQLiteStorage.get_projects():
    for record in SQLiteStorage.get_run_records(project):
        run = record["name"]
        assert run not in found, "a run is there twice"
        found[run] = {}
        for row in SQLiteStorage.get_logs(project, run):
            time = datetime.datetime.fromisoformat(row["timestamp"]).timestamp()
            for tag, value in row.items():
                if tag not in ("step", "timestamp"):
                    found[run].setdefault(tag, []).append([row["step"], value, time])
""",
}


@elsewhere
@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_the_tracker_itself_reads_every_number_once(sweep, name):
    """Mirrored, then mirrored again after a restart has changed the last rows of a run."""

    def call():
        command = [TRACKERS_PYTHON, "launch.py", "mirror", str(sweep), "--to", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    call()
    run = sorted(path for path in sweep.iterdir() if path.name.startswith("w"))[1]
    rows = lines_of(run / "metrics.jsonl")
    write_lines(run / "metrics.jsonl", [*rows, *(row | {"attempt": 2, "loss": 9.0} for row in rows[8:])])
    call()
    call()
    program = f"import json, os\nfound, folder = {{}}, {str(sweep / 'mirror' / name)!r}\n{READERS[name]}"
    done = subprocess.run(
        [TRACKERS_PYTHON, "-c", f"{program}\nprint(json.dumps(found))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert sorted(found) == sorted(path.name for path in sweep.iterdir() if path.name.startswith("w"))
    for run_id, tags in found.items():
        mirrored, _ = read_mirrored(sweep / run_id)
        wanted = {
            (tag, point.tokens): (value, point.time)
            for point in mirrored.points
            for tag, value in point.values.items()
        }
        assert {(tag, key): value for (tag, key), (value, _) in wanted.items()} == pytest.approx(
            expected(sweep / run_id)
        )
        got = [(tag, step, value, time) for tag, rows in tags.items() for step, value, time in rows]
        assert len(got) == len(wanted)
        for tag, step, value, time in got:
            assert value == pytest.approx(wanted[tag, step][0], rel=1e-6)
            assert time == pytest.approx(wanted[tag, step][1], abs=1e-3)


@pytest.mark.slow
def test_the_bytes_do_not_hang_on_the_order_of_a_hash(sweep):
    names = {"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2"}
    program = (
        "import sys, hashlib; from pathlib import Path; from launchers.mirror.mirrored import read_mirrored;"
        "from launchers.mirror.trackers.tensorboard import _events, _record;"
        "run, _ = read_mirrored(Path(sys.argv[1]));"
        "print(hashlib.sha256(b''.join(map(_record, _events(run)))).hexdigest())"
    )
    run = next(path for path in sweep.iterdir() if path.is_dir())
    said = {
        subprocess.run(
            [sys.executable, "-c", program, str(run)],
            cwd=ROOT,
            env=os.environ | one,
            capture_output=True,
            check=True,
        ).stdout
        for one in names
    }
    assert len(said) == 1
