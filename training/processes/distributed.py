"""Several processes that train one run together, usually one a host: joining, agreeing, ending together.

Process 0 is the leader: it holds the run's lock and writes its logs, results and errors. All meet at JAX's
coordination service, a small key-value store in the leader. What concerns one step (stop here, save here) is agreed
over the devices by `Agreement`; everything else goes through the store.

A process that fails says so in the store, and all others end with its status. One that falls silent (killed, or its
host lost) counts as stopped: the others end with 75, for the last checkpoint resumes the run. Where the leader itself
is lost, the store is lost with it, and JAX ends the others at once (SIGABRT).
"""

import contextlib
import dataclasses
import functools
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from core import stop
from core.errors import EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED, BadInput
from model.sharding import everywhere
from training.processes.group import EndedElsewhere, Group, Outcome, record
from training.processes.hosts import Membership

T = TypeVar("T")

# Choices: a process says this often that it lives, and is lost when it has not for SILENCE_SECONDS; where another has
# ended, the main thread has GRACE_SECONDS to notice by itself before the process ends under it (it may wait in a
# collective for ever). Processes ask each other about stopping and saving every ASK_SECONDS of training.
BEAT_SECONDS = 1.0
SILENCE_SECONDS = 60.0
GRACE_SECONDS = 5.0
ASK_SECONDS = 0.25


