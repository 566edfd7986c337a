"""A command into which libraries speak in every way that they have: `python -m tests.support.noisy END [LOG]`."""

import ctypes
import logging
import os
import sys
import warnings
from pathlib import Path

from core import begin, voice

begin.command(1)

end, *log = sys.argv[1:]
if log:
    voice.keep(Path(log[0]))
text = b"words of C\n"
ctypes.CDLL(None).write(2, text, len(text))
logging.getLogger("jax._src.compiler").warning("words of a logger")

from absl import logging as absl  # noqa: E402  its handler finds standard error as it is by now

absl.warning("words of absl")
warnings.warn_explicit("words of a warning", UserWarning, "/lib/site-packages/other.py", 3)
print("words on standard output")
logging.getLogger("training.checkpoint").warning("our own note")
warnings.warn("our own warning", stacklevel=1)
print("our own words", file=sys.stderr)
if end == "raise":
    raise ValueError("our own fault")
if end == "abort":
    os.abort()
if end == "kill":
    os.kill(os.getpid(), 9)
if end == "fail":
    voice.failed()
    sys.exit(1)
