"""Find and explain everything that is wrong in a sweep's folder; mend what can be mended without training."""

import collections
import functools
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from core import disk
from core.errors import EXIT_COMPLETE, EXIT_FAILED, BadInput
from core.reading import printable
from core.rundir import SWEEP, RunDirectory, SweepDirectory
from core.sweep_file import known_sweep_file, put_aside
from launchers.doctor import devices
from launchers.doctor.checkpoints import quiet, unchecked
from launchers.doctor.checks import SETTLED_SECONDS, examine_run, remove
from launchers.doctor.finding import Finding
from launchers.status import RunStatus, join_queue, sweep_status
from training.records import RunIsLocked, read_spec, run_lock
from training.spec import RunSpec
from training.stages import parent_of

# Below this a run may not be able to save: a choice, some hundred checkpoints of the quickstart.
LEAST_FREE_BYTES = 1 << 30


def examine(sweep: Path) -> list[Finding]:
    """Every finding of a sweep, its runs in order of name.

    Raises:
      BadInput: no such folder.
    """
    runs = SweepDirectory(sweep).runs()
    findings = _sweep(sweep) + _sweep_file(sweep, runs) + devices.findings(sweep)
    with quiet():
        for run in runs:
            findings += examine_run(run.path)
    findings += _families(sweep, runs)
    if runs:
        rows, warning = join_queue(sweep_status(sweep), sweep)
        findings += [Finding("slurm", warning, "ask again once it does")] if warning else []
        findings += _states(rows) + _differences(rows)
    return findings


def _sweep(sweep: Path) -> list[Finding]:
    found = []
    if not os.access(sweep, os.W_OK | os.X_OK):
        found.append(Finding(".", "the sweep's folder cannot be written", f"chmod u+wx {sweep}"))
    free = shutil.disk_usage(sweep).free
    if free < LEAST_FREE_BYTES:
        found.append(
            Finding(".", f"only {free >> 20} MiB are free on its disk", "free some before the next launch")
        )
    for path in sorted(sweep.glob(".*.tmp")):
        if time.time() - path.stat().st_mtime > SETTLED_SECONDS:
            found.append(
                Finding(
                    path.name,
                    "is what a killed write left behind",
                    "--repair removes it",
                    functools.partial(remove, path),
                )
            )
    return found


def _sweep_file(sweep: Path, runs: list[RunDirectory]) -> list[Finding]:
    """A sweep.json that cannot be used, and runs that only it knows."""
    record, damage = known_sweep_file(sweep)
    path = SweepDirectory(sweep).sweep
    if damage:
        remedy = "--repair puts it aside; the sweep's command writes it again, and no fit reads it"
        return [Finding(SWEEP, damage.removeprefix(f"{path}: "), remedy, functools.partial(put_aside, path))]
    absent = sorted(set(record["runs"]) - {run.name for run in runs}) if record else []
    if record is None or not absent:
        return []
    command = printable(record.get("command") or "launch the sweep again", most=1000)
    problem = f"names {len(absent)} runs that have no folder, such as {absent[0]}"
    return [Finding(SWEEP, problem, f"to train them: {command}")]


def _families(sweep: Path, runs: list[RunDirectory]) -> list[Finding]:
    """Branches and later stages that can never start."""
    found = []
    for run in runs:
        try:
            spec = read_spec(run.path)
        except BadInput:
            continue  # named by its own check
        try:
            if spec.parent is None or run.is_complete() or run.checkpoint_tokens():
                continue
        except BadInput:
            continue
        if spec.start:
            found += _start(run, spec)
            continue
        trunk = SweepDirectory(sweep).run(spec.parent)
        if not trunk.is_run():
            found.append(
                Finding(run.name, f"its trunk {spec.parent} is not in the sweep", "launch the whole sweep")
            )
        elif trunk.is_complete() and not trunk.checkpoint(spec.branch_at_tokens).is_dir():
            found.append(
                Finding(
                    run.name,
                    f"its trunk {spec.parent} is complete but has no checkpoint at {spec.branch_at_tokens} tokens",
                    f"delete {trunk.path} to train the trunk again",
                )
            )
    return found


