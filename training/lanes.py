"""The states of the runs of a pack on the devices, one lane a run; a step moves them all.

A run alone has the devices of its mesh for its one lane. Several runs are one program over a leading member axis M.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from model.sharding import everywhere
from training.objectives import Batch
from training.pack_step import empty_lanes, lanes, make_pack_step, pack_mesh, put_lane, take_lane
from training.processes.mesh import place_batch
from training.program import Program
from training.state import TrainState
from training.step import Metrics, make_train_step

Numbers = Mapping[str, float]


class Lanes(Protocol):
    """States by lane, from 0."""

    def devices(self) -> contextlib.AbstractContextManager[object]:
        """Enter this around all steps."""

    def step(self, batches: Mapping[int, Batch], hyper: Mapping[int, Numbers]) -> Metrics:
        """Move the lanes that `hyper` names by one step each; returns at once, with metrics still on the device.

        Every metric is a scalar for a run alone and (M,) for several.
        """

    def state(self, lane: int) -> TrainState:
        """The state of one lane, placed as the same run alone has it; valid until the next step."""


class Placed:
    """Numbers of the step on the devices. What has not changed since the last step is not sent again: in most steps
    that leaves the learning rate.

    Args:
      place: puts a float32 number, or one a lane, on the devices.
    """

    def __init__(self, place: Callable[[np.ndarray], jax.Array]):
        self._place = place
        self._known: dict[str, tuple[np.ndarray, jax.Array]] = {}

    def __call__(self, hyper: Mapping[str, Any]) -> dict[str, jax.Array]:
        for name, value in hyper.items():
            number = np.asarray(value, np.float32)
            if name not in self._known or not np.array_equal(self._known[name][0], number):
                self._known[name] = number, self._place(number)
        return {name: self._known[name][1] for name in hyper}


class OneLane:
    """A run alone: its step is not mapped over members.

    Args:
      sequences: of a batch over all processes.
    """

    def __init__(self, program: Program, mesh: jax.sharding.Mesh, sequences: int, state: TrainState):
        self._mesh, self._sequences, self._state = mesh, sequences, state
        self._step = make_train_step(program, mesh)
        self._placed = Placed(lambda number: jax.device_put(number, everywhere(mesh)))

    def devices(self) -> contextlib.AbstractContextManager[object]:
        return jax.set_mesh(self._mesh)

    def step(self, batches: Mapping[int, Batch], hyper: Mapping[int, Numbers]) -> Metrics:
        batch = place_batch(self._mesh, batches[0], self._sequences)
        self._state, metrics = self._step(self._state, batch, self._placed(hyper[0]))
        return metrics

    def state(self, lane: int) -> TrainState:
        return self._state


class ManyLanes:
    """Several runs. Their number stays the same to the end, so that a run's numbers do not depend on who waits.

    Args:
      states: of each run, in the order of their lanes; emptied, so that there is one copy of each.
      target: the abstract state of a run alone.
    """

    def __init__(self, program: Program, states: list[TrainState], target: TrainState):
        self._count, self._target = len(states), target
        self._mesh = pack_mesh(program.model, len(states))
        self._step = make_pack_step(program, self._mesh)
        self._placed = Placed(lambda number: jax.device_put(number, lanes(self._mesh)))
        self._state_M = empty_lanes(target, len(states), self._mesh)
        for lane in range(len(states)):
            self._state_M = put_lane(self._state_M, lane, states.pop(0), self._mesh)

    def devices(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def step(self, batches: Mapping[int, Batch], hyper: Mapping[int, Numbers]) -> Metrics:
        """A lane that waits is given some batch, whose result is thrown away."""
        first = next(iter(hyper))
        by_lane = [hyper.get(lane, hyper[first]) for lane in range(self._count)]
        hyper_M = self._placed({key: [own[key] for own in by_lane] for key in hyper[first]})
        active_M = np.zeros(self._count, bool)
        active_M[list(hyper)] = True
        batch_M = jax.tree.map(
            lambda *arrays: np.stack(arrays),
            *(batches.get(lane, batches[first]) for lane in range(self._count)),
        )
        self._state_M, metrics_M = self._step(self._state_M, batch_M, hyper_M, active_M)
        return metrics_M

    def state(self, lane: int) -> TrainState:
        return take_lane(self._state_M, lane, self._target)


def lanes_of(
    program: Program, mesh: jax.sharding.Mesh, sequences: int, states: list[TrainState], target: TrainState
) -> Lanes:
    """One lane for each state; they lie on `mesh` as `target` says. The list is emptied: there is one copy of each.

    Args:
      sequences: of a batch over all processes.
    """
    if len(states) == 1:
        return OneLane(program, mesh, sequences, states.pop())
    return ManyLanes(program, states, target)
