"""What a disk refuses, in words: full, over its quota, read-only, not allowed, broken."""

import contextlib
import errno
import os
from collections.abc import Iterator

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
LOCKED = {errno.EROFS, errno.EACCES, errno.EPERM}
FAULTS = FULL | LOCKED | {errno.EIO, errno.ESTALE}
WORDS = {
    errno.EROFS: "cannot be written (Read-only file system)",
    errno.ENOSPC: "no space left on device",
    errno.EDQUOT: "no space left in the quota of the disk",
    errno.EFBIG: "no space left for a file of this size",
    errno.EIO: "the disk does not answer (input/output error)",
}


def number_of(error: BaseException | None) -> int | None:
    """The errno of the first disk fault in a chain of causes; None where there is none.

    Libraries that write by themselves (tensorstore, polars) pass it on as text.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno if error.errno in FAULTS else None
        for number in FAULTS:
            if os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def line(error: BaseException) -> str | None:
    """One line that names the path and what is wrong with it; None where the error is no fault of a disk."""
    number = number_of(error)
    if number is None or not (isinstance(error, OSError) or number in FULL):
        return None
    path = getattr(error, "filename", None)
    words = WORDS.get(number) or os.strerror(number).lower()
    return f"{path}: {words}" if path else words


@contextlib.contextmanager
def named(path: object, *, instead: bool = False) -> Iterator[None]:
    """An OSError in here that names no file is one of `path`; with `instead`, whatever it names."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and not instead):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
