"""Text on its way into and out of this process, whatever the locale is.

Files, their names and the words of the command line are UTF-8. What the terminal cannot print is written as \\xe9.
"""

import codecs
import locale
import os
import sys
from pathlib import Path


def settle() -> None:
    """Make it so for this process and those that it starts; call it before anything is opened or printed."""
    _open_the_closed()
    if codecs.lookup(sys.getfilesystemencoding()).name != "utf-8":
        _start_again_in_utf8()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _open_the_closed() -> None:
    """`>&-` leaves a number free that the next file would get, and print would write into it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  for good


def _start_again_in_utf8() -> None:
    """Python decides on its encodings when it starts; only what it prints is then left to the locale."""
    printed = os.environ.get("PYTHONIOENCODING") or f"{locale.getencoding()}:backslashreplace"
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": printed}
    os.execve(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8", *_words()], environment)


def _words() -> list[bytes]:
    """The command line as it was typed: not every encoding gives back the bytes that it has read."""
    try:
        words = Path("/proc/self/cmdline").read_bytes().split(b"\0")[1:-1]
    except OSError:
        words = []
    return words or [os.fsencode(word) for word in sys.orig_argv[1:]]
