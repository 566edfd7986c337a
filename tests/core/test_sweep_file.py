"""sweep.json: what a sweep is; nothing that was asked for is lost, and no damage stops a reader."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from core.errors import BadInput
from core.sweep_file import SweepRequest, known_sweep_file, note_copied, read_sweep_file, write_sweep_file

NOW = "2026-01-02T03:04:05+00:00"
COMMAND = "python launch.py run quickstart"


def asked(*runs: str, more: str = "", **changes) -> SweepRequest:
    return SweepRequest(COMMAND + more, "quickstart", runs, **{"arguments": {"seeds": len(runs)}, **changes})


def written(folder: Path, one: SweepRequest, commit: str = "a" * 40, diff: str | None = None) -> dict:
    record, damage = write_sweep_file(folder, one, NOW, commit, diff)
    assert damage == ""
    assert read_sweep_file(folder) == json.loads((folder / "sweep.json").read_text())
    return dict(record)


def test_the_file_says_what_was_asked_for(tmp_path):
    written(
        tmp_path / "s", asked("a", "b", preset="h100", settings={"model.width": "96"}, question="model.width")
    )
    value = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert (value["experiment"], value["arguments"], value["preset"]) == ("quickstart", {"seeds": 2}, "h100")
    assert (value["settings"], value["question"]) == ({"model.width": "96"}, "model.width")
    assert (value["command"], value["commit"], value["diff_sha256"]) == (COMMAND, "a" * 40, None)
    assert (value["runs"], value["created"]) == (["a", "b"], NOW)


def test_more_runs_are_added_and_the_command_that_asks_for_all_is_the_one_to_resume_with(tmp_path):
    written(tmp_path, asked("a"))
    value = written(tmp_path, asked("a", "b", more=" --seeds 2"))
    assert (value["runs"], value["command"]) == (["a", "b"], f"{COMMAND} --seeds 2")
    value = written(tmp_path, asked("a"))  # asks for a part of it
    assert (value["runs"], value["command"], value["arguments"]) == (
        ["a", "b"],
        f"{COMMAND} --seeds 2",
        {"seeds": 2},
    )
    value = written(tmp_path, asked("c", more=" --sizes 1"))  # asks for what the others do not
    assert value["command"] == f"{COMMAND} --seeds 2 && {COMMAND} --sizes 1"
    assert written(tmp_path, asked("c", more=" --sizes 1")) == value
    value = written(tmp_path, asked("c", "b", "a", more=" --all"))
    assert (value["runs"], value["command"]) == (["a", "b", "c"], f"{COMMAND} --all")
    commands = [(one["command"].removeprefix(COMMAND), one["runs"], one["added"]) for one in value["history"]]
    assert commands == [("", 1, 1), (" --seeds 2", 2, 1), (" --sizes 1", 1, 1), (" --all", 3, 0)]


def test_the_same_command_again_changes_nothing_and_with_other_code_is_in_the_history(tmp_path):
    before = written(tmp_path, asked("a"))
    assert written(tmp_path, asked("a")) == before
    after = written(tmp_path, asked("a"), "b" * 40, "d" * 64)
    assert [one["commit"][0] for one in after["history"]] == ["a", "b"]
    assert (after["commit"], after["diff_sha256"], after["created"]) == ("b" * 40, "d" * 64, NOW)


def add_one(folder: str, number: int) -> None:
    write_sweep_file(Path(folder), asked(f"run-{number}", more=f" --seed {number}"), NOW)


def test_launchers_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_one, args=(str(tmp_path / "s"), number)) for number in range(16)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    value = read_sweep_file(tmp_path / "s")
    assert value is not None
    assert set(value["runs"]) == {f"run-{number}" for number in range(16)}
    assert {one["added"] for one in value["history"]} == {1}
    assert len(value["command"].split(" && ")) == 16


DAMAGE = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "list": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "no runs": lambda path: path.write_text("{}"),
    "runs of numbers": lambda path: path.write_text('{"runs": [1]}'),
    "a path for a run": lambda path: path.write_text('{"runs": ["../other/run"]}'),
    "half a letter": lambda path: path.write_text('{"runs": ["\\ud800"]}'),
    "NaN": lambda path: path.write_text('{"runs": ["a"], "arguments": {"x": NaN}}'),
    "two lines": lambda path: path.write_text('{"runs": ["a"], "command": "a\\nb"}'),
    "another experiment": lambda path: path.write_text(path.read_text().replace("quickstart", "isoflop")),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
    "link to nothing": lambda path: (path.unlink(), path.symlink_to("nothing")),
    "huge": lambda path: os.truncate(path, 1 << 40),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_said_in_one_line_and_put_aside_by_the_next_command(tmp_path, damage):
    written(tmp_path, asked("a"))
    damage(tmp_path / "sweep.json")
    with pytest.raises(BadInput, match=r"sweep\.json: "):
        read_sweep_file(tmp_path)
    record, said = known_sweep_file(tmp_path)
    assert record is None
    assert "sweep.json" in said
    assert len(said.splitlines()) == 1
    record, said = write_sweep_file(tmp_path, asked("b"), NOW)
    assert record["runs"] == ["b"]
    assert "sweep.json.damaged" in said
    assert os.path.lexists(tmp_path / "sweep.json.damaged")
    assert read_sweep_file(tmp_path) == record


def test_a_file_of_another_program_needs_only_its_runs(tmp_path):
    assert read_sweep_file(tmp_path) is None
    (tmp_path / "sweep.json").write_text('{"runs": ["a"], "later": 1}')
    assert read_sweep_file(tmp_path) == {"runs": ["a"], "later": 1}
    assert written(tmp_path, asked("a", "b"))["later"] == 1


def test_copied_runs_are_noted_beside_the_rest(tmp_path):
    before = written(tmp_path, asked("a", "b"))
    note_copied(tmp_path, {"a": {"sweep": "runs/other", "time": NOW}})
    after = read_sweep_file(tmp_path)
    assert after is not None
    assert after["copied"] == {"a": {"sweep": "runs/other", "time": NOW}}
    assert {**after, "sha256": 0, "copied": 0} == {**before, "sha256": 0, "copied": 0} | {"copied": 0}
