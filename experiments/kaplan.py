"""Power laws in size, in data and in compute, one at a time, as Kaplan et al. 2020 drew them.

Claim   loss falls as a power of N where data abound, of D where size abounds, and of C along the best runs
        (Kaplan et al. 2020, arXiv 2001.08361, eqs. 1.1 to 1.3: exponents 0.076, 0.095 and 0.050 on WebText2)
Run     python launch.py run kaplan
        python -m analysis.report runs/kaplan
Cost    4 minutes on 2 CPU cores that other programs used too
Expect  docs/results/kaplan.md

The N law reads the runs on the most tokens, the D law those of the largest model, the C law those that no cheaper run
beats. Kaplan et al. counted N without embeddings; the report gives both counts.
"""

from data.config import DataConfig
from experiments.grids import models_of, over_tokens
from experiments.scaling import ScalingRule
from experiments.spec import Seeds, Sweep, check_at_least


def sweep(
    params: tuple[float, ...] = (7.5e3, 1.1e4, 2.1e4, 3.3e4, 6.8e4, 1.23e5),
    tokens: tuple[int, ...] = (163_840, 327_680, 655_360, 1_310_720, 2_621_440),
    seeds: Seeds = 1,
    trunk: bool = True,
    corpus: str = "pysource",
    rule: str = "",
) -> Sweep:
    """Every size on every data size.

    Args:
      params: sizes; each becomes the rule's nearest shape.
      tokens: data sizes.
      seeds: repetitions that differ in initialization and data order.
      trunk: share the constant part among data sizes.
      corpus: pysource, text:PATH or tfds:NAME.
      rule: a file of `analysis.learning_rate --rule`, which sets the learning rate; empty for the defaults.
    """
    check_at_least(1, seeds=seeds)
    scaling = ScalingRule.read(rule, data=DataConfig(corpus=corpus, validation_tokens=65_536))
    return Sweep(
        run
        for model in models_of(scaling, params)
        for seed in range(seeds)
        for run in over_tokens(scaling, model, tokens, seed, trunk)
    )
