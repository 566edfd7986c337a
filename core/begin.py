"""How a command begins, before it imports what is slow: from here on it ends with one line and an exit status."""

import sys
from collections.abc import Collection, Sequence

from core import pipes, stop, terminal, voice
from core.errors import EXIT_INTERRUPTED, EXIT_STOPPED


def command(status: int, *, resumes: bool = False) -> None:
    """Take over the text, the signals and the output of this process.

    Args:
      status: exit status where a signal breaks the command off.
      resumes: the same command goes on where this one ends.
    """
    terminal.settle()
    voice.begin()
    pipes.outlive_readers()
    stop.listen(status, resumes=resumes)


def verb(words: Sequence[str], *, resumed: Collection[str]) -> None:
    """`command` of a command line with several verbs.

    Args:
      words: of the command line, the verb first.
      resumed: verbs that go on where they ended.
    """
    only_looks = {"-h", "--help", "--dry-run"} & set(words)
    resumes = words[0] in resumed and not only_looks if words else False
    command(EXIT_STOPPED if resumes else EXIT_INTERRUPTED, resumes=resumes)


def module(status: int, *, resumes: bool = False) -> None:
    """`command` where `python -m ROOM.MODULE` is looking for its module: of a room's __init__, which comes first."""
    if sys.argv[:1] == ["-m"]:
        command(status, resumes=resumes)
