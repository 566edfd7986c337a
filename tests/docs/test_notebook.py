"""The notebook runs from a fresh clone, and prints what is stored in it."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.small import ROOT

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells print, without tables and pictures."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"]


@pytest.mark.slow
def test_the_notebook_runs_and_gives_what_it_shows():
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    stored = printed(notebook)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT / "docs")}})
    client.execute()
    again = printed(notebook)
    assert len(again) == len(stored) > 0
    for before, now in zip(stored, again, strict=True):
        assert NUMBER.sub("#", now) == NUMBER.sub("#", before)
        numbers = [[float(value) for value in NUMBER.findall(text)] for text in (before, now)]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-2)
    pictures = [o for c in notebook.cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
