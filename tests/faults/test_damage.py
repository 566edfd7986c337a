"""Every file of a run, damaged in every way: no command fails or hangs, and no number changes without a word.

What a user runs is called here in one process: status, doctor, the reading of a report, and what a launch would train.
"""

import contextlib
import io
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.emergence.table import sweep_rows
from analysis.logs.files import read_logs
from analysis.logs.load import load_sweep
from core.codec import from_json
from core.errors import BadInput
from core.files import read_json
from core.rundir import RunDirectory
from launchers.doctor.examine import examine
from launchers.local.launch import LocalLauncher, LocalOptions
from launchers.order import check_order
from launchers.status import show_status, sweep_status
from tests.support.damage import DAMAGES, damaged
from tests.support.small import ROOT
from training.spec import RunSpec

STORED = ROOT / "tests" / "stored" / "runs" / "stored"
SCORED = "w12-l1-t32.8k-s0-a706901d"  # has tasks
TRUNK = "w8-l1-t12.3k-s0-4303f4d9"  # has checkpoints
STOPPED = "w8-l1-t32.8k-s1-c27cd425"
NEIGHBOUR = "w16-l1-t32.8k-s0-a7d9a861"
OTHERS = ("w8-l1-t8.19k-s0-2614c1b9", "w32-l1-t16.4k-s0-e3dbc986")
SECONDS = 20  # a command that takes longer hangs
SAMPLE = 40
# Of a run that carries no checksums, what only its own numbers could contradict.
NOBODY = 65534


@pytest.fixture(scope="module", params=["sealed", "of an earlier version"])
def sweep(request) -> Iterator[Path]:
    """A few stored runs, where nobody may look into them; with the checksums that a run of today has, or without."""
    folder = Path(tempfile.mkdtemp(prefix="damage-", dir="/tmp"))
    folder.chmod(0o755)
    for name in (SCORED, TRUNK, STOPPED, NEIGHBOUR, *OTHERS):
        shutil.copytree(STORED / name, folder / "stored" / name)
        run = RunDirectory(folder / "stored" / name)
        if request.param == "sealed" and run.is_complete():
            run.write_result(run.seal(run.read_result()))
    yield folder / "stored"
    shutil.rmtree(folder)


def files_of(sweep: Path) -> list[Path]:
    """Every file of a run with tasks, of a trunk with its checkpoint, and of a run that was stopped."""
    return sorted(
        path for name in (SCORED, TRUNK, STOPPED) for path in (sweep / name).rglob("*") if path.is_file()
    )


def status(sweep: Path) -> tuple[dict[str, Any], str]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        show_status(sweep)
    said.getvalue().encode()  # what a terminal can be given
    rows = sweep_status(sweep)
    notes = " ".join(
        f"{row.run}: {row.state} {row.note};" for row in rows if row.note or row.state != "complete"
    )
    return {row.run: (row.tokens, row.loss) for row in rows}, notes


def doctor(sweep: Path) -> tuple[dict[str, Any], str]:
    return {}, " ".join(f"{one.where}: {one.problem};" for one in examine(sweep))


def report(sweep: Path) -> tuple[dict[str, Any], str]:
    """The numbers that a report fits, draws and tests, and what it says of the logs."""
    loaded = load_sweep(sweep, read_logs(sweep))
    table, evaluations, metrics = loaded.table(), loaded.evaluations(), loaded.metrics()
    numbers: dict[str, Any] = {
        str(run): [float(table.columns[name][row]) for name in ("params", "tokens", "loss", "flops")]
        for row, run in enumerate(table.columns["run"])
    }
    for kind, frame in (("evals.jsonl", evaluations.frame), ("metrics.jsonl", metrics.frame)):
        for run, *row in frame.rows():
            numbers.setdefault(f"{run}/{kind}", []).append(tuple(row))
    with contextlib.suppress(BadInput):
        for row in sweep_rows(loaded)[0]:
            numbers[f"{row['run']}/evals.jsonl of {row['task']}"] = row["correct"]
    said = (*table.warnings, *evaluations.warnings, *metrics.warnings, *map(str, loaded.left_out().items()))
    return numbers, " ".join(said)


def launch(sweep: Path) -> tuple[dict[str, Any], str]:
    """Which runs a launch would train; a run that it trains again says so by being trained."""
    specs = [
        from_json(RunSpec, read_json(STORED / path.name / "spec.json")) for path in sorted(sweep.iterdir())
    ]
    launcher = LocalLauncher(sweep, specs, LocalOptions())
    check_order(sweep, launcher.todo)
    return {}, " ".join(spec.run_id for spec in launcher.todo)


