"""A stop that a signal asks for: what takes long asks `requested` or `check`, everything else is broken off.

A command calls `listen` before it imports what is slow. From then on the first SIGINT, for commands that train SIGTERM
too, is remembered, and

  - raises `StopRequested` in the main thread, also out of a wait for a lock or a process;
  - within `with deferred():` raises nothing: what is in there asks `requested`, saves and ends by itself;
  - within an import ends the process at once, with one line: libraries answer an error in there with walls of text.

Another signal changes nothing for PATIENCE_SECONDS, so that cleaning up is not broken off.
"""

import atexit
import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn

from core import voice

PATIENCE_SECONDS = 10.0


class StopRequested(KeyboardInterrupt):
    """A signal asked for an end, and nothing in the way could lose by it. Its text is one line for the user."""


class _State:
    """Of this process: its signals are one for all."""

    asked_at: float | None = None
    name = "a stop"
    deferred = 0
    listens = False
    status = 130
    resumes = False


def listen(status: int, *, resumes: bool = False) -> None:
    """Take over the signals of this process, which is a command; call it in the main thread.

    Args:
      status: exit status of a command that is broken off.
      resumes: the same command goes on where this one ends; it is stopped by SIGTERM in the same way.
    """
    _State.status, _State.resumes, _State.listens = status, resumes, True
    for number in (signal.SIGINT, signal.SIGTERM) if resumes else (signal.SIGINT,):
        signal.signal(number, _heard)
    atexit.register(_done)
    # A forked child is no command: it ends by the signal itself, and says nothing.
    os.register_at_fork(after_in_child=_forget)
    sys.excepthook, sys.unraisablehook = _uncaught, _in_a_destructor


def requested() -> bool:
    """Whether a stop was asked for; answers at once, in any thread."""
    return _State.asked_at is not None


def request(name: str = "a stop") -> None:
    """Ask for a stop without a signal; it is only remembered."""
    if _State.asked_at is None:
        _State.asked_at, _State.name = time.monotonic(), name


def check() -> None:
    """Raise `StopRequested` where a stop was asked for: the call of long work that can be broken off here."""
    if requested():
        raise StopRequested(line())


def status() -> int:
    """Exit status of this command where it is broken off."""
    return _State.status


def reason() -> str:
    """Who asked for the stop."""
    return f"stopped by {_State.name}"


def line() -> str:
    """What a command says that was broken off."""
    return f"{reason()}; to go on: {this_command()}" if _State.resumes else reason()


def this_command() -> str:
    """How this process was called."""
    return shlex.join(["python", *sys.orig_argv[1:]])


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Only remember signals in here: the code asks `requested` and ends by itself.

    In a process that is no command, such as a notebook's, signals are heard in here only, and then forgotten.
    """
    with contextlib.nullcontext() if _State.listens else _heard_for_a_while():
        _State.deferred += 1
        try:
            yield
        finally:
            _State.deferred -= 1


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that are started in here do not hear Ctrl-C: this one does, and ends them."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextlib.contextmanager
def _heard_for_a_while() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if not _State.deferred:
            _State.asked_at = None


def _heard(number: int, frame: FrameType | None) -> None:
    first = _State.asked_at is None
    request(signal.Signals(number).name)
    if _State.deferred:
        return
    if first and not _imports(frame):
        raise StopRequested(line())
    if first or time.monotonic() - (_State.asked_at or 0.0) > PATIENCE_SECONDS:
        _end_at_once()


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def end_process(status: int, said: str = "") -> NoReturn:
    """End from anywhere, another thread or a signal's handler among them: one line, and nothing is waited for."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(voice.terminal(), f"{said}\n".encode() if said else b"")
    voice.end()
    os._exit(status)


def _end_at_once() -> NoReturn:
    end_process(_State.status, line())


def _done() -> None:
    """The last moments of the interpreter: the work is done, and its status stands."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _heard:
            signal.signal(number, signal.SIG_IGN)


def _forget() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _heard:
            signal.signal(number, signal.SIG_DFL)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Between two imports there is nobody who catches it."""
    if issubclass(kind, StopRequested):
        _end_at_once()
    sys.__excepthook__(kind, error, trace)
    voice.failed()


def _in_a_destructor(unraisable: Any) -> None:
    """What is raised in a destructor or at the end of the interpreter goes no further: end here instead."""
    if issubclass(unraisable.exc_type, StopRequested):
        _end_at_once()
    sys.__unraisablehook__(unraisable)
