"""Which run goes to which worker: runs of one shape stay together, the last ones are shared out."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

from launchers.packs import form_packs, pack_key
from training.cost import training_flops
from training.program import shape_of
from training.spec import RunSpec


@dataclasses.dataclass
class RunsOfShape:
    """Waiting runs of one shape, trunks and then the longest first, their FLOPs, and the workers that compiled it."""

    waiting: list[RunSpec]
    workers: set[int] = dataclasses.field(default_factory=set)
    work: float = 0.0  # kept up to date: summing it at every question takes minutes for 10,000 runs

    def add(self, spec: RunSpec, place: int) -> None:
        self.waiting.insert(place, spec)
        self.work += training_flops(spec)

    def remove(self, spec: RunSpec) -> None:
        self.waiting.remove(spec)
        self.work -= training_flops(spec)

    def first(self, ready: Callable[[RunSpec], bool]) -> RunSpec | None:
        return next((spec for spec in self.waiting if ready(spec)), None)


class RunQueue:
    """Hands out runs; a worker stays with the shapes it has compiled, then takes the largest untouched group, and
    at last shares the longest run of the group with most work left (its programs are then in the cache on disk)."""

    def __init__(self, specs: Sequence[RunSpec], ready: Callable[[RunSpec], bool] = lambda spec: True):
        self._groups: dict[Hashable, RunsOfShape] = {}
        self._ready = ready
        for spec in sorted(specs, key=lambda spec: (spec.is_trunk, training_flops(spec)), reverse=True):
            group = self._groups.setdefault(shape_of(spec), RunsOfShape([]))
            group.add(spec, len(group.waiting))

    def __len__(self) -> int:
        return sum(len(group.waiting) for group in self._groups.values())

    def waiting(self) -> list[str]:
        """run_ids of all that wait."""
        return [spec.run_id for group in self._groups.values() for spec in group.waiting]

    def take(self, worker: int) -> RunSpec | None:
        """The next run for this worker; None where none waits, or none is ready yet."""
        groups = [group for group in self._groups.values() if group.first(self._ready)]
        if not groups:
            return None
        own = [group for group in groups if worker in group.workers]
        untouched = [group for group in groups if not group.workers]
        group = max(own or untouched or groups, key=lambda group: group.work)
        group.workers.add(worker)
        spec = group.first(self._ready)
        assert spec is not None
        group.remove(spec)
        return spec

    def take_pack(self, worker: int, most: Callable[[RunSpec], int]) -> list[RunSpec]:
        """The next runs for this worker: one, or where `most` allows several, those that can be packed with it."""
        first = self.take(worker)
        if first is None:
            return []
        if most(first) == 1:
            return [first]
        group, key = self._groups[shape_of(first)], pack_key(first)
        alike = [spec for spec in group.waiting if pack_key(spec) == key and self._ready(spec)]
        pack = form_packs([first, *alike], most)[0]
        for spec in pack[1:]:
            group.remove(spec)
        return pack

    def drop_followers_of(self, run: str) -> list[RunSpec]:
        """Take out every waiting run that begins with a checkpoint or the weights of one that failed."""
        dropped = [spec for group in self._groups.values() for spec in group.waiting if spec.parent == run]
        for spec in dropped:
            self._groups[shape_of(spec)].remove(spec)
        return dropped

    def put_back(self, spec: RunSpec) -> None:
        """Give back a run whose worker died; any worker may take it."""
        group = self._groups[shape_of(spec)]
        group.add(spec, 0)
        group.workers.clear()
