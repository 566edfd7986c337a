"""Every block of code in README and the pages of docs/: files are saved, commands run or held to their flags."""

from pathlib import Path

import pytest

from tests.support.documents import STORED, blocks, check, commands, run, write_checkout
from tests.support.small import ROOT

WALKED = (
    "README.md",
    *(f"docs/guides/{path.name}" for path in sorted((ROOT / "docs" / "guides").glob("*.md"))),
)
WALKED = (*WALKED, "docs/extend.md")
NAMED = sorted(
    str(path.relative_to(ROOT))
    for path in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "results").glob("*.md")]
    if path.name != "extend.md" and "```sh" in path.read_text()
)


# Of a command that is run. A longer one is held to its plan, and tests/experiments/golden to what those plans are.
LONGEST_SECONDS = 120
LONGEST_SECONDS_WALKED = 400


def walk(page: str, checkout: Path, longest: float) -> None:
    """From top to bottom of a page, as a reader would: save what has a name, type the rest."""
    for block in blocks(ROOT / page):
        if block.title:
            path = checkout / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            if block.language == "python":
                compile(block.text, block.title, "exec")
        elif block.language == "sh":
            for command in commands(block):
                if command.runs(longest):
                    done = run(command.line, checkout)
                    assert done.returncode == 0, f"{block.where}: {command.line}\n{done.stdout}{done.stderr}"
                else:
                    wrong = check(command, checkout, longest)
                    assert not wrong, f"{block.where}: {command.line}: {wrong}"
        else:
            assert block.language in ("text", "json", "toml"), f"{block.where}: a block that nobody can run"


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKED)
def test_what_a_page_says_works(page, tmp_path):
    walk(page, write_checkout(tmp_path, STORED), 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A small quickstart."""
    checkout = write_checkout(tmp_path_factory.mktemp("trained"), None)
    done = run("python launch.py run quickstart --tokens 65536 131072 262144", checkout)
    assert done.returncode == 0, done.stderr
    return checkout


@pytest.mark.long
@pytest.mark.parametrize("page", WALKED)
def test_what_a_page_says_works_after_a_small_quickstart(page, tmp_path, trained):
    walk(page, write_checkout(tmp_path, trained), LONGEST_SECONDS)


@pytest.mark.walk
@pytest.mark.parametrize("page", WALKED[1:])
def test_what_a_page_says_works_at_full_size(page, tmp_path, trained):
    walk(page, write_checkout(tmp_path, trained), LONGEST_SECONDS_WALKED)


@pytest.mark.walk
def test_what_readme_says_works_at_full_size(tmp_path):
    """Quickstart as it is printed is among it."""
    walk("README.md", write_checkout(tmp_path, None), LONGEST_SECONDS_WALKED)


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return write_checkout(tmp_path_factory.mktemp("code"), STORED)


@pytest.mark.slow
@pytest.mark.parametrize("page", NAMED)
def test_commands_of_results_exist_with_their_flags(page, code):
    """They take minutes; tests/experiments/golden holds what they would train."""
    for block in blocks(ROOT / page):
        for command in commands(block) if block.language == "sh" else ():
            wrong = check(command, code)
            assert not wrong, f"{block.where}: {command.line}: {wrong}"
