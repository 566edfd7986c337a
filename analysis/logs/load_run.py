"""One run directory, read back without importing the code that wrote it."""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.logs.files import Read, reader

DEFAULT_PARAMS = "non_embedding_plus_head"  # the default N of the fits (Porian et al. 2024, 2406.19146)
DEFAULT_FLOPS = "exact"
LOSS = "val/loss"
BITS_PER_BYTE = "val/bits_per_byte"
NUMBERS = (int, float)
CORE_FILES = ("spec.json", "env.json", "ledger.json", "result.json", "error.txt")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
      run: name of the directory, the run_id.
      path: the directory.
      status: complete, failed (error.txt without result.json), incomplete, or unreadable.
      cause: why it is not complete, one line; empty for a complete run.
      spec, env, ledger, result: the JSON files; {} where there is none.
      digest: SHA-256 over the names and bytes of these files and error.txt.
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

    def count(self, convention: str = DEFAULT_PARAMS) -> float | None:
        """N under a convention of the ledger."""
        return number(at(self.ledger, "params", convention), at(self.result, "params", convention))

    @property
    def tokens(self) -> float | None:
        """D: tokens trained on if complete, else planned."""
        return number(self.result.get("tokens"), self.spec.get("tokens"))

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
        return number(at(self.result, "evals", name))

    @property
    def trunk(self) -> bool:
        """Whether the run is the constant part that branches share: its own losses come before any cooldown."""
        return bool(self.spec.get("checkpoint_marks")) or self.result.get("role") == "trunk"

    @property
    def cooled(self) -> bool:
        """Whether the learning rate had come down when the final loss was measured."""
        optim = self.spec.get("optim") or {}
        return optim.get("schedule") != "constant" and not (
            optim.get("schedule") == "wsd" and not optim.get("cooldown_tokens")
        )

    def provenance(self, name: str) -> str:
        """`commit`, `corpus`, `device` or `versions` as env.json recorded it; empty where it did not."""
        for key in PROVENANCE_KEYS[name]:
            value: Any = self.env
            for part in key.split("/"):
                if isinstance(value, list):  # of attempts: the last one finished the run
                    value = value[-1] if value else None
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        return ""

    @property
    def started(self) -> str:
        """When the first attempt started, as env.json has it (ISO 8601); empty where unknown."""
        value = self.env.get("started")
        return value if isinstance(value, str) else ""


PROVENANCE_KEYS = {
    "commit": ("commit", "git_commit", "git/commit"),
    "corpus": ("corpus_fingerprint", "fingerprint", "corpus/fingerprint", "data/fingerprint"),
    "device": ("device", "attempts/device"),
    "versions": ("versions", "attempts/packages"),
}


def read_run(path: str | os.PathLike, read: Read | None = None) -> Run | None:
    """One run directory, or None for a directory that is none (no spec.json); from the disk, or as `read` gives it."""
    path = Path(path)
    read = reader(path.parent) if read is None else read
    contents = {name: payload for name in CORE_FILES if (payload := read(path.name, name)) is not None}
    if "spec.json" not in contents:
        return None
    digest = hashlib.sha256()
    objects: dict[str, Mapping[str, Any]] = {}
    damaged = ""
    for name, payload in contents.items():
        digest.update(f"{name} {len(payload)}\n".encode())
        digest.update(payload)
        if name == "error.txt":
            continue
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            damaged = damaged or f"{name} is damaged (not a JSON object)"
            value = {}
        objects[name.removesuffix(".json")] = value
    if damaged:
        status, cause = "unreadable", damaged
    elif "result.json" in contents:
        status, cause = "complete", ""
    elif "error.txt" in contents:
        status, cause = "failed", _first_cause(contents["error.txt"])
    else:
        status, cause = "incomplete", "no result.json yet" if "env.json" in contents else "not started"
    return Run(
        run=path.name,
        path=path,
        status=status,
        cause=cause,
        spec=objects.get("spec", {}),
        env=objects.get("env", {}),
        ledger=objects.get("ledger", {}),
        result=objects.get("result", {}),
        digest=digest.hexdigest(),
    )


def _first_cause(payload: bytes) -> str:
    lines = [line.strip() for line in payload.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return "failed without a word in error.txt"
    said = lines[0]
    if said.startswith("Traceback"):
        # What happened is named in the last line that starts like `Error: ...`; notes may follow it.
        named = [
            line for line in lines[1:] if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b", line)
        ]
        said = named[-1] if named else lines[-1]
    return said if len(said) <= 300 else said[:297] + "..."


def at(value: Mapping[str, Any], *keys: str) -> Any:
    found: Any = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def number(*candidates: Any) -> float | None:
    """The first candidate that is a finite number."""
    for value in candidates:
        if isinstance(value, NUMBERS) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None
