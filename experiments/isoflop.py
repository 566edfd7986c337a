"""At a fixed compute budget, which model size is best?  isoFLOP valleys (Hoffmann et al. 2022, approach 2).

Claim   loss against size has a valley at every budget, and the best size grows as C^a with a near 0.5
        (Hoffmann et al. 2022, arXiv 2203.15556, section 3.2)
Run     python launch.py run isoflop
        python -m analysis.report runs/isoflop
Cost    5 minutes on 2 CPU cores that other programs used too
Expect  docs/results/isoflop.md

Sizes come from one ladder for all budgets, so that a size that serves several budgets is one trunk with a cooldown
for each.
"""

import math
from typing import Annotated

from core.bounds import Allowed
from core.errors import BadInput
from data.config import DataConfig
from experiments.grids import distinct_models, flops_per_token, over_tokens, tokens_for
from experiments.scaling import ScalingRule
from experiments.spec import Seeds, Sweep, check_at_least
from model.config import ModelConfig


def sweep(
    budgets: tuple[float, ...] = (1e11, 2e11, 4e11, 8e11),
    sizes: Annotated[int, Allowed(3, 100)] = 5,
    step: float = 1.6,
    tokens_per_param: Annotated[float, Allowed(1e-3, 1e6)] = 36.0,
    seeds: Seeds = 1,
    trunk: bool = True,
    corpus: str = "pysource",
    rule: str = "",
) -> Sweep:
    """For each budget, the sizes of the ladder that lie nearest to the expected optimum.

    Args:
      budgets: training FLOPs of one run, `exact` convention of the ledger.
      sizes: model sizes a budget.
      step: ratio of neighbouring sizes of the ladder, as near as shapes allow.
      tokens_per_param: D / N expected at the optimum; 36 was measured on quickstart.
      seeds: repetitions that differ in initialization and data order.
      trunk: share the constant part among the budgets of a size.
      corpus: pysource, text:PATH or tfds:NAME.
      rule: a file of `analysis.learning_rate --rule`, which sets the learning rate; empty for the defaults.
    """
    check_at_least(1, seeds=seeds)
    check_at_least(3, sizes=sizes)
    if not budgets:
        raise BadInput("budgets=[]: at least one is needed")
    for budget in budgets:
        if not (budget > 0 and math.isfinite(budget)):
            raise BadInput(f"budgets={budget:g}: must be positive and finite")
    if not 1.1 <= step <= 10:
        raise BadInput(f"step={step:g}: must be between 1.1 and 10")
    if not 0 < tokens_per_param < math.inf:
        raise BadInput(f"tokens_per_param={tokens_per_param:g}: must be positive")
    scaling = ScalingRule.read(rule, data=DataConfig(corpus=corpus, validation_tokens=65_536))
    # 6 N D = C at D = tokens_per_param N; a rung of the ladder is a power of `step`, whatever the budgets are.
    rungs = {budget: math.log(budget / 6 / tokens_per_param) / 2 / math.log(step) for budget in budgets}
    budgets_of: dict[ModelConfig, list[float]] = {}
    for budget, middle in rungs.items():
        first = round(middle - (sizes - 1) / 2)
        for model in distinct_models(scaling, [step**rung for rung in range(first, first + sizes)]):
            budgets_of.setdefault(model, []).append(budget)
    runs = []
    for model in sorted(budgets_of, key=lambda model: flops_per_token(scaling, model)):
        for seed in range(seeds):
            runs += over_tokens(scaling, model, tokens_for(scaling, model, budgets_of[model]), seed, trunk)
    return Sweep(runs)