def _start(run: RunDirectory, spec: RunSpec) -> list[Finding]:
    """What keeps a later stage from the weights that it begins with."""
    parent = parent_of(spec, run.path)
    if not parent.is_run():
        return [Finding(run.name, f"parent={spec.parent}: no such run", "train it, or launch the whole sweep")]
    if parent.is_complete() and not parent.checkpoint_tokens():
        problem = f"parent={spec.parent}: it is complete, but its checkpoints are gone"
        return [Finding(run.name, problem, f"delete {parent.path} to train it again")]
    return []


def _states(rows: list[RunStatus]) -> list[Finding]:
    remedies = {
        "failed": "launch again to resume it from its last checkpoint, after mending the cause",
        "lost": "submit again: only what is neither complete nor queued is sent",
    }
    return [
        Finding(row.run, f"{row.state}: {row.note}", remedies[row.state])
        for row in rows
        if row.state in remedies
    ]


def _differences(rows: list[RunStatus]) -> list[Finding]:
    found = []
    for what, harm in (("commit", "code"), ("corpus", "text")):
        seen = collections.Counter(value for row in rows if (value := getattr(row, what)))
        if len(seen) > 1:
            (_, most), *rest = seen.most_common()
            odd = [row.run for row in rows if getattr(row, what) in dict(rest)]
            names = ", ".join(odd[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
            found.append(
                Finding(
                    ".",
                    f"{len(seen)} different records of {what}: {names} trained on other {harm} than the {most} most",
                    "compare them apart, or delete those directories to train them again",
                )
            )
    return found


def mend(sweep: Path, findings: list[Finding]) -> list[Finding]:
    """Mend what can be mended, run by run under the run's lock; returns what was mended."""
    mended = []
    for finding in findings:
        if finding.repair is None:
            continue
        directory = sweep / finding.where.split("/")[0]
        try:
            if RunDirectory(directory).is_run():
                with run_lock(directory):
                    finding.repair()
            else:
                finding.repair()
        except RunIsLocked:
            continue  # it has come to life since: its own process mends it
        except (BadInput, OSError) as error:
            said = disk.line(error) or str(error)
            sys.stderr.write(f"error: {finding.where}: cannot be mended ({printable(said)})\n")
            continue
        mended.append(finding)
    return mended


def _as_json(item: Finding, mended: list[Finding]) -> dict[str, Any]:
    plain = {key: getattr(item, key) for key in ("where", "problem", "remedy")}
    return plain | {"repairable": item.repair is not None, "repaired": item in mended}


def examine_and_show(sweep: Path, *, repair: bool, as_json: bool) -> int:
    """The command: 0 where nothing is wrong or all is mended, 1 where something is left to do."""
    findings = examine(sweep)
    mended = mend(sweep, findings) if repair else []
    if as_json:
        print(  # noqa: T201
            json.dumps([_as_json(item, mended) for item in findings], indent=1)
        )
    else:
        for item in findings:
            word = "mended" if item in mended else "problem"
            sys.stdout.write(f"{word}: {item.where}: {item.problem}\n    {item.remedy}\n")
        left = len(findings) - len(mended)
        could = sum(item.repair is not None for item in findings) - len(mended)
        words = f"{sweep}: {len(findings)} problems" if findings else f"{sweep}: nothing is wrong"
        words += f", {len(mended)} mended" if mended else ""
        words += f"; --repair mends {could}" if could and left and not repair else ""
        sys.stdout.write(f"{words}\n")
        if said := unchecked(SweepDirectory(sweep).runs()):
            sys.stderr.write(f"note: {said}\n")
    return EXIT_FAILED if len(findings) > len(mended) else EXIT_COMPLETE
