"""Which run comes before which: a branch follows its trunk, a later stage the run whose weights it begins with."""

from collections.abc import Iterable, Mapping
from typing import Protocol


class Follower(Protocol):
    """A specification of a run, as far as its place among others goes."""

    @property
    def run_id(self) -> str: ...

    @property
    def parent(self) -> str | None: ...


def generations(specs: Iterable[Follower]) -> dict[str, int]:
    """By run_id: 0 for a run that waits for no other of these, else one more than the run that it waits for."""
    parents = _parents(specs)
    found: dict[str, int] = {}
    for run in parents:
        path = [run]
        while (parent := parents[path[-1]]) is not None and parent in parents and parent not in found:
            path.append(parent)
        last = parents[path[-1]]
        below = found[last] + 1 if last in found else 0
        for place, name in enumerate(reversed(path)):
            found.setdefault(name, below + place)
    return found


def firsts(specs: Iterable[Follower]) -> dict[str, str]:
    """By run_id: the run that it follows over all stages, itself where it has no parent.

    A parent that is none of these counts as a first one.
    """
    parents = _parents(specs)
    found: dict[str, str] = {}
    for run in parents:
        first = run
        while (parent := parents.get(first)) is not None:
            first = parent
        found[run] = first
    return found


def waves(specs: Iterable[Follower]) -> dict[str, int]:
    """By run_id: 0 for a run without a parent, else one more than its parent, which counts as 0 where it is none of
    these: it was there before."""
    specs = list(specs)
    place, first = generations(specs), firsts(specs)
    return {run: below + (first[run] not in place) for run, below in place.items()}


def _parents(specs: Iterable[Follower]) -> Mapping[str, str | None]:
    return {spec.run_id: spec.parent for spec in specs}
