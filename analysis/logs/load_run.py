"""One run directory, read back without importing the code that wrote it."""

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from analysis.logs.files import Read, reader
from core.condition import Note, ReadFile, notes_of, notes_of_logs, notes_of_spec, once, tree_of
from core.epochs import Reading, reading_of
from core.numbers import finite
from core.reading import Unreadable, printable
from core.records import (
    LOSS,
    Completion,
    Provenance,
    completion_of,
    final_evaluation,
    is_imported,
    provenance_of,
)
from core.rundir import ENVIRONMENT, ERROR, LEDGER, METRICS, RESULT, SPEC, RunDirectory

DEFAULT_PARAMS = "non_embedding_plus_head"  # the N of the fits: Porian et al. 2024 (arXiv 2406.19146)
DEFAULT_FLOPS = "exact"
READING = tuple(field.name for field in dataclasses.fields(Reading))
CORE_FILES = (SPEC, ENVIRONMENT, LEDGER, RESULT, ERROR)

AVERAGED = ("schedule_free",)  # optimizers that need no cooldown (training/optimizers/)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
      run: name of the directory, the run_id.
      path: the directory.
      status: complete, failed, incomplete, unreadable, or imported: its weights came from a folder.
      cause: why it is not complete, one line; empty for a complete run.
      spec, env, ledger, result: the JSON files; {} where there is none.
      digest: SHA-256 over the names and bytes of these files and error.txt.
      train_tokens: of the train split of its corpus; None where neither the run nor a token cache says.
      notes: what is wrong with its files; one that spoils the run is why it is unreadable.
    """

    run: str
    path: Path
    status: str
    cause: str
    spec: Mapping[str, Any]
    env: Mapping[str, Any]
    ledger: Mapping[str, Any]
    result: Mapping[str, Any]
    digest: str
    train_tokens: float | None = None
    notes: tuple[Note, ...] = ()

    def count(self, convention: str = DEFAULT_PARAMS) -> float | None:
        """N under a convention of the ledger."""
        return number(at(self.ledger, "params", convention), at(self.result, "params", convention))

    @property
    def tokens(self) -> float | None:
        """D: tokens trained on if complete, else planned."""
        return number(self.result.get("tokens"), self.spec.get("tokens"))

    @functools.cached_property
    def reading(self) -> Reading | None:
        """The distinct tokens of the corpus, those that the run reads, and its epochs; None where that is not known."""
        corpus, unique, epochs = (number(self.result.get(name)) for name in READING)
        if unique is not None and epochs is not None:
            return Reading(None if corpus is None else int(corpus), int(unique), epochs)
        data = self.spec.get("data")
        if not isinstance(data, Mapping) or self.tokens is None:
            return None
        return reading_of(data, self.tokens, self.train_tokens)

    def has_doubtful(self, file: str) -> bool:
        """Whether a file is not what it was: its rows are not used."""
        return any(note.file == file and note.doubtful for note in self.notes)

    @property
    def shared_tokens(self) -> float:
        """Tokens that a branch did not train itself: those of its trunk up to where it starts."""
        return number(self.spec.get("branch_at_tokens")) or 0.0

    def flops(self, convention: str = DEFAULT_FLOPS, trained: bool = False) -> float | None:
        """FLOPs of the whole run: tokens times the ledger's FLOPs per token; with `trained` without shared tokens."""
        per_token = number(at(self.ledger, "flops_per_token", convention))
        if per_token is not None and self.tokens is not None:
            return per_token * (self.tokens - (self.shared_tokens if trained else 0.0))
        return number(at(self.result, "flops", convention))

    def final(self, name: str = LOSS) -> float | None:
        """A final evaluation of a complete run, by its name."""
        return final_evaluation(self.result, name)

    @property
    def trunk(self) -> bool:
        """Whether the run is the constant part that branches share: its own losses come before any cooldown."""
        return bool(self.spec.get("checkpoint_marks")) or self.result.get("role") == "trunk"

    @property
    def cooled(self) -> bool:
        """Whether the learning rate had come down when the final loss was measured, or weights are averaged instead."""
        if at(self.spec, "optim", "name") in AVERAGED:
            return True
        schedule = at(self.spec, "optim", "schedule")
        return schedule != "constant" and not (
            schedule == "wsd" and not at(self.spec, "optim", "cooldown_tokens")
        )

    @functools.cached_property
    def provenance(self) -> Provenance:
        """Where the run's numbers come from."""
        return provenance_of(self.env)

    @property
    def started(self) -> str:
        """When the first attempt started (ISO 8601); empty where unknown."""
        return self.provenance.started


