"""Which run goes to which worker: runs of one shape stay together, the last ones are shared out."""

import dataclasses
from collections.abc import Hashable, Sequence

from training.config import RunSpec
from training.cost import shape_of, training_flops


@dataclasses.dataclass
class Group:
    """Waiting runs of one shape, longest first, and the workers that have compiled it."""

    waiting: list[RunSpec]
    workers: set[int] = dataclasses.field(default_factory=set)

    @property
    def work(self) -> float:
        return sum(map(training_flops, self.waiting))


class RunQueue:
    """Hands out runs; a worker stays with the shapes it has compiled, then takes the largest untouched group, and
    at last shares the longest run of the group with most work left (its programs are then in the cache on disk)."""

    def __init__(self, specs: Sequence[RunSpec]):
        self._groups: dict[Hashable, Group] = {}
        for spec in sorted(specs, key=training_flops, reverse=True):
            self._groups.setdefault(shape_of(spec), Group([])).waiting.append(spec)

    def __len__(self) -> int:
        return sum(len(group.waiting) for group in self._groups.values())

    def take(self, worker: int) -> RunSpec | None:
        """The next run for this worker; None where none waits."""
        groups = [group for group in self._groups.values() if group.waiting]
        if not groups:
            return None
        own = [group for group in groups if worker in group.workers]
        untouched = [group for group in groups if not group.workers]
        group = max(own or untouched or groups, key=lambda group: group.work)
        group.workers.add(worker)
        return group.waiting.pop(0)

    def put_back(self, spec: RunSpec) -> None:
        """Give back a run whose worker died; any worker may take it."""
        group = self._groups[shape_of(spec)]
        group.waiting.insert(0, spec)
        group.workers.clear()
