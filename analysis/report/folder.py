"""The folder of a report: whether what lies there is current, and what an earlier report left there."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core.errors import writes
from core.files import write_atomic, write_json
from core.reading import parse_json, read_bytes

MADE_FROM = "made_from.json"


@dataclasses.dataclass(frozen=True)
class Made:
    """What made_from.json says of the report beside it; all empty where it is missing or damaged.

    Attributes:
      origin: hashes of the logs and of the code, and the options.
      summary: the findings of the report.
      files: {name: SHA-256}.
    """

    origin: Mapping[str, object] = dataclasses.field(default_factory=dict)
    summary: Sequence[str] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Made":
        """Of the report in `folder`."""
        try:
            made = parse_json(read_bytes(folder / MADE_FROM))
            summary, files = made.pop("summary"), made.pop("files")
            # A name with a folder in it is no file of a report, and must not be removed.
            own = {name: digest for name, digest in files.items() if Path(name).name == name}
            return cls(made, list(map(str, summary)), own)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def is_current(self, folder: Path, origin: Mapping[str, object]) -> bool:
        """Whether the report was made from `origin` and every file of it is intact."""
        try:
            there = {name: read_bytes(folder / name) for name in self.files}
        except (OSError, ValueError):
            return False
        return self.origin == origin and digests(there) == dict(self.files)


def write(
    folder: Path,
    files: Mapping[str, str | bytes],
    origin: Mapping[str, object],
    summary: Sequence[str],
    owned: Iterable[str],
) -> None:
    """Write the files of a report and what it was made from; remove those `owned` that it does not have.

    Raises:
      BadInput: the folder cannot be written.
    """
    with writes(folder):
        for name, content in files.items():
            write_atomic(folder / name, content)
        for name in set(owned) - files.keys():
            if (folder / name).is_file():
                (folder / name).unlink()
        write_json(folder / MADE_FROM, {**origin, "summary": summary, "files": digests(files)})


def digests(files: Mapping[str, str | bytes]) -> dict[str, str]:
    """SHA-256 of each file, by name."""
    return {name: hashlib.sha256(_bytes(content)).hexdigest() for name, content in sorted(files.items())}


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
