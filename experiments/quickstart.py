"""A whole scaling study in minutes: five sizes by five data sizes of Python source, on a laptop's CPU.

Claim   held-out loss falls as L = E + A / N^alpha + B / D^beta, in size and in data
Run     make quickstart, or python launch.py run quickstart
Cost    about 6 minutes on 2 CPU cores
Expect  docs/results/quickstart.md
"""

from data.config import DataConfig
from experiments.scaling import ScalingRule
from experiments.spec import Seeds, Sweep, check_at_least

# 11k to 218k parameters, each about twice the one before.
WIDTH_AND_DEPTH = ((16, 2), (32, 2), (48, 2), (48, 4), (64, 4))


def sweep(
    tokens: tuple[int, ...] = (327_680, 655_360, 1_310_720, 2_621_440, 5_242_880),
    sizes: int = 5,
    seeds: Seeds = 1,
    corpus: str = "pysource",
    rule: str = "",
    trunk: bool = True,
) -> Sweep:
    """For each size and seed, a run at constant learning rate and a cooldown from it for each data size.

    Args:
      tokens: data sizes.
      sizes: how many of the five model sizes, from the smallest.
      seeds: repetitions that differ in initialization and data order.
      corpus: pysource, text:PATH or tfds:NAME.
      rule: a file of `analysis.learning_rate --rule`, which sets the learning rate; empty for the defaults.
      trunk: share the constant part among data sizes; otherwise train every run from the start.
    """
    check_at_least(1, len(WIDTH_AND_DEPTH), sizes=sizes)
    check_at_least(1, seeds=seeds)
    scaling = ScalingRule.read(rule, data=DataConfig(corpus=corpus, validation_tokens=65_536))
    runs = []
    for width, depth in WIDTH_AND_DEPTH[:sizes]:
        for seed in range(seeds):
            model = scaling.shape(width, depth)
            if trunk:
                runs += scaling.trunk_and_branches(0, tokens, seed, model)
            else:
                runs += [scaling.run(0, count, seed, evaluations=4, model=model) for count in tokens]
    return Sweep(runs)