def join(membership: Membership, directory: Path, patience_seconds: float) -> Group:
    """Meet the other processes; call before JAX touches a device.

    Raises:
      BadInput: process 0 cannot listen at the coordinator's address.
    """
    if membership.count == 1:
        return Group()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX's own service would take SIGTERM away from the training loop.
    jax.config.update("jax_enable_preemption_service", False)
    where = membership.coordinator or "the coordinator of this TPU slice"

    def give_up() -> None:
        _end_process(
            EXIT_FAILED,
            f"process {membership.index}: the {membership.count or ''} processes of this run did not all reach "
            f"{where} within {patience_seconds:g} seconds (--join-seconds)",
        )

    # The timeout of JAX itself aborts the process with a stack trace: ours comes first.
    alarm = threading.Timer(patience_seconds, give_up)
    alarm.daemon = True
    alarm.start()
    settings: dict[str, Any] = {}
    if membership.coordinator:
        settings = {
            "coordinator_address": membership.coordinator,
            "num_processes": membership.count,
            "process_id": membership.index,
            "local_device_ids": membership.devices,
            "cluster_detection_method": "deactivate",
        }
    try:
        with _ended_by_signals():
            jax.distributed.initialize(**settings, initialization_timeout=int(patience_seconds) + 60)
    except (RuntimeError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BadInput(
            f"--coordinator={where}: process {membership.index} cannot join ({first_line})"
        ) from None
    finally:
        alarm.cancel()
    return Joined(directory)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End this process with 75 by a signal while its main thread waits where no signal handler of Python runs."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def end() -> None:
        if os.read(reader, 1):
            _end_process(EXIT_STOPPED, "stopped by a signal before all processes of the run had met")
        os.close(reader)

    previous = signal.set_wakeup_fd(writer)
    threading.Thread(target=end, name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)


class Joined(Group):
    """Processes that have met.

    Args:
      directory: of the run; the leader writes error.txt there for all.
    """

    def __init__(self, directory: Path):
        from jax._src import distributed  # the store has no public name; Orbax uses it in the same way

        self._store: Any = distributed.global_state.client
        self.index, self.count = distributed.global_state.process_id, distributed.global_state.num_processes
        self.directory = directory
        self._verdict: Outcome | None = None
        self._ended: set[int] = set()
        self._left = threading.Event()
        self._clean = False
        self._say(f"host/{self.index}", platform.node())
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)
        self._thread.start()

    def decide(self, name: str, function: Callable[[], Any]) -> Any:
        if self.is_leader:
            value = function()
            self._say(f"decided/{name}", json.dumps(value))
            return value
        while (text := self._heard(f"decided/{name}")) is None:
            self._raise_verdict()
            time.sleep(0.05)
        return json.loads(text)

    def leader_first(self, name: str, function: Callable[[], T]) -> T:
        if self.is_leader:
            result = function()
            self._say(f"decided/{name}", "null")
            return result
        self.decide(name, lambda: None)
        return function()

    def same(self, name: str, value: str) -> None:
        leaders = self.decide(name, lambda: value)
        if value != leaders:
            raise BadInput(
                f"{name}: {value} in process {self.index} on {platform.node()}, {leaders} in process 0; "
                "must be the same"
            )

    def look_elsewhere(self) -> None:
        deadline = time.monotonic() + SILENCE_SECONDS + 2 * BEAT_SECONDS
        while time.monotonic() < deadline:
            self._raise_verdict()
            time.sleep(0.1)

    def leave(self, directory: Path, outcome: Outcome) -> Outcome:
        in_step = self._verdict is None and outcome.together
        if in_step and not self.is_leader:
            # The leader has more to do: the last commit, result.json.
            try:
                while 0 not in self._ended:
                    self._raise_verdict()
                    time.sleep(0.05)
            except EndedElsewhere as ended:
                in_step, outcome = ended.outcome.together, ended.outcome
        self._announce(outcome)
        self._clean = in_step
        if not in_step:
            self._wait_for_all()
        self._left.set()
        self._thread.join()
        return outcome

    def exit(self, status: int) -> int:
        if self._clean:
            jax.distributed.shutdown()
            return status
        stop.end_process(status)  # JAX's own end would wait for processes that are not there any more

    def _say(self, key: str, value: str) -> None:
        self._store.key_value_set(f"run/{key}", value, allow_overwrite=True)

    def _heard(self, key: str) -> str | None:
        return dict(self._store.key_value_dir_get("run/")).get(f"run/{key}")

    def _raise_verdict(self) -> None:
        if self._verdict is not None:
            raise EndedElsewhere(self._verdict)

    def _announce(self, outcome: Outcome) -> None:
        self._say(f"end/{self.index}", json.dumps(dataclasses.asdict(outcome)))

    def _wait_for_all(self) -> None:
        """In the leader, whose end takes the store away: until the others have ended, or are lost."""
        deadline = time.monotonic() + GRACE_SECONDS + 5 * BEAT_SECONDS
        while self.is_leader and len(self._ended) < self.count - 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3 if self.is_leader else 0.0)

    def _watch(self) -> None:
        """Say that this process lives, see that the others do, and end it where its main thread cannot."""
        beats, overdue = 0, 0.0
        seen: dict[int, str] = {}
        since = dict.fromkeys(range(self.count), time.monotonic())
        while not self._left.wait(BEAT_SECONDS if self._verdict is None else BEAT_SECONDS / 10):
            beats += 1
            try:
                self._say(f"alive/{self.index}", str(beats))
                said = dict(self._store.key_value_dir_get("run/"))
            except jax.errors.JaxRuntimeError:
                continue  # where the leader is gone for good, JAX ends this process
            for peer in set(range(self.count)) - {self.index}:
                beat = said.get(f"run/alive/{peer}", "")
                if beat != seen.get(peer):
                    seen[peer], since[peer] = beat, time.monotonic()
                self._judge(peer, said, time.monotonic() - since[peer])
            overdue = overdue or (time.monotonic() + GRACE_SECONDS if self._verdict is not None else 0.0)
            if self._verdict is not None and time.monotonic() > overdue and not self._left.is_set():
                self._abandon(self._verdict)

    def _judge(self, peer: int, said: dict[str, str], silent_seconds: float) -> None:
        """Note how a process has ended; the first bad end decides how this one ends."""
        name = f"process {peer} of {self.count} on {said.get(f'run/host/{peer}', 'an unknown host')}"
        if (text := said.get(f"run/end/{peer}")) is not None:
            self._ended.add(peer)
            outcome = Outcome(**json.loads(text))
            if outcome.status == EXIT_COMPLETE:
                return
            if outcome.status != EXIT_STOPPED:
                outcome = dataclasses.replace(outcome, message=f"{name}: {outcome.message}")
        elif silent_seconds > SILENCE_SECONDS:
            self._ended.add(peer)
            outcome = Outcome(
                EXIT_STOPPED,
                f"{name} is lost (silent for {SILENCE_SECONDS:g} seconds); the last checkpoint stands, and the same "
                "command resumes",
            )
        else:
            return
        self._verdict = self._verdict or outcome

    def _abandon(self, outcome: Outcome) -> None:
        """End a process whose main thread waits for one that is gone."""
        if self.is_leader:
            record(self.directory, outcome)
        self._announce(outcome)
        deadline = time.monotonic() + GRACE_SECONDS
        while self.is_leader and time.monotonic() < deadline and not self._all_have_said_so():
            time.sleep(0.1)
        _end_process(outcome.status, outcome.message)

    def _all_have_said_so(self) -> bool:
        said = dict(self._store.key_value_dir_get("run/"))
        return all(f"run/end/{peer}" in said or peer in self._ended for peer in range(self.count))


