"""A whole scaling study in minutes: a grid that the planner chose, a law, and a larger model that the law forecasts.

Claim   held-out loss falls as L = E + A / N^alpha + B / D^beta, and the law forecasts a size that it has not seen
Run     make quickstart, or python launch.py run quickstart
Cost    about 6 minutes on 2 CPU cores
Expect  docs/results/quickstart.md

The largest size is held back: it starts when the forecast of its losses is written, and the report says where it
landed (analysis/forecast/register.py).
"""

from collections.abc import Iterable

from data.config import DataConfig
from experiments.grids import over_tokens
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least

# Width, depth, width of a head, and data sizes: completed by hand from what planning/search.py proposed for the
# forecast of the last size (docs/results/quickstart.md), 3 to 201 tokens a parameter. No network is narrower than 24,
# since one of width 16 gains less from data than the law allows. The last size is the one that is forecast.
GRID: tuple[tuple[int, int, int, tuple[int, ...]], ...] = (
    (24, 1, 8, (131_072, 262_144, 524_288, 1_048_576, 2_097_152)),
    (32, 1, 16, (262_144, 524_288, 1_048_576, 2_097_152, 4_194_304)),
    (32, 2, 16, (262_144, 524_288, 1_048_576, 2_097_152, 4_194_304)),
    (48, 2, 16, (524_288, 1_048_576, 2_097_152, 4_194_304)),
    (64, 2, 16, (524_288, 1_048_576, 2_097_152, 4_194_304)),
    (80, 4, 16, (1_048_576, 2_097_152)),
)
FORECAST = GRID[-1][:2]


def sweep(
    tokens: tuple[int, ...] = (),
    sizes: int = len(GRID),
    seeds: Seeds = 1,
    corpus: str = "pysource",
    rule: str = "",
    trunk: bool = True,
) -> Sweep:
    """For each size and seed, a run at constant learning rate and a cooldown from it for each data size.

    Args:
      tokens: data sizes of every size; where none, those that the planner chose for each.
      sizes: how many of the model sizes, from the smallest; the last of all is held back and forecast.
      seeds: repetitions that differ in initialization and data order.
      corpus: pysource, text:PATH or tfds:NAME.
      rule: a file of `analysis.learning_rate --rule`, which sets the learning rate; empty for the defaults.
      trunk: share the constant part among data sizes; otherwise train every run from the start.
    """
    check_at_least(1, len(GRID), sizes=sizes)
    check_at_least(1, seeds=seeds)
    scaling = ScalingRule.read(rule, data=DataConfig(corpus=corpus, validation_tokens=65_536))
    runs: list[RunSpec] = []
    for width, depth, head, planned in GRID[:sizes]:
        for seed in range(seeds):
            model = scaling.shape(width, depth, head)
            if trunk:
                runs += scaling.trunk_and_branches(0, tokens or planned, seed, model)
            else:
                runs += over_tokens(scaling, model, tokens or planned, seed, trunk=False)
    return Sweep(runs)


def held_back(runs: Iterable[RunSpec]) -> list[str]:
    """The runs that wait for the forecast: all of the last size, its trunk among them."""
    return [run.run_id for run in runs if (run.model.width, run.model.depth) == FORECAST]
