"""Ours is the only voice in the terminal: what libraries say, in Python or below it, goes to a log.

`begin` puts the log in the place of descriptor 2, where C++ writes, and our own standard error beside it. The log is
named, with its last lines, where a command fails; also where the process is killed or ends itself in C++.
"""

import atexit
import contextlib
import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("analysis", "bench", "core", "data", "experiments", "launchers", "model", "planning", "training")
LAST_LINES = 5
LINE = 300  # characters shown of one
TAIL_BYTES = 1 << 14
SHOWWARNING = warnings.showwarning
# Waits for the end of the process that started it, whose descriptors it has inherited: 3 to listen on, 4 the log.
LAST_WORDS = """
import os, signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
said = b""
while part := os.read({ear}, 4096):
    said += part
if not said.endswith(b"end\\0"):
    size = os.fstat({log}).st_size
    lines = os.pread({log}, {bytes}, max({begins}, size - {bytes})).decode("utf-8", "replace").splitlines()[-{lines}:]
    name = said.decode("utf-8", "replace").rstrip("\\0").rpartition("\\0")[2]
    text = "".join(f"    {{line[:{width}]}}\\n" for line in lines if line.strip())
    if text:
        where = f"; what libraries said is in {{name}}" if name else ""
        os.write(2, f"error: the process was ended from outside or below Python{{where}}:\\n{{text}}".encode())
"""


class _Voice:
    """Of this process: it has one standard error.

    Attributes:
      terminal: descriptor of our own standard error; 2 where nothing was put in its place.
      log: descriptor of the log.
      path: of the log; None while it has no name.
      begins: bytes of the log that earlier processes wrote.
      nurse: the process that says the last words, and the pipe to it.
    """

    terminal = 2
    log: int | None = None
    path: Path | None = None
    begins = 0
    nurse: int | None = None
    handlers: tuple[tuple[logging.Logger, logging.Handler], ...] = ()


def begin() -> None:
    """From here on what libraries say is not shown. Call it once, before they are imported."""
    if not hasattr(os, "memfd_create"):  # of Linux
        return
    if _Voice.log is not None or not isinstance(sys.stderr, io.TextIOWrapper) or sys.stderr.fileno() != 2:
        return
    sys.stderr.flush()
    _Voice.terminal = os.dup(2)
    _Voice.log = os.memfd_create("said-by-libraries")
    os.dup2(_Voice.log, 2)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(_Voice.terminal, "w", closefd=False),
        sys.stderr.encoding,
        sys.stderr.errors,
        line_buffering=True,
        write_through=True,
    )
    _listen_to_python()
    atexit.register(end)


def _listen_to_python() -> None:
    """Their warnings and loggers go to the log, ours to the terminal."""
    theirs = logging.StreamHandler(open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115
    theirs.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    theirs.addFilter(lambda record: not _is_ours(record.name))
    ours = _Terminal(logging.WARNING)
    ours.addFilter(lambda record: _is_ours(record.name))
    root = logging.getLogger()
    _Voice.handlers = ((root, theirs), (root, ours))
    for logger, handler in _Voice.handlers:
        logger.addHandler(handler)
    warnings.showwarning = _warned


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in ROOMS or name == "__main__"


class _Terminal(logging.Handler):
    """To standard error, whichever that is by then."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{record.getMessage()}\n")


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A line without the place in the code where the warning is one of ours, everything in the log where it is not."""
    place = Path(filename)
    ours = place.is_relative_to(ROOT) and "site-packages" not in place.parts
    if file is None and ours:
        sys.stderr.write(f"warning: {' '.join(str(message).split())}\n")
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        os.write(2, text.encode("utf-8", "backslashreplace"))


def terminal() -> int:
    """Descriptor of our own standard error: for our own processes, and for handlers of signals."""
    return _Voice.terminal


def keep(path: Path) -> None:
    """Keep what libraries say in the file `path`, from the start of this process on.

    Where it cannot be written it is kept until this process ends, and its last lines are shown if it fails.
    """
    if _Voice.log is None or _Voice.path is not None:
        return
    try:
        if path.parent.name.startswith("."):  # of logs; a run's own folder is not ours to make
            path.parent.mkdir(exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
        begins = os.fstat(descriptor).st_size
        os.write(descriptor, os.pread(_Voice.log, 1 << 24, 0))
    except OSError:
        return
    os.dup2(descriptor, 2)
    os.close(_Voice.log)
    _Voice.log, _Voice.path, _Voice.begins = descriptor, path, begins
    if _Voice.nurse is not None:
        os.close(_Voice.nurse)
    _Voice.nurse = _nurse(descriptor, path)


def _nurse(log: int, path: Path) -> int | None:
    """A small process that outlives this one; the end of the pipe by which it is told that all is well."""
    ear, mouth = os.pipe()
    try:
        program = LAST_WORDS.format(
            ear=ear, log=log, begins=_Voice.begins, bytes=TAIL_BYTES, lines=LAST_LINES, width=LINE
        )
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=_Voice.terminal,
            pass_fds=(ear, log),
            start_new_session=True,
        )
    except OSError:
        os.close(mouth)
        return None
    finally:
        os.close(ear)
    os.write(mouth, f"{path}\0".encode("utf-8", "surrogateescape"))
    return mouth


def failed() -> None:
    """Name the log and show its last lines, where libraries have said anything: the command has failed."""
    if _Voice.log is None:
        return
    size = os.fstat(_Voice.log).st_size
    text = os.pread(_Voice.log, TAIL_BYTES, max(_Voice.begins, size - TAIL_BYTES)).decode("utf-8", "replace")
    lines = [line[:LINE] for line in text.splitlines() if line.strip()][-LAST_LINES:]
    if lines:
        where = f" is in {_Voice.path}, which ends with" if _Voice.path else ""
        sys.stderr.write(f"note: what libraries said{where}:\n" + "".join(f"    {line}\n" for line in lines))


def give_back() -> None:
    """Libraries speak where they did: standard error of this process is a log already."""
    if _Voice.log is None:
        return
    end()
    os.dup2(_Voice.terminal, 2)
    os.close(_Voice.log)
    for logger, handler in _Voice.handlers:
        logger.removeHandler(handler)
    warnings.showwarning = SHOWWARNING
    _Voice.log, _Voice.path, _Voice.begins, _Voice.handlers = None, None, 0, ()


def end() -> None:
    """This process ends as it should; a log in which nothing was said is removed."""
    if _Voice.nurse is not None:
        with contextlib.suppress(OSError):
            os.write(_Voice.nurse, b"end\0")
            os.close(_Voice.nurse)
        _Voice.nurse = None
    if _Voice.path is not None and _Voice.log is not None:
        with contextlib.suppress(OSError):
            if os.fstat(_Voice.log).st_size == 0:
                _Voice.path.unlink(missing_ok=True)
