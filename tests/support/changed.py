"""The test files of the rooms that differ from a commit, for `make check`: one path a line.

    python -m tests.support.changed [COMMIT]      default: HEAD, or the commit before it where nothing is uncommitted

A change of core/ or of the tests' own helpers concerns every room. Tests of the house itself are always named.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = ("tests/test_architecture.py",)
EVERYWHERE = ("core/", "tests/support/", "tests/conftest.py", "requirements", "pyproject.toml")


def git(*arguments: str) -> list[str]:
    """Lines of a git command."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def changed_since(commit: str | None) -> list[str]:
    """Paths that differ from a commit, files that git does not know yet included."""
    new = git("ls-files", "--others", "--exclude-standard")
    if commit is None:
        dirty = git("diff", "--name-only", "HEAD") + new
        commit = "HEAD" if dirty else "HEAD~1"
    return git("diff", "--name-only", commit) + new


def tests_of(paths: Iterable[str]) -> list[str]:
    """Folders and files of tests that a change of these paths asks for."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    found = set(ALWAYS)
    for path in paths:
        if path.startswith(EVERYWHERE):
            return ["tests"]
        room, *rest = path.split("/")
        if room == "tests" and path.endswith(".py"):
            found.add(path if rest[-1].startswith("test_") else "/".join(["tests", *rest[:-1]]))
        elif room in folders:
            found.add(f"tests/{room}")
        elif room == "launch.py":
            found.add("tests/test_launch.py")
    return sorted(path for path in found if (ROOT / path).exists())


if __name__ == "__main__":
    print("\n".join(tests_of(changed_since(sys.argv[1] if len(sys.argv) > 1 else None))))
