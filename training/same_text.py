"""Runs of one sweep are compared, so they read one text: a run that would read another is refused before it trains.

A corpus is named by a specification, and what that name means may change: a file is added, a package is upgraded, a
tokenizer's file is written anew. What each run did read is in its env.json.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.records import CorpusRecord
from core.rundir import RunDirectory, SweepDirectory
from data.skills import stream_fingerprint
from training.spec import RunSpec

Key = tuple[Any, ...]  # the fields of a specification that name text and tokenizer
NAMES = ("corpus", "domain", "tokenizer")
CHOOSE = {
    "mixture": "",
    "near_duplicates": 0.0,
}  # what else decides the text, and what a specification without it means


def check_resumed(directory: Path, before: CorpusRecord, here: CorpusRecord) -> None:
    """Raises BadInput where a run was begun on other tokens than those that it would read now."""
    if what := _difference(before, here):
        raise BadInput(
            f"{directory}: {what} changed since this run began ({_marks(before, here)}); restore it, or "
            "delete the run's directory to train it on the new one"
        )


def check_begun(spec: RunSpec, directory: Path, here: CorpusRecord) -> None:
    """Compare a run that begins with its trunk, and with the other runs of its sweep where no launcher has done so.

    Raises:
      BadInput: one of them was trained on other tokens; the message names both.
    """
    sweep = SweepDirectory(directory.absolute().parent)
    if spec.is_branch and spec.parent is not None:
        trunk = _read_by(sweep.run(spec.parent))
        if trunk is not None and (what := _difference(trunk, here)):
            raise BadInput(
                f"{directory}: {what} changed since its trunk {spec.parent} was trained ({_marks(trunk, here)}); "
                f"restore it, or delete {sweep.path / spec.parent} to train trunk and branches on the new one"
            )
    if spec.run_id not in sweep.read_prepared():
        check_sweep(sweep, {spec.run_id: (spec, here)})


def check_sweep(sweep: SweepDirectory, begin: Mapping[str, tuple[RunSpec, CorpusRecord]]) -> None:
    """Compare runs that are about to begin with those of their sweep that have begun.

    Raises:
      BadInput: some were trained on other tokens under the same names; the message says what to do.
    """
    if not sweep.path.is_dir():
        return
    wanted: dict[Key, CorpusRecord] = {_key(spec): here for spec, here in begin.values()}
    others: dict[Key, list[tuple[str, CorpusRecord]]] = {}
    for run in sweep.runs():
        if (record := _read_by(run)) is None:
            continue
        with contextlib.suppress(BadInput, AttributeError, TypeError):
            data: Any = run.read_spec().get("data")
            key = (*(data.get(name) for name in NAMES), *(data.get(name, old) for name, old in CHOOSE.items()))
            # Skills are a setting, in which runs of a sweep may differ.
            if key in wanted and record["fingerprint"] != wanted[key]["fingerprint"]:
                others.setdefault(key, []).append((run.name, record))
    for key, found in others.items():
        (name, record), here = found[0], wanted[key]
        what = _difference(record, here)
        runs = f"run {name}" if len(found) == 1 else f"{len(found)} runs such as {name}"
        raise BadInput(
            f"{sweep.path}: {what} of data.corpus={key[0]!r}, data.tokenizer={key[2]!r} changed since {runs} began "
            f"({_marks(record, here)}); restore it, take another --name for the new one, or delete those runs"
        )


def reads_the_same(spec: RunSpec, fingerprint: str | None, record: CorpusRecord) -> bool:
    """Whether a run has read what this spec is to read here.

    Args:
      fingerprint: of the tokens that are here; None where nobody has prepared them.
      record: what the run's env.json says.
    """
    skills = stream_fingerprint(spec.data.skills, spec.data.skill_tokens)
    return record["fingerprint"] == fingerprint and record.get("skills", "") == skills


def _key(spec: RunSpec) -> Key:
    return tuple(getattr(spec.data, name) for name in (*NAMES, *CHOOSE))


def _read_by(run: RunDirectory) -> CorpusRecord | None:
    """What a run has read; None where it has not begun, or its env.json does not say."""
    try:
        return run.read_environment()["corpus"]
    except (BadInput, OSError):
        return None


def _difference(left: CorpusRecord, right: CorpusRecord) -> str:
    """What differs, in the words of a message; empty where the tokens are the same."""
    if left["fingerprint"] != right["fingerprint"]:
        return "the tokenizer" if left["corpus_fingerprint"] == right["corpus_fingerprint"] else "the corpus"
    return "the corpus's skills" if left.get("skills", "") != right.get("skills", "") else ""


def _marks(before: CorpusRecord, here: CorpusRecord) -> str:
    names: Iterable[str] = ("fingerprint", "skills")
    name = next((name for name in names if before.get(name) != here.get(name)), "fingerprint")
    return f"{name} {str(before.get(name, ''))[:12]}, now {str(here.get(name, ''))[:12]}"
