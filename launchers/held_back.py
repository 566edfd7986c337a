"""A sweep whose larger runs wait for a forecast of them: train the small ones, write it, train the rest, score it."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from core import stop
from core.errors import BadInput
from core.rundir import SweepDirectory
from launchers import order
from training.spec import RunSpec


def due_now(specs: Sequence[RunSpec], held: Collection[str], directory: Path) -> Sequence[RunSpec]:
    """The runs that may start: those not held back, and all once these are complete and the forecast is written.

    Args:
      held: run_ids of those that wait; none where nothing is to be forecast.

    Raises:
      BadInput: the forecast cannot be written.
    """
    if not held:
        return specs
    order.hold_back(directory, specs, held)
    sweep = SweepDirectory(directory)
    small = [spec for spec in specs if spec.run_id not in held]
    if not all(sweep.run(spec.run_id).is_complete() for spec in small):
        return small
    if not sweep.forecast.exists() and order.register(directory):
        raise BadInput(f"{directory}: the forecast cannot be written; the larger runs stay held back")
    return specs


def train_in_order(
    specs: Sequence[RunSpec],
    held: Collection[str],
    directory: Path,
    train: Callable[[Sequence[RunSpec]], int],
) -> int:
    """Train what is due, then what its forecast was written for, and score that; returns an exit status.

    Args:
      held: run_ids of those that wait; none where nothing is to be forecast.
      train: trains the runs that it is given and returns an exit status.

    Raises:
      StopRequested: a signal came where nothing was trained, and nothing more is begun.
    """
    due = due_now(specs, held, directory)
    ended = train(due)
    if ended or not held:
        return ended
    stop.check()
    if len(due) < len(specs):
        ended = train(due_now(specs, held, directory))
        stop.check()
    return ended or order.score(directory)