def read_run(
    path: str | os.PathLike, read: Read | None = None, skip: Collection[str] = (METRICS,)
) -> Run | None:
    """One run directory, or None for a directory that is none; from the disk, or as `read` gives it.

    Args:
      skip: files whose checksums are not compared: of what is not drawn no number is used.
    """
    path = Path(path)
    if not RunDirectory(path).is_run():
        return None
    name = path.name or path.absolute().name
    given = reader(path.parent) if read is None else read

    @functools.cache
    def own(file: str) -> bytes | None:
        return given(path.name, file)

    trees, damage = {}, []
    for file in (SPEC, ENVIRONMENT, LEDGER):
        tree, note = tree_of(own, file)
        trees[file] = tree or {}
        damage += [note] if note else []
    if _absent(own, SPEC):
        damage.append(Note(SPEC, "is missing, though the folder holds a run's files", spoils=True))
    completion = _completion(name, own, trees[SPEC])
    if completion.problem:
        damage.append(Note(RESULT, f"is damaged ({completion.problem})", spoils=True))
    if completion.result is None:
        damage += [*notes_of_spec(name, trees[SPEC]), *notes_of_logs(trees[SPEC], own, skip)]
    else:
        damage += notes_of(name, trees[SPEC], trees[LEDGER], completion.result, own, skip)
    damage = once(damage)
    spoilt = next((note for note in damage if note.spoils), None)
    if spoilt is not None:
        status, cause = "unreadable", str(spoilt)
    elif completion.result is not None and is_imported(trees[SPEC]):
        status, cause = "imported", "from a folder, not trained here"
    elif completion.result is not None:
        status, cause = "complete", ""
    elif not _absent(own, ERROR):
        status, cause = "failed", _first_cause(own)
    else:
        status, cause = "incomplete", "not started" if _absent(own, ENVIRONMENT) else f"no {RESULT} yet"
    return Run(
        run=path.name,
        path=path,
        status=status,
        cause=cause,
        spec=trees[SPEC],
        env=trees[ENVIRONMENT],
        ledger=trees[LEDGER],
        result=completion.result or {},
        digest=_digest(own),
        train_tokens=number(at(trees[ENVIRONMENT], "corpus", "train_tokens")),
        notes=tuple(damage),
    )


def _absent(read: ReadFile, file: str) -> bool:
    """Whether there is no such file; one that cannot be read is there."""
    try:
        return read(file) is None
    except Unreadable:
        return False


def _completion(run: str, read: ReadFile, spec: Mapping[str, Any]) -> Completion:
    try:
        return completion_of(run, read(RESULT), spec)
    except Unreadable as error:
        return Completion(problem=error.why)


def _digest(read: ReadFile) -> str:
    digest = hashlib.sha256()
    for file in CORE_FILES:
        try:
            payload = read(file)
        except Unreadable as error:
            digest.update(f"{file} {error.why}\n".encode())
            continue
        if payload is not None:
            digest.update(f"{file} {len(payload)}\n".encode())
            digest.update(payload)
    return digest.hexdigest()


def _first_cause(read: ReadFile) -> str:
    try:
        payload = read(ERROR) or b""
    except Unreadable as error:
        return str(error)
    lines = [line.strip() for line in payload.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return f"failed without a word in {ERROR}"
    said = lines[0]
    if said.startswith("Traceback"):
        # What happened is named in the last line that starts like `Error: ...`; notes may follow it.
        named = [
            line for line in lines[1:] if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b", line)
        ]
        said = named[-1] if named else lines[-1]
    return printable(said)


def at(value: Mapping[str, Any], *keys: str) -> Any:
    found: Any = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def number(*candidates: Any) -> float | None:
    """The first candidate that is a finite number."""
    return next((value for candidate in candidates if (value := finite(candidate)) is not None), None)
