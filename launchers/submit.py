"""`python launch.py submit`: its flags, what an engine is, and the way to the engine that the flags name.

An engine is found by its place: launchers/engines/NAME.py, with a function `submit` as `Engine` describes it, serves
`--backend NAME`, and the table [NAME] of the site file is its own.
"""

import dataclasses
import functools
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

from core.bounds import Allowed
from core.errors import EXIT_COMPLETE, BadInput, writes
from core.suggest import unknown
from launchers.budget import refuse_above
from launchers.order import check_order
from launchers.packs import parse_pack
from launchers.site import read_site
from training.spec import RunSpec

ENGINES = Path(__file__).resolve().parent / "engines"


@dataclasses.dataclass(frozen=True)
class SubmitFlags:
    """How to send it; each flag wins over the same key of the site file, whose default stands in brackets.

    Attributes:
      backend: the engine: a file of launchers/engines/, such as slurm, skypilot or jobset.
      site: TOML file about the cluster; docs/guides/clusters.md shows one.
      partition: Slurm partition.
      account: Slurm account.
      time: limit of one attempt: minutes, 4:00:00 or 1-12 [4:00:00].
      gpus: GPUs of each node [0].
      nodes: nodes of one run [1].
      tasks: processes of one run on each node, which share its GPUs [1].
      cpus: CPU cores of one process [1].
      throttle: runs, or packs, at the same time [no limit].
      pack: runs of one shape as one program: auto (as measured by earlier runs; none on a CPU), off, or the most of a
        pack [auto].
      checkpoint_seconds: least time between checkpoints [60].
      budget_flops: refuse to train what costs more FLOPs.
      dry_run: write what would be sent, send nothing.
      json: what was sent, as JSON.
    """

    backend: str = "slurm"
    site: Path | None = None
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    gpus: int | None = None
    nodes: int | None = None
    tasks: int | None = None
    cpus: int | None = None
    throttle: int | None = None
    pack: str | None = None
    checkpoint_seconds: float | None = None
    budget_flops: Annotated[float | None, Allowed(1, 1e40)] = None
    dry_run: bool = False
    json: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """What an engine is asked to send.

    Attributes:
      specs: the runs, complete ones among them.
      directory: runs/<sweep>.
      cache: folder of corpora, compiled programs and measured sizes of packs, on this machine.
      flags: of the command line.
      site: the site file, tables of other engines among it.
      begin: is called before the first run is sent or written, once nothing is left to be refused.
    """

    specs: Sequence[RunSpec]
    directory: Path
    cache: Path
    flags: SubmitFlags
    site: Mapping[str, Any]
    begin: Callable[[], None] = lambda: None

    def table(self, engine: str) -> object:
        """The engine's own table of the site file; --pack wins over its key."""
        table = self.site.get(engine, {})
        if self.flags.pack is not None and isinstance(table, dict):
            return {**table, "pack": self.flags.pack}
        return table


class Engine(Protocol):
    """A file of launchers/engines/."""

    def submit(self, request: Request) -> str:
        """Send a sweep, or write what would be sent; returns what was done, for a person, or as JSON for --json.

        Raises:
          BadInput: a wrong flag or site key, or an engine that does not answer.
        """


def engine_names() -> list[str]:
    """Every engine that there is, found without importing any."""
    return sorted(path.stem for path in ENGINES.glob("*.py") if not path.stem.startswith("_"))


def send(
    specs: Sequence[RunSpec],
    directory: Path,
    cache: Path,
    flags: SubmitFlags,
    begin: Callable[[], None] = lambda: None,
) -> str:
    """Send a sweep to the engine that the flags name; returns what to tell the user.

    Args:
      begin: is called before the first run is sent or written.

    Raises:
      BadInput: an unknown engine, a wrong flag or site key, or an engine that does not answer.
    """
    check_order(directory, specs)
    refuse_above(specs, directory, flags.budget_flops)
    if flags.backend not in engine_names():
        raise unknown("--backend=", flags.backend, engine_names())
    if flags.pack is not None:
        parse_pack(flags.pack)
    engine = cast(Engine, importlib.import_module(f"launchers.engines.{flags.backend}"))
    begin = functools.cache(begin)
    said = engine.submit(Request(specs, directory, cache, flags, read_site(flags.site), begin))
    if not flags.dry_run:  # an engine that has not called it
        begin()
    return said


def send_and_say(*arguments: Any) -> int:
    """`send` as a command: 0, or BadInput."""
    sys.stdout.write(f"{send(*arguments)}\n")
    return EXIT_COMPLETE


def written_only(request: Request, engine: str, write: Callable[[Path], Sequence[Path]]) -> str:
    """`Engine.submit` of an engine whose files are written here, below the sweep's folder, and never sent.

    Args:
      write: fills the folder that it is given; returns the files.
    """
    if not request.flags.dry_run:
        raise BadInput(
            f"--backend={engine}: its files are written here, not sent; add --dry-run, look at them, and give "
            "them to its own command line"
        )
    folder = request.directory / engine
    with writes(folder):
        paths = write(folder)
    request.begin()
    return (
        json.dumps([str(path) for path in paths]) if request.flags.json else f"{len(paths)} files in {folder}"
    )
