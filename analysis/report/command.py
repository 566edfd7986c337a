"""A sweep's report, from its logs alone: every fit, test and figure, the same bytes each time.

    python -m analysis.report runs/<sweep>

writes runs/<sweep>/report/: report.html (self-contained), report.md, each figure as .svg and .png, table.csv (what
the fit read), runs.csv (every run), fit.json and isoflop.json; where runs have scores of tasks also tasks.csv and
emergence.json, and where runs of one shape differ in learning rate learning_rate.json in place of a fit. No
accelerator and no checkpoint is needed. A report that was made from the same logs by the same code is left as it is
(made_from.json says from which).
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.commands import Parser
from analysis.logs.files import REPORT as FOLDER
from analysis.logs.files import read_logs
from analysis.logs.load import load_sweep
from core.errors import BadInput, exit_on_bad_input
from core.files import write_atomic, write_json

SECTIONS = (
    "tokenizers",
    "repeated",
    "shapes",
    "approaches",
    "powers",
)  # analysis/report/sections/: a figure and a result each
MADE_FROM = "made_from.json"
PICTURES = (
    "hull",  # no longer drawn: an earlier report may have left it
    "loss_tokens", "loss_params", "evaluations", "training", "isoflop", "envelope", "frontier", "residuals",
    "sensitivity", "backtest", "forecast", *SECTIONS,
)  # fmt: skip
EMERGENCE_PICTURES = (
    *(f"emergence_curves_{page}" for page in (1, 2, 3, 4)), "emergence_verdicts", "emergence_seeds", "emergence_power",
)  # fmt: skip
FILES = (
    "report.html", "report.md", "table.csv", "runs.csv", "fit.json", "isoflop.json",
    *(f"{name}.json" for name in SECTIONS),
    *(f"{name}.{kind}" for name in (*PICTURES, *EMERGENCE_PICTURES) for kind in ("svg", "png")),
    "tasks.csv", "emergence.json", "learning_rate.json", "learning_rate.svg", "learning_rate.png",
)  # fmt: skip


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
    origin = {
        "logs_sha256": logs.sha256,
        "code_sha256": code_sha256(),
        "bootstrap": bootstrap,
        "seed": seed,
    }
    summary = summary_if_current(folder, origin)
    if summary is not None:
        return folder / "report.html", summary
    sweep = load_sweep(path, logs)
    # Fitting and drawing are heavy to import, and a mistaken path should be told at once.
    from analysis.report.page import contents
    from analysis.report.study import study_of

    files, summary = contents(study_of(sweep, bootstrap, seed))
    write_files(folder, files)
    digests = {name: hashlib.sha256(_bytes(content)).hexdigest() for name, content in sorted(files.items())}
    write_json(folder / MADE_FROM, {**origin, "summary": summary, "files": digests})
    return folder / "report.html", summary


def code_sha256() -> str:
    """Over the source of this room: other code may make another report of the same logs."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def summary_if_current(folder: Path, origin: Mapping[str, object]) -> list[str] | None:
    """The summary of the report in `folder` where it was made from `origin` and every file of it is intact."""
    try:
        made = json.loads((folder / MADE_FROM).read_bytes())
        same = all(made[key] == value for key, value in origin.items()) and all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
            for name, digest in made["files"].items()
        )
        return list(made["summary"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # no report, or a damaged one: it is made again


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write the files of a report and remove those of an earlier one that this one does not have."""
    try:
        for name, content in files.items():
            write_atomic(folder / name, content)
        for name in set(FILES) - files.keys():
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror})") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    parser = Parser(prog="python -m analysis.report", description="A sweep's report, from its logs alone.")
    parser.add_argument("sweep", help="the sweep's directory, runs/<sweep>")
    parser.add_argument(
        "--bootstrap", type=int, default=1000, help="resamples behind the intervals; 0 for none"
    )
    parser.add_argument("--seed", type=int, default=0)
    with exit_on_bad_input():
        options = parser.parse_args(arguments)
        _check(options)
        # Fits run on the CPU: a report must not take an accelerator's memory from a run beside it.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        page, summary = write_report(options.sweep, options.bootstrap, options.seed)
        _show(page, summary)


def _check(options: argparse.Namespace) -> None:
    if options.bootstrap < 0 or options.bootstrap == 1 or options.bootstrap > 1_000_000:
        raise BadInput(f"--bootstrap {options.bootstrap}: must be 0 or at least 2 resamples, at most a million")
    if options.seed < 0:
        raise BadInput(f"--seed {options.seed}: must be at least 0")


def _show(page: Path, summary: Sequence[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    for sentence in summary:
        console.print(Text("• " + sentence))
    # The path stays whole, so that it can be selected and opened.
    console.print(Text(f"report: {page}"), soft_wrap=True)
