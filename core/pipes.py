"""Output that outlives its reader: `... | head` neither ends a command nor shows a traceback."""

import io
import os
import sys
from typing import Any


class Shielded(io.FileIO):
    """A file descriptor that swallows what nobody reads any more.

    Args:
      must_be_kept: other errors, such as those of a full disk, are raised, once.
    """

    def __init__(self, descriptor: int, *, must_be_kept: bool):
        super().__init__(descriptor, "w", closefd=False)
        self._must_be_kept = must_be_kept

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if self._must_be_kept and not isinstance(error, BrokenPipeError):
                raise OSError(error.errno, error.strerror, "standard output") from None
            return len(data)


def outlive_readers() -> None:
    """Shield standard output and standard error of this process; call it before anything is written."""
    sys.stdout = _shielded(sys.stdout, must_be_kept=True)
    sys.stderr = _shielded(sys.stderr, must_be_kept=False)


def _shielded(stream: Any, *, must_be_kept: bool) -> Any:
    if not isinstance(stream, io.TextIOWrapper):
        return stream  # closed, or something else's already
    return io.TextIOWrapper(
        io.BufferedWriter(Shielded(stream.fileno(), must_be_kept=must_be_kept)),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
