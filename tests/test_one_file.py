"""One new thing is one new file: a file of each kind, dropped into a copy of the code, is found by its place and used.

The files are those that docs/extend.md shows. A new kind is one more entry of KINDS and one more recipe of that page.
"""

import dataclasses
from pathlib import Path

import pytest

from tests.support.documents import STORED, Block, blocks, run, write_checkout
from tests.support.small import ROOT

PAGE = ROOT / "docs" / "extend.md"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Attributes:
      folder: of its files.
      command: fails without the new file, whose name {name} stands for.
      words: of what the command prints.
      before: what to run once the file is there, before the command.
    """

    folder: str
    command: str
    words: tuple[str, ...]
    before: str = "true"


PLAN = "python launch.py plan quickstart --json --set "
KINDS = (
    Kind(
        "experiments",
        "python launch.py run --help && python launch.py plan {name}",
        ("{name}  ", "{name}: 4 runs of 2 shapes"),
    ),
    Kind("data/tasks", PLAN + "data.skills={name}@0.1", ("{name}@0.1",)),
    Kind(
        "data/corpora",
        "python launch.py run quickstart --sizes 1 --tokens 8192 --corpus {name}:300 --set data.validation_tokens=1024",
        ("2 trained",),
    ),
    Kind(
        "launchers/engines",
        "python launch.py submit quickstart --backend {name} --dry-run && cat runs/quickstart/{name}/*",
        ("1 files in runs/quickstart/{name}", "training.run"),
    ),
    Kind("analysis/laws", "python -m analysis.fit table.csv --law {name}", ("{name}",)),
    Kind(
        "analysis/report/sections",
        "cat runs/few/report/report.md",
        ("## Slowest runs",),
        before="mkdir runs/few && cp -r runs/quickstart/w8-* runs/few"
        " && python -m analysis.report runs/few --bootstrap 0",
    ),
    Kind("training/optimizers", PLAN + "optim.name={name}", ('"name": "{name}"',)),
    Kind("training/objectives", PLAN + "objective={name}", ('"{name}"',)),
    Kind("model/blocks", PLAN + "model.architecture={name}", ('"{name}"',)),
)


def recipe(kind: Kind) -> Block:
    """The file of this kind that the page shows."""
    (found,) = [block for block in blocks(PAGE) if block.title.rpartition("/")[0] == kind.folder]
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    return write_checkout(tmp_path_factory.mktemp("one"), trained=STORED)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_one_new_file_is_found_and_used(kind, checkout):
    block = recipe(kind)
    path = checkout / block.title
    name = path.stem
    command = kind.command.format(name=name)
    assert run(command, checkout).returncode, "works without the file"
    path.write_text(block.text)
    done = run(f"{kind.before} && {command}", checkout)
    path.unlink()
    assert done.returncode == 0, done.stderr
    for words in kind.words:
        assert words.format(name=name) in done.stdout, done.stdout
