"""Files that commands of this room read and write as results."""

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import BadInput, writes
from core.files import canonical_sha256, write_json
from core.reading import Unreadable, parse_json, read_bytes

if TYPE_CHECKING:
    from analysis.logs.read import Source


def for_each_group(table: str, out: Path | None, work: Callable[["Source", int, Path | None], None]) -> None:
    """Do the work of a command for each group of equal settings of a sweep; once for a file, or a sweep of one group.

    Args:
      work: takes what `read_table` reads, the number of the group, and where its result goes: fit.json of the largest,
        fit-2.json of the next.

    Raises:
      BadInput: there is no such table, or the work of every group was refused.
    """
    # polars: only where tables are read
    from analysis.logs.read import settings_of, source_of

    source = source_of(table)
    labels, refused = settings_of(source), []
    for group, label in enumerate(labels):
        if label:
            sys.stdout.write(f"{label}:\n")
            sys.stdout.flush()
        try:
            work(source, group, out.with_stem(f"{out.stem}-{group + 1}") if out and group else out)
        except BadInput as error:
            refused.append(error)
            if len(labels) > 1:
                sys.stdout.write(f"none: {error}\n")
    if len(refused) == len(labels):
        raise refused[0]


def write_result(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a result file; a place that is not there, and numbers that no fit is finite at, are the user's mistake.

    Raises:
      BadInput: one of the two.
    """
    with writes(path):
        try:
            write_json(path, value)
        except BadInput:
            raise
        except ValueError:
            raise BadInput(f"{path}: not written, the result holds a number that is not finite") from None


def read_object(path: str | Path, what: str) -> tuple[dict[str, Any], str]:
    """A JSON object and the SHA-256 of its file.

    Raises:
      BadInput: no such file, or no JSON object.
    """
    try:
        payload = read_bytes(path)
        value = parse_json(payload)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except Unreadable:
        raise
    except ValueError:
        raise BadInput(f"{path}: not JSON; {what} is needed") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: not a JSON object; {what} is needed")
    return value, hashlib.sha256(payload).hexdigest()


def digest_of(value: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of all entries but `digest`: an edited forecast shows."""
    return canonical_sha256(dict(value), leave_out="digest")
