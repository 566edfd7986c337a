"""Checksums of a complete run: its result.json holds those of its other files, and one of itself."""

import hashlib
from collections.abc import Mapping
from typing import Any

from core.files import canonical_sha256
from core.records import Cover

OWN = "sha256"  # of result.json itself, without this entry
FILES = "files"


def sealed(result: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, Any]:
    """A result with the checksums of these files, by name, and its own."""
    files = {
        name: {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
        for name, payload in sorted(contents.items())
    }
    return itself({**result, FILES: files})


def itself(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result with its own checksum."""
    return {**result, OWN: canonical_sha256(dict(result), leave_out=OWN)}


def is_sealed(result: Mapping[str, Any]) -> bool:
    """Whether a result carries its own checksum: those of earlier versions do not."""
    return OWN in result


def is_whole(result: Mapping[str, Any]) -> bool:
    """Whether a sealed result is what was written."""
    return result.get(OWN) == canonical_sha256(dict(result), leave_out=OWN)


def covers(result: Mapping[str, Any]) -> dict[str, Cover]:
    """The files that a sealed result covers; none of a result that is not."""
    files = result.get(FILES)
    found: dict[str, Cover] = {}
    if is_sealed(result) and isinstance(files, Mapping):
        for name, cover in files.items():
            if isinstance(cover, Mapping) and type(cover.get("bytes")) is int:
                found[name] = {"bytes": cover["bytes"], "sha256": str(cover.get("sha256"))}
    return found


def difference(cover: Cover, payload: bytes) -> str:
    """How a file differs from what it was when its run was complete; empty where it only grew, or did not change."""
    if len(payload) < cover["bytes"]:
        return f"has {len(payload):,} bytes, and had {cover['bytes']:,} when the run was complete"
    if hashlib.sha256(payload[: cover["bytes"]]).hexdigest() != cover["sha256"]:
        return "is not what it was when the run was complete (its checksum differs)"
    return ""