COMMANDS: dict[str, Callable[[Path], tuple[dict[str, Any], str]]] = {
    "status": status,
    "doctor": doctor,
    "report": report,
    "launch": launch,
}


@contextlib.contextmanager
def ends_in_time() -> Iterator[None]:
    """Raises TimeoutError in what hangs."""

    def late(*_: object) -> None:
        raise TimeoutError("hangs")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def call(command: str, sweep: Path) -> tuple[dict[str, Any], str, str]:
    """What it says, and how it failed: an error that no user should see, or no end."""
    try:
        with ends_in_time():
            return *COMMANDS[command](sweep), ""
    except BadInput as error:
        return {}, "", f"refused the whole sweep: {error}"
    except Exception as error:  # noqa: BLE001  this is what is looked for
        return {}, "", f"{type(error).__name__}: {error}"[:200]


@contextlib.contextmanager
def without_privileges(damage: str) -> Iterator[None]:
    """Root may read everything, so this process is nobody for a while."""
    if damage != "forbidden" or os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def silent(before: dict[str, Any], after: dict[str, Any], said: str) -> list[str]:
    """Numbers that are others or gone, of a run that nothing is said of."""
    changed = [key for key in before if after.get(key) != before[key]]
    changed += [key for key in after if key not in before]
    return [key for key in changed if key.split("/")[0].split(" ")[0] not in said]


def nobody_can_know(sweep: Path, path: Path, damage: str) -> bool:
    """One number of a log, edited into another that could be: only a checksum tells, which this run does not have."""
    sealed = "sha256" in read_json(sweep / NEIGHBOUR / "result.json") and path.parent.name != STOPPED
    return (
        not sealed and path.suffix == ".jsonl" and (" number " in damage or damage.startswith("a bit flipped"))
    )


def try_out(sweep: Path, cases: list[tuple[Path, str]]) -> tuple[Counter, list[str], list[str]]:
    """Counts, what went wrong, and damages that the doctor does not see."""
    counts: Counter = Counter()
    baseline = {command: call(command, sweep) for command in COMMANDS}
    assert not any(failure for _, _, failure in baseline.values()), baseline
    assert not baseline["doctor"][1]
    wrong, unseen = [], []
    for path, damage in cases:
        relative = path.relative_to(sweep)
        other = sweep / NEIGHBOUR / relative.name
        whole = path.read_bytes()
        other = other if other.exists() else sweep / NEIGHBOUR / "env.json"
        with damaged(path, other, DAMAGES[damage]):
            counts["damages"] += 1
            same = path.is_file() and os.access(path, os.R_OK) and path.stat().st_size == len(whole)
            same = same and damage != "forbidden" and path.read_bytes() == whole
            for command in COMMANDS:
                counts["calls"] += 1
                with without_privileges(damage):
                    numbers, said, failure = call(command, sweep)
                where = f"{command} of {relative}, {damage}"
                if failure:
                    counts["failures"] += 1
                    wrong.append(f"{where}: {failure}")
                elif lost := silent(baseline[command][0], numbers, said):
                    if nobody_can_know(sweep, path, damage):
                        counts["edited numbers that nothing contradicts"] += 1
                        continue
                    counts["silent changes"] += 1
                    wrong.append(f"{where}: {lost[0]} is another number, and nothing is said: {said[:300]}")
                elif command == "doctor" and not said and not same:
                    unseen.append(f"{relative}, {damage}")
    return counts, wrong, unseen


def all_cases(sweep: Path) -> list[tuple[Path, str]]:
    """Each file with each damage; files of checkpoints, of which there are many alike, with some of them."""
    cases = []
    for place, path in enumerate(files_of(sweep)):
        every = 16 if "checkpoints" in path.parts else 1
        cases += [(path, damage) for damage in list(DAMAGES)[place % every :: every]]
    return cases


@pytest.mark.slow
def test_a_sample_of_all_damages(sweep):
    cases = [one for one in all_cases(sweep) if "checkpoints" not in one[0].parts]
    counts, wrong, _ = try_out(sweep, random.Random(16).sample(cases, SAMPLE))
    assert not wrong, "\n".join(wrong)
    assert counts["damages"] == SAMPLE


@pytest.mark.long
def test_every_file_of_a_run_by_every_damage(sweep, capsys):
    """A sixteenth of them; `make test-walks` asks for all."""
    counts, wrong, unseen = try_out(sweep, all_cases(sweep)[:: int(os.environ.get("DAMAGE_EVERY", "16"))])
    with capsys.disabled():
        print(f"\n{dict(counts)}; unseen by doctor: {len(unseen)}")
        for line in unseen:
            print("  unseen:", line)
    assert not wrong, "\n".join(wrong)