def _end_process(status: int, message: str) -> None:
    stop.end_process(status, f"{'note' if status == EXIT_STOPPED else 'error'}: {message}")


@functools.lru_cache(maxsize=4)
def _maximum(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda rows: rows.max(axis=0), out_shardings=everywhere(mesh))


def _greatest(mesh: Mesh, values: np.ndarray) -> jax.Array:
    """The greatest of each value over all processes, which all must call; returns before it is known."""
    spread = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    rows = np.tile(values, (len(spread.addressable_devices), 1))  # one for each device
    return _maximum(mesh)(jax.make_array_from_process_local_data(spread, rows, (mesh.size, len(values))))


def any_process(mesh: Mesh, flag: bool) -> bool:
    """Whether `flag` is true in any process; all must ask."""
    return bool(np.asarray(_greatest(mesh, np.array([flag], np.int32)))[0])


class Agreement:
    """Agree on what to do after this step: every process gets the same answer at the same step, without waiting.

    Each process puts its wishes into a small array over all devices; its maximum is ready while the next step runs,
    and is read then. Where a step takes less than ASK_SECONDS, processes ask every few steps: how many is part of the
    agreement. A process alone decides at once.

    Args:
      mesh: the devices of the run.
    """

    def __init__(self, mesh: Mesh):
        self._alone = jax.process_count() == 1
        self._leads = jax.process_index() == 0
        self._mesh = mesh
        self._answer: jax.Array | None = None
        self._steps, self._interval = 0, 1
        self._asked = time.monotonic()

    def __call__(self, stop: bool, save: bool) -> tuple[bool, bool]:
        """(some process must stop, the leader wants to save) as agreed for this step."""
        if self._alone:
            return stop, save
        answer, self._answer = self._answer, None
        agreed = (False, False)
        if answer is not None:
            must_stop, must_save, self._interval = np.asarray(answer).tolist()
            agreed = bool(must_stop), bool(must_save)
        self._steps += 1
        if self._steps >= self._interval and not any(agreed):  # what is being done is not asked for again
            self._answer = self._ask(stop, save)
        return agreed

    def _ask(self, stop: bool, save: bool) -> jax.Array:
        now = time.monotonic()
        step_seconds = max(1e-6, (now - self._asked) / self._steps)
        self._asked, self._steps = now, 0
        interval = min(1000, max(1, round(ASK_SECONDS / step_seconds)))
        wishes = np.array([stop, save and self._leads, interval if self._leads else 1], np.int32)
        return _greatest(self._mesh, wishes)
