"""How a run ends whose training raised an error."""

import traceback
from pathlib import Path

from core import stop
from core.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED, BadInput
from core.rundir import RunDirectory
from training.causes import advice
from training.hooks.stop import Stopped
from training.log import Diverged
from training.lost import RowsAreLost
from training.processes.group import EndedElsewhere, Group, Outcome
from training.records import RunIsLocked


def outcome_of(directory: Path, error: BaseException, group: Group | None = None) -> Outcome:
    """Exit status and one line for the user; where nobody foresaw the error, its traceback for error.txt.

    Args:
      group: the processes of the run; where one of them ended first, this one ends as that did.
    """
    if isinstance(error, EndedElsewhere):
        return error.outcome
    if isinstance(error, BadInput):
        return Outcome(EXIT_BAD_INPUT, str(error))
    if isinstance(error, Diverged | RowsAreLost):
        return Outcome(EXIT_FAILED, str(error))
    if isinstance(error, stop.StopRequested):
        return Outcome(EXIT_STOPPED, f"{stop.reason()} before it trained on")
    if isinstance(error, Stopped | RunIsLocked | KeyboardInterrupt):
        return Outcome(EXIT_STOPPED, str(error), together=isinstance(error, Stopped))
    more = advice(error)
    detail = f"{''.join(traceback.format_exception(error))}\n{more or ''}"
    if isinstance(error, OSError):
        return Outcome(EXIT_FAILED, f"{directory}: {error}" + (f"; {more}" if more else ""), detail)
    try:
        (group or Group()).look_elsewhere()
    except EndedElsewhere as ended:
        return ended.outcome
    said = more or f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
    return Outcome(EXIT_FAILED, f"{said} (see {RunDirectory(directory).error})", detail)
