"""Documents name what exists: experiments, commands, files; and are as short as they promise."""

import ast
import re
import tomllib

import pytest
import yaml

from experiments import registry
from tests.support.small import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs" / "reference" / "commands.md").read_text()


def test_readme_is_short():
    assert len(README.splitlines()) <= 180


def test_every_experiment_has_a_page_and_is_listed():
    index = (ROOT / "docs" / "results" / "index.md").read_text()
    for name in registry.names():
        assert (ROOT / "docs" / "results" / f"{name}.md").exists()
        assert f"({name}.md)" in index
        assert name in README
        docstring = ast.get_docstring(ast.parse((ROOT / "experiments" / f"{name}.py").read_text())) or ""
        assert f"docs/results/{name}.md" in docstring


def test_every_command_is_in_the_reference():
    """Modules that a person starts: those with a __main__ part, but for what only other programs start."""
    rooms = ("analysis", "bench", "data", "training", "planning", "launchers")
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    started = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in paths
        if 'if __name__ == "__main__"' in path.read_text() or path.name == "__main__.py"
    }
    inner = {
        name
        for name in started
        if re.search(r"_peer$|^training\.worker$|^training\.packs|^planning\.|\.harness\.read$", name)
    }
    named = set(re.findall(r"python -m ([\w.]+)", COMMANDS))
    assert started - inner == named


def test_every_target_of_make_that_a_reader_needs_is_in_the_reference():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"`make ([a-z-]+)`", COMMANDS)) <= targets
    assert {"quickstart", "check", "test", "test-long", "docs"} <= targets


def test_no_page_names_a_file_that_is_not_there():
    folders = tuple(
        f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    made = ("runs/", "cache/", "site/")
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    for page in pages:
        text = page.read_text()
        titled = set(re.findall(r'title="([^"]+)"', text))
        names = re.findall(r"`([\w.-]+/(?:[\w.-]+/?)*)`", re.sub(r"```.*?```", "", text, flags=re.S))
        for name in names:
            if (
                name.startswith(folders)
                and not name.startswith(made)
                and "NAME" not in name
                and name not in titled
            ):
                assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_citation_is_valid():
    """What the schema of the Citation File Format 1.2.0 requires, and the version of the package."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"]
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert citation["type"] == "software"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(citation["date-released"]))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_a_page_has_one_title(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    if "docs/_site.py puts it here" not in text:
        assert len(re.findall(r"^# ", text, flags=re.M)) == 1
