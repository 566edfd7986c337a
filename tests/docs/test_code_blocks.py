"""Every block of code in README and the pages of docs/: files are saved, commands run or held to their flags."""

from pathlib import Path

import pytest

from tests.support.documents import blocks, check, commands, run, write_checkout
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
LONGEST_SECONDS = {"README.md": 400}
LONGEST_SECONDS_ELSEWHERE = 200


def walk(page: str, folder: Path, longest: float) -> None:
    """From top to bottom of a page, as a reader would: save what has a name, type the rest."""
    checkout = write_checkout(folder, trained=not (longest and page == "README.md"))
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
                    wrong = check(command, checkout)
                    assert not wrong, f"{block.where}: {command.line}: {wrong}"
        else:
            assert block.language in ("text", "json", "toml"), f"{block.where}: a block that nobody can run"


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKED)
def test_what_a_page_says_works(page, tmp_path):
    walk(page, tmp_path, 0)


@pytest.mark.long
@pytest.mark.parametrize("page", WALKED)
def test_what_a_page_says_works_at_full_size(page, tmp_path):
    walk(page, tmp_path, LONGEST_SECONDS.get(page, LONGEST_SECONDS_ELSEWHERE))


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return write_checkout(tmp_path_factory.mktemp("code"), trained=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", NAMED)
def test_commands_of_results_exist_with_their_flags(page, code):
    """They take minutes; tests/experiments/golden holds what they would train."""
    for block in blocks(ROOT / page):
        for command in commands(block) if block.language == "sh" else ():
            wrong = check(command, code)
            assert not wrong, f"{block.where}: {command.line}: {wrong}"
