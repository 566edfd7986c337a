"""A sweep's report, from its logs alone: every fit, test and figure, the same bytes each time.

    python -m analysis.report runs/<sweep>
    python -m analysis.report TABLE.csv --column loss=val_loss

writes runs/<sweep>/report/: report.html (self-contained), report.md, each figure as .svg and .png, table.csv (what
the fit read), runs.csv (every run), fit.json and isoflop.json; where runs have scores of tasks also tasks.csv and
emergence.json, and where runs of one shape differ in learning rate learning_rate.json in place of a fit. No
accelerator and no checkpoint is needed. A report that was made from the same logs by the same code is left as it is
(made_from.json says from which). Of a table of one's own (columns params, tokens, loss) the report lies in
TABLE-report/ beside it.
"""

import dataclasses
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from analysis.logs.files import read_logs
from analysis.logs.flags import RunFlags, RunTableFlags
from analysis.logs.load import load_sweep
from analysis.logs.table import TableReading
from analysis.report.folder import Made, write
from core.cli import parse
from core.errors import BadInput, exit_on_bad_input
from core.rundir import REPORT as FOLDER

SOURCES = (".py", ".jinja", ".css", ".js")
MOST_RESAMPLES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Options:
    """A sweep's report, from its logs alone, or that of a table."""

    sweep: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SWEEP")]
    """The sweep's directory, runs/<sweep>, or a table: CSV, JSON or parquet."""
    reading: RunFlags = RunTableFlags()
    """Of a table: its columns and rows."""
    bootstrap: int = 1000
    """Resamples behind the intervals; 0 for none."""
    seed: int = 0

    def check(self) -> None:
        """Raises BadInput."""
        if self.bootstrap < 0 or self.bootstrap == 1 or self.bootstrap > MOST_RESAMPLES:
            raise BadInput(
                f"--bootstrap {self.bootstrap}: must be 0 or at least 2 resamples, at most a million"
            )
        if self.seed < 0:
            raise BadInput(f"--seed {self.seed}: must be at least 0")


def write_report(path: str | os.PathLike, bootstrap: int = 1000, seed: int = 0) -> tuple[Path, list[str]]:
    """Write the report of the sweep at `path`.

    Args:
      bootstrap: resamples behind the intervals of the fit; 0 for asymptotic ones.

    Returns:
      The path of report.html, and the sentences of its summary.

    Raises:
      BadInput: no sweep there, or its report folder cannot be written.
    """
    logs = read_logs(path)
    folder = logs.path / FOLDER
    origin = {"logs_sha256": logs.sha256, "code_sha256": code_sha256(), "bootstrap": bootstrap, "seed": seed}
    earlier = Made.read(folder)
    if earlier.is_current(folder, origin):
        return folder / "report.html", list(earlier.summary)
    sweep = load_sweep(path, logs)
    # Fitting and drawing are heavy to import, and a mistaken path should be told at once.
    from analysis.report.page import contents
    from analysis.report.sections import declared
    from analysis.report.study import study_of

    files, summary = contents(study_of(sweep, bootstrap, seed))
    write(folder, files, origin, summary, owned=earlier.files.keys() | declared())
    return folder / "report.html", summary


def write_table_report(
    path: str | os.PathLike, reading: TableReading, bootstrap: int = 1000, seed: int = 0
) -> tuple[Path, list[str]]:
    """As `write_report`, of a table: its law, frontier, valleys, back-test and powers, as far as its columns allow.

    Raises:
      BadInput: a table that cannot be read or has no params, tokens (or FLOPs beside params) and loss.
    """
    from analysis.report.page import contents
    from analysis.report.sections import declared
    from analysis.report.study import study_of_table
    from analysis.report.tables import columns_of_report

    path = Path(path)
    table = columns_of_report(path, reading)
    folder = path.with_name(f"{path.name.partition('.')[0]}-{FOLDER}")
    origin = {"table_sha256": table.sha256, "code_sha256": code_sha256(), "bootstrap": bootstrap, "seed": seed}
    origin |= reading.to_json()
    earlier = Made.read(folder)
    if earlier.is_current(folder, origin):
        return folder / "report.html", list(earlier.summary)
    if folder.exists() and not earlier.files and any(folder.iterdir()):
        raise BadInput(f"{folder}: holds files that no report wrote; move them, or rename the table")
    files, summary = contents(study_of_table(table, bootstrap, seed))
    write(folder, files, origin, summary, owned=earlier.files.keys() | declared())
    return folder / "report.html", summary


def code_sha256() -> str:
    """Over the source of this room: other code may make another report of the same logs."""
    sources = sorted(path for path in Path(__file__).parents[1].rglob("*") if path.suffix in SOURCES)
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    with exit_on_bad_input():
        options: Options = parse(
            Options, sys.argv[1:] if arguments is None else arguments, "python -m analysis.report"
        )
        options.check()
        # Fits run on the CPU: a report must not take an accelerator's memory from a run beside it.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        reading = options.reading.reading()
        if Path(options.sweep).is_dir() and reading != TableReading():
            raise BadInput(f"{options.sweep}: a sweep; --column, --drop-missing and --best-of are for tables")
        if Path(options.sweep).is_dir() or not Path(options.sweep).exists():
            page, summary = write_report(options.sweep, options.bootstrap, options.seed)
        else:
            page, summary = write_table_report(options.sweep, reading, options.bootstrap, options.seed)
        _show(page, summary)


def _show(page: Path, summary: Sequence[str]) -> None:
    # only to show; a launcher that scores a forecast is spared it
    from rich.console import Console
    from rich.text import Text

    # As wide as a terminal is anywhere, also where the output is a pipe; the answer comes first.
    console = Console(file=sys.stdout, highlight=False, width=80)
    for sentence in summary:
        console.print(Text("• " + sentence))
    # The path stays whole, so that it can be selected and opened.
    console.print(Text(f"report: {page}"), soft_wrap=True)
