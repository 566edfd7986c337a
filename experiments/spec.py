"""Runs and sweeps: what an experiment returns."""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from core.bounds import Allowed
from core.codec import flat_keys, to_json, with_settings
from core.errors import BadInput
from core.order import generations
from core.reading import printable
from core.suggest import did_you_mean
from training.spec import OptimConfig, RunSpec

__all__ = [
    "OptimConfig",
    "RunSpec",
    "Seeds",
    "Sweep",
    "check_at_least",
    "with_learning_rate",
]


MOST_RUNS = 100_000  # of a sweep: more is a slip of the keyboard, and would fill the memory first
Seeds = Annotated[int, Allowed(1, 1000)]


def check_at_least(minimum: int, most: int | None = None, **values: int) -> None:
    """Refuse an argument of a sweep that is out of range, by name: `check_at_least(1, seeds=seeds)`."""
    for name, value in values.items():
        if value < minimum or (most is not None and value > most):
            allowed = f"at least {minimum}" if most is None else f"between {minimum} and {most}"
            raise BadInput(f"{name}={value}: must be {allowed}")


def with_learning_rate(run: RunSpec, rate: float) -> RunSpec:
    """The same run at another peak.

    Raises:
      BadInput: the rate is not positive.
    """
    return dataclasses.replace(run, optim=dataclasses.replace(run.optim, learning_rate=rate))


def at_peak(run: RunSpec, factor: float) -> RunSpec:
    """The same run at a multiple of its peak, to three digits."""
    return with_learning_rate(run, float(f"{run.optim.learning_rate * factor:.3g}"))


@dataclasses.dataclass(frozen=True, init=False)
class Sweep:
    """The list of runs of one experiment, in the order given; the same spec twice is one run, and `collapsed` says so.

    Attributes:
      runs: each once. given: how often each was given, by run_id.
      question: the field that the sweep is about, by dotted key: its report begins with the answer; "" for none.
    """

    runs: tuple[RunSpec, ...]
    given: Mapping[str, int] = dataclasses.field(compare=False)
    question: str = ""

    def __init__(self, runs: Iterable[RunSpec], question: str = ""):
        """Raises BadInput where there is no run, the question is no field or one in which runs do not differ, or a
        later stage does not fit the run that it begins with."""
        listed = list(itertools.islice(runs, MOST_RUNS + 1))
        if len(listed) > MOST_RUNS:
            raise BadInput(f"the sweep has more than {MOST_RUNS} runs: its arguments ask for too many")
        unique = {run.run_id: run for run in listed}
        if not unique:
            raise BadInput("the sweep is empty: its arguments leave no run to train")
        object.__setattr__(self, "runs", tuple(unique.values()))
        object.__setattr__(self, "given", Counter(run.run_id for run in listed))
        object.__setattr__(self, "question", question)
        for run in self.runs:
            if run.start and run.parent in unique:
                run.check_begins_with(unique[run.parent])
        _check_question(question, self.runs)

    @property
    def collapsed(self) -> str:
        """How many specifications were given and how many are distinct, one line; empty where all are."""
        total = sum(self.given.values())
        if total == len(self.runs):
            return ""
        often = max(self.given, key=lambda run_id: self.given[run_id])
        return (
            f"{total} specs, {len(self.runs)} distinct: equal specs are one run, trained once ({often} is given "
            f"{self.given[often]} times)"
        )

    def __iter__(self) -> Iterator[RunSpec]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def with_settings(self, settings: Mapping[str, str]) -> "Sweep":
        """Every run with the same fields replaced, by dotted key; branches follow their trunks' new names."""
        return self.each(lambda run: with_settings(run, settings)) if settings else self

    def located(self) -> "Sweep":
        """Every run with its paths from the root on."""
        return self.each(lambda run: run.located())

    def each(self, change: Callable[[RunSpec], RunSpec]) -> "Sweep":
        """Every run changed; branches and later stages follow the new names of what they begin with."""
        changed: dict[str, RunSpec] = {}
        generation = generations(self.runs)
        for run in sorted(self.runs, key=lambda run: generation[run.run_id]):
            following = change(run)
            if following.parent in changed:
                following = dataclasses.replace(following, parent=changed[following.parent].run_id)
            changed[run.run_id] = following
        again = [changed[run.run_id] for run in self.runs for _ in range(self.given[run.run_id])]
        return Sweep(again, question=self.question)


def _check_question(question: str, runs: Sequence[RunSpec]) -> None:
    if not question:
        return
    tree = to_json(runs[0])
    known = flat_keys(tree)
    if question not in known:
        raise BadInput(
            f"question={printable(question)}: no field of a run{did_you_mean(question, known)} {', '.join(known)}"
        )
    values = {repr(functools.reduce(getattr, question.split("."), run)) for run in runs}
    if len(values) < 2:
        raise BadInput(
            f"question={question}: the sweep does not vary it, every run has {printable(values.pop())}; a question "
            "needs at least two values"
        )
