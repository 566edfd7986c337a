"""`make docs` builds a site that needs no network, with every page in its menu and no broken link."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.small import ROOT

LOADS = re.compile(
    r"<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*?(?:src|href|data)=[\"']?([^\"' >]+)"
)
STYLE_LOADS = re.compile(r"(?:@import|url\()\s*[\"']?(https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_page_loads_nothing_from_another_place(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text()
        loaded = LOADS.findall(text)
        assert loaded
        assert not [source for source in loaded if re.match(r"(https?:)?//", source)], page
        assert not STYLE_LOADS.search(text), page
    for sheet in site.rglob("*.css"):
        assert not STYLE_LOADS.search(sheet.read_text()), sheet


def test_the_start_page_is_the_readme_with_its_links_turned(site):
    text = (site / "index.html").read_text()
    assert "<h1" in text
    assert 'src="results/quickstart.png"' in text
    assert 'href="guides/running.html"' in text
    assert "docs/" not in re.findall(r'href="([^"]+)"', text)
    assert (site / "notebook.ipynb").exists()


def test_every_result_has_a_figure_or_says_its_answer_first():
    for path in (ROOT / "docs" / "results").glob("*.md"):
        if path.name != "index.md":
            first = path.read_text().split("\n")
            assert first[0].startswith("# "), path
            assert first[2].startswith("**Answer.**"), path
