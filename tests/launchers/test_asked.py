"""What a command asked for stands in sweep.json, and with which code."""

import subprocess
from pathlib import Path

import launch
from core.sweep_file import read_sweep_file
from launchers.asked import code_line
from launchers.code import CodeState, code_state


def a_checkout(folder: Path) -> str:
    """A git repository with one file; its commit."""
    folder.mkdir()
    (folder / "a.py").write_text("a = 1\n")
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "a.py"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return head.stdout.strip()


def state(folder: Path) -> CodeState:
    code_state.cache_clear()
    return code_state(folder)


def test_code_is_its_commit_and_a_hash_of_what_differs(tmp_path):
    folder = tmp_path / "code"
    commit = a_checkout(folder)
    assert state(folder) == (commit, None)
    (folder / "notes.txt").write_text("no code")
    assert state(folder) == (commit, None)
    (folder / "mine.py").write_text("an experiment that git does not know")
    mine = state(folder)
    (folder / "a.py").write_text("a = 2\n")
    changed = state(folder)
    (folder / "a.py").write_text("a = 3\n")
    assert len({None, mine.diff_sha256, changed.diff_sha256, state(folder).diff_sha256}) == 4
    (folder / "a.py").write_text("a = 1\n")
    assert state(folder) == mine
    (folder / "mine.py").unlink()
    assert state(folder) == (commit, None)
    assert state(tmp_path / "nowhere") == (None, None)


def test_a_line_says_whether_the_code_is_the_same(monkeypatch):
    monkeypatch.setattr("launchers.asked.code_state", lambda: CodeState("a" * 40, "d" * 64))
    assert code_line("a" * 40, "d" * 64) == "code: as it is here (aaaaaaaaaaaa, with changes)"
    assert code_line("a" * 40, "e" * 64).endswith("here it is the same commit with other changes")
    assert code_line("b" * 40, None) == "code: bbbbbbbbbbbb; here it is aaaaaaaaaaaa with changes"
    assert code_line(None, None) == "code: not recorded"


def test_an_engine_whose_files_are_only_written_leaves_a_sweep_json_too(tmp_path):
    site = tmp_path / "site.toml"
    site.write_text('[skypilot]\nbucket = "s3://runs"\n')
    words = ["quickstart", "--sizes", "1", "--runs", str(tmp_path), "--backend", "skypilot", "--dry-run"]
    assert launch.main(["submit", *words, "--site", str(site)]) == 0
    record = read_sweep_file(tmp_path / "quickstart")
    assert record is not None
    assert len(record["runs"]) == 6
    assert record["command"].startswith("python launch.py submit quickstart --sizes 1 --runs ")
    assert record["arguments"]["sizes"] == 1
    assert launch.main(["submit", *words, "--site", str(site), "--seeds", "2"]) == 0
    more = read_sweep_file(tmp_path / "quickstart")
    assert more is not None
    assert more["runs"][:6] == record["runs"]
    assert (len(more["runs"]), len(more["history"])) == (12, 2)
    assert more["command"].endswith("--seeds 2")
