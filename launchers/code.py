"""Which code this is: its commit, and a hash of what differs from it."""

import functools
import hashlib
import subprocess
from pathlib import Path
from typing import NamedTuple

from core.errors import BadInput
from core.reading import read_bytes

ROOT = Path(__file__).resolve().parent.parent
SOURCE_BYTES = 1 << 20  # of one file that git does not know: more is no source


class CodeState(NamedTuple):
    """commit is None outside a checkout. diff_sha256 is None where no file differs from the commit."""

    commit: str | None
    diff_sha256: str | None


@functools.cache
def code_state(root: Path = ROOT) -> CodeState:
    """The commit, and SHA-256 over its differences: of files that git knows, and of Python files that it does not.

    An experiment of one's own is often such a file, and decides what is trained. Asked once a process.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        difference = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-color", "--no-textconv")
        others = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py").split(b"\0")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return CodeState(None, None)
    digest, names = hashlib.sha256(difference), sorted(filter(None, others))
    for name in names:
        try:
            payload = read_bytes(root / name.decode("utf-8", "surrogateescape"), SOURCE_BYTES)
        except (BadInput, OSError):
            continue
        digest.update(b"%s %d\n" % (name, len(payload)) + payload)
    return CodeState(commit, digest.hexdigest() if difference or names else None)


def _git(root: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=10).stdout
