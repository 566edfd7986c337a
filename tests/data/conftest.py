"""Small corpora that tests build from nothing."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = [
    "def",
    "return",
    "naïve",
    "Ωmega",
    "学习",
    "🙂",
    "value",
    "self",
    "x1",
    "==",
    "[",
    "]",
    "{",
    "}",
    "#",
    "the",
]


def write_documents(folder: Path, count: int, seed: int = 0) -> Path:
    """`count` different .txt documents of 5 to 60 words, non-ASCII ones among them."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    for number in range(count):
        words = chance.choices(WORDS, k=chance.randint(5, 60))
        (folder / f"{number:04}.txt").write_text(f"{number} " + " ".join(words) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("corpus") / "text", 400)


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install a fake distribution of given files and requirements where importlib.metadata finds it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def make(
        name: str,
        files: dict[str, bytes],
        requires: tuple[str, ...] = (),
        description: str = "",
        version: str = "1.0",
    ) -> Path:
        for path, payload in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(payload)
        information = site / f"{name}-{version}.dist-info"
        information.mkdir(exist_ok=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (information / "METADATA").write_text("\n".join(lines) + "\n\n" + description, encoding="utf-8")
        names = [*files, f"{information.name}/METADATA", f"{information.name}/RECORD", "../../bin/tool.py"]
        (information / "RECORD").write_text("".join(f"{path},,\n" for path in names))
        return site

    return make
