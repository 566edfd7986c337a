"""Pages of the site that are files of the repository's root: each text stands once, where people look for it.

A hook of mkdocs (mkdocs.yml). The page in docs/ is a stub; its text is read here, and its links are turned.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "tests.md": "tests/README.md",
}
PAGES = {file: page for page, file in FILES.items()}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page: that of a file of the repository where FILES names one."""
    file = FILES.get(page.file.src_uri)
    return markdown if file is None else with_links_turned((ROOT / file).read_text(encoding="utf-8"))


def with_links_turned(text: str) -> str:
    """Links of a file at the root as links of a page: docs/limits.md becomes limits.md, SECURITY.md its page.

    A file that is not on the site keeps its name and loses its link.
    """

    def turned(link: re.Match[str]) -> str:
        words, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        if target in PAGES or target.startswith("docs/"):
            return f"[{words}]({PAGES.get(target) or target.removeprefix('docs/')})"
        return words

    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", turned, text)
