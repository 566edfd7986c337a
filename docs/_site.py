"""What is different on the site: pages that are files of the repository's root, and rows of tables that do not break.

A hook of mkdocs (mkdocs.yml). Each text stands once, where people look for it: the page in docs/ is a stub, its text
is read here. Pages link to the file, as GitHub needs it, and the link is turned to the page.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "tests/README.md": "tests.md",
}
FILES = {page: file for file, page in PAGES.items()}
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page of the site."""
    file = FILES.get(page.file.src_uri)
    if file is None:
        text = links_of_a_page(markdown, page.file.src_uri.count("/"))
    else:
        text = links_of_a_file((ROOT / file).read_text(encoding="utf-8"))
    return re.sub(r"^\|.*\|$", lambda row: unbroken(row[0]), text, flags=re.M)


def links_of_a_page(text: str, depth: int) -> str:
    """Links to files that are pages: `../README.md` becomes `index.md`, from a page `depth` folders deep."""
    outside = "../" * (depth + 1)

    def turned(link: re.Match[str]) -> str:
        words, target, place = link.groups("")
        file = target.removeprefix(outside)
        return (
            f"[{words}]({'../' * depth}{PAGES[file]}{place})" if target != file and file in PAGES else link[0]
        )

    return LINK.sub(turned, text)


def links_of_a_file(text: str) -> str:
    """Links of a file at the root: docs/limits.md becomes limits.md, SECURITY.md its page.

    A file that is not on the site keeps its name and loses its link.
    """

    def turned(link: re.Match[str]) -> str:
        words, target, place = link.groups("")
        if "://" in target:
            return link[0]
        if target in PAGES or target.startswith("docs/"):
            return f"[{words}]({PAGES.get(target) or target.removeprefix('docs/')}{place})"
        return words

    return LINK.sub(turned, text)


def unbroken(row: str) -> str:
    """A row of a table whose intervals and units stay on one line."""
    row = re.sub(r"\[([^\s\]]+), ([^\s\]]+)\](?!\()", "[\\1,\u00a0\\2]", row)
    return re.sub(r"(\d) (s|min|MiB|MB|GB|GFLOP/s)(?=[ |,;])", "\\1\u00a0\\2", row)
