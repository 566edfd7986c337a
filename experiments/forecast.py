"""A forecast that could have failed: fit the small runs, write down the largest size's losses, then train it.

Claim   the losses of a model twice as large as any fitted one land in the 90% interval that was written before it began
Run     python launch.py run forecast
Cost    under 5 minutes on 2 CPU cores
Expect  docs/results/forecast.md

The launcher holds the largest size back until runs/forecast/forecast/forecast.json is written
(analysis/forecast/register.py: the law with the lowest AICc on the small runs, 1,000 resamples), then trains it,
scores the forecast and draws it.
"""

from collections.abc import Iterable

from experiments import quickstart
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least


def sweep(
    tokens: tuple[int, ...] = (196_608, 393_216, 786_432, 1_572_864),
    sizes: int = 5,
    seeds: Seeds = 1,
    corpus: str = "pysource",
) -> Sweep:
    """The grid of quickstart on fewer tokens; its largest size is the one that is forecast.

    Args:
      tokens: data sizes.
      sizes: how many of the five model sizes of quickstart, from the smallest; the last is held back.
      seeds: repetitions that differ in initialization and data order.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(3, 5, sizes=sizes)
    return quickstart.sweep(tokens=tokens, sizes=sizes, seeds=seeds, corpus=corpus)


def held_back(runs: Iterable[RunSpec]) -> list[str]:
    """The runs that wait for the forecast: all of the largest size, its trunk among them."""
    runs = list(runs)
    largest = max((run.model.width * run.model.depth, run.model.width) for run in runs)
    return [run.run_id for run in runs if (run.model.width * run.model.depth, run.model.width) == largest]
