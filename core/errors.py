"""Errors that a user can mend, and the exit statuses that every command shares."""

import contextlib
import errno
import sys
from collections.abc import Iterator

from core import disk, stop

EXIT_COMPLETE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: saved, resumable, start me again
EXIT_INTERRUPTED = 130  # what a shell says of Ctrl-C, of a command that has nothing to resume


class BadInput(ValueError):
    """An argument, configuration, file or table that cannot be used.

    The message is one line: the thing, its value, and what is allowed. Commands print it to
    standard error without a traceback and exit with status 2.
    """


# What XLA and CUDA say when an accelerator's memory does not suffice.
MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "CUDA_ERROR_OUT_OF_MEMORY")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether XLA or CUDA says that an accelerator's memory does not suffice."""
    return any(words in str(error) for words in MEMORY_WORDS)


@contextlib.contextmanager
def writes(path: object) -> Iterator[None]:
    """What is written in here goes to `path`, as the user has said.

    Raises:
      BadInput: there is no such place.
      OSError: the place is right, and the disk refuses (`core.disk.FAULTS`); it names the path.
    """
    try:
        with disk.named(path):
            yield
    except OSError as error:
        if error.errno in disk.FAULTS:
            raise
        raise BadInput(f"{path}: cannot be written ({error.strerror})") from None


# A path that no file can have, or not this kind of one: what a command was told, and no fault of a disk.
NO_SUCH_PLACE = {
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP, errno.ENXIO,
}  # fmt: skip


@contextlib.contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """Turn `BadInput` into its message on standard error and exit status 2, and into one line too
    a stop that a signal asked for, with its status, and what the disk refuses, with 1."""
    try:
        yield
        if sys.stdout is not None:  # closed by whoever called
            sys.stdout.flush()
    except BadInput as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except stop.StopRequested as error:
        print(error, file=sys.stderr)
        raise SystemExit(stop.status()) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SUCH_PLACE and error.filename is not None:
            print(f"error: {' '.join(str(error.filename).split()):.200}: {error.strerror}", file=sys.stderr)
            raise SystemExit(EXIT_BAD_INPUT) from None
        said = disk.line(error)
        if said is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        raise SystemExit(EXIT_FAILED) from None
