"""Train run directories to their end, from where each stands: alone, or several of one shape as a pack.

Every way for a run to end is an `Outcome`, never an exception; a run that is locked, cannot be opened or fails ends
alone, and the others go on.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax

from core import stop
from core.errors import EXIT_COMPLETE, BadInput
from core.rundir import SPEC, RunDirectory
from training.attempt import begin
from training.execution import Execution
from training.hooks import Asked
from training.hooks.stop import Stopped
from training.lanes import lanes_of
from training.loop import train
from training.member import Member
from training.outcome import outcome_of
from training.processes.distributed import Agreement
from training.processes.group import Group, Outcome, record
from training.processes.mesh import choose_mesh
from training.processes.start import check_platform
from training.program import check_one_shape, program_of
from training.records import read_spec, run_lock
from training.result import write_result
from training.spec import RunSpec
from training.state import TrainState
from training.step import abstract_state

log = logging.getLogger(__name__)


def execute(
    directories: Sequence[Path], execution: Execution, group: Group | None = None
) -> dict[Path, Outcome]:
    """Train the runs of `directories`, several of them together as one program; complete runs are left untouched.

    Where one run is left, it is trained exactly as alone.

    Args:
      group: the processes that train a run alone, which end alike.

    Returns:
      How each run ended.

    Raises:
      BadInput: two of the runs cannot share a program, or this process is one of several; nothing was trained.
    """
    ends = Ends(group or Group())
    for directory in directories:
        with ends.alone(directory):
            check_platform()
    if ends.outcomes:
        return ends.outcomes
    if len(directories) > 1 and jax.process_count() > 1:
        raise BadInput(f"pack of {len(directories)} runs: a pack is one process, not {jax.process_count()}")
    # In one order everywhere: two packs that share runs then cannot each hold what the other waits for.
    directories = sorted(set(directories))
    with contextlib.ExitStack() as locks:
        specs = _read(directories, ends)
        check_one_shape(list(specs.values()))
        _hold(specs, execution.lock_patience_seconds, ends, locks)
        held = {directory: spec for directory, spec in specs.items() if directory not in ends.outcomes}
        _train(held, execution, ends)
    return {directory: ends.group.leave(directory, ends.outcomes[directory]) for directory in directories}


class Ends:
    """How runs ended.

    Args:
      group: the processes that train them.
    """

    def __init__(self, group: Group):
        self.group = group
        self.outcomes: dict[Path, Outcome] = {}

    @contextlib.contextmanager
    def alone(self, directory: Path) -> Iterator[None]:
        """What goes wrong in here ends this run and no other; its error.txt says what."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  every end is an outcome
            self.outcomes[directory] = outcome_of(directory, error, self.group)
            if self.group.is_leader and directory.is_dir():
                with contextlib.suppress(OSError):  # a full disk: the outcome's message still reaches the user
                    record(directory, self.outcomes[directory])

    def complete(self, directory: Path) -> None:
        self.outcomes[directory] = Outcome(EXIT_COMPLETE, together=True)


def _read(directories: Sequence[Path], ends: Ends) -> dict[Path, RunSpec]:
    """The specs of the runs that are to be trained."""
    specs: dict[Path, RunSpec] = {}
    for directory in directories:
        with ends.alone(directory):
            if not directory.is_dir():
                raise BadInput(f"{directory}: no such run directory")
            spec = read_spec(directory)
            if ends.group.count == 1 and _is_complete(directory):
                ends.complete(directory)
            else:
                specs[directory] = spec
    return specs


def _is_complete(directory: Path) -> bool:
    """Whether there is a result; one that does not count is named, and the run is finished again."""
    files = RunDirectory(directory)
    completion = files.completion()
    if completion.problem:
        log.warning("%s: %s; finishing the run again", files.result, completion.problem)
    return completion.result is not None


def _hold(
    specs: Mapping[Path, RunSpec], patience_seconds: float, ends: Ends, locks: contextlib.ExitStack
) -> None:
    """Lock the runs, so that no other process trains them until `locks` is closed."""
    group, deadline = ends.group, time.monotonic() + patience_seconds
    for directory, spec in specs.items():
        with ends.alone(directory):
            stop.check()
            if group.is_leader:
                locks.enter_context(run_lock(directory, max(0.0, deadline - time.monotonic())))
            group.decide("locked", lambda: True)
            group.same(SPEC, spec.run_id)
            if group.decide("complete", functools.partial(_is_complete, directory)):
                ends.complete(directory)  # by the process that held the lock until now
            elif group.is_leader:
                RunDirectory(directory).clear_error()


def _train(specs: Mapping[Path, RunSpec], execution: Execution, ends: Ends) -> None:
    """Train runs that this process holds."""
    # One of several processes that left on its own would be waited for: they agree on a stop at their first step.
    with stop.deferred() if ends.group.count > 1 else contextlib.nullcontext():
        _begin_and_train(specs, execution, ends)


def _begin_and_train(specs: Mapping[Path, RunSpec], execution: Execution, ends: Ends) -> None:
    started = time.monotonic()
    members: list[Member] = []
    states: list[TrainState] = []
    pack = len(specs) if len(specs) > 1 else 0
    for directory, spec in specs.items():
        with ends.alone(directory):
            if ends.group.count == 1:
                stop.check()
            mesh = choose_mesh("" if pack else execution.mesh, spec)
            ends.group.same("mesh", " x ".join(map(str, mesh.shape.values())))
            with jax.set_mesh(mesh):
                member, state = begin(
                    spec, directory, mesh, execution, ends.group, lane=len(members), pack=pack
                )
            members.append(member)
            states.append(state)
    if members:
        with stop.deferred():
            _train_members(members, states, execution, ends, started)


def _train_members(
    members: Sequence[Member], states: list[TrainState], execution: Execution, ends: Ends, started: float
) -> None:
    """Train runs that have begun, and close them however they end; a stop is asked for after each step."""
    agree = Agreement(members[0].mesh)

    def ask(stepped: Sequence[Member]) -> Asked:
        return Asked(*agree(execution.stop_requested(), any(member.save.is_overdue() for member in stepped)))

    shared: BaseException | None = None
    try:
        if ends.group.count > 1 or not stop.requested():  # several processes agree on it at their first step
            first = members[0]
            program = program_of(first.spec)
            target = abstract_state(program.model, first.mesh, program.optimizer)
            sequences = first.spec.batch_tokens // first.spec.data.sequence_length
            lanes = lanes_of(program, first.mesh, sequences, states, target)
            with lanes.devices():
                for member in train(members, lanes, ask):
                    _close(member, ends, started)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  each run says why it ended
        shared = error
    for member in members:
        if member.directory not in ends.outcomes:
            member.cause = shared or Stopped(f"stopped by a signal at {member.tokens} tokens, saved")
            _close(member, ends, started)


def _close(member: Member, ends: Ends, started: float) -> None:
    """Close a run that has ended, and write result.json where it is complete."""
    with ends.alone(member.directory):
        try:
            member.close()
        except Exception:
            if member.cause is None or isinstance(member.cause, Stopped):
                raise  # what was to be saved is not
        if member.cause is not None:
            raise member.cause
        if ends.group.is_leader:
            seconds = time.monotonic() - started
            write_result(
                member.directory, member.spec, member.log.clock, member.attempt, seconds, member.evaluated
            )
        ends.complete(member.directory)
