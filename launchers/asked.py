"""What a command asked for is written into sweep.json before the first of its runs starts."""

import sys
from pathlib import Path

from core.sweep_file import SweepRequest, write_sweep_file
from launchers.code import code_state
from training.records import utc_now


def put_down(directory: Path, asked: SweepRequest | None) -> None:
    """Add a command and its runs to the sweep.json of runs/<sweep>; a damaged one is put aside, and that is said.

    Raises:
      BadInput: the folder cannot be written.
    """
    if asked is None:
        return
    _, damage = write_sweep_file(directory, asked, utc_now(), *code_state())
    if damage:
        sys.stderr.write(f"warning: {damage}; a new one is written\n")


def code_line(commit: str | None, diff_sha256: str | None) -> str:
    """Whether the code is still that of a commit and a hash of changes, one line."""
    here = code_state()
    if commit is None:
        return "code: not recorded"
    changed = ", with changes" if diff_sha256 else ""
    if (commit, diff_sha256) == here:
        return f"code: as it is here ({commit[:12]}{changed})"
    if here.commit is None:
        return f"code: {commit[:12]}{changed}; what is here is in no checkout of git"
    other = "the same commit" if commit == here.commit else here.commit[:12]
    changes = (
        "other changes" if changed and here.diff_sha256 else "changes" if here.diff_sha256 else "no changes"
    )
    return f"code: {commit[:12]}{changed}; here it is {other} with {changes}"
