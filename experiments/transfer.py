"""What is pretraining worth in tokens of the task?  Training on from other text against training from scratch.

Claim   the data that pretraining stands for grows as a power law in the tokens of fine-tuning and in the size
        (Hernandez et al. 2021, arXiv 2102.01293: D_T = k D_F^alpha N^beta; English to Python: alpha 0.18, beta 0.38)
Run     python launch.py run transfer
        python -m analysis.transfer runs/transfer
Cost    9 minutes of processor time on a CPU
Expect  stated before any run in docs/results/transfer.md: documentation to code gives D_T above 0 at every size, alpha
        between 0 and 1 (each further token of code has more of its own to say) and beta above 0. The control is a base
        of 16 steps, which has read next to nothing: its D_T must be near 0

Every model is trained on documentation (`pysource:docs`), then on D_F tokens of code from its final weights with a
fresh optimizer, and from scratch on code over a range that reaches further. Every loss is of the same held-out code.
All is read once, so that unlike in Hernandez et al. no run is trained until it overfits: D_F is tokens seen.
"""

import dataclasses

from data.config import DataConfig
from experiments.grids import models_of
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec, Seeds, Sweep, check_at_least


def sweep(
    params: tuple[float, ...] = (1.1e4, 3.3e4, 6.8e4),
    base_tokens: int = 1_048_576,
    tokens: tuple[int, ...] = (16_384, 32_768, 65_536, 131_072, 262_144),
    scratch: tuple[int, ...] = (8_192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152),
    control: int = 16_384,
    seeds: Seeds = 2,
    corpus: str = "pysource",
    first: str = "docs",
    second: str = "code",
) -> Sweep:
    """Bases of each size and seed, what goes on from them, and runs from scratch.

    Args:
      params: sizes; each becomes the rule's nearest shape.
      base_tokens: of pretraining, the same at every size.
      tokens: of training on, D_F.
      scratch: of runs from scratch; the largest must reach the losses of what trains on.
      control: tokens of a base that has read next to nothing; 0 for none.
      seeds: repetitions that differ in initialization and data order.
      corpus: with the domains below.
      first, second: domains of pretraining and of what is trained on.
    """
    check_at_least(1, seeds=seeds, base_tokens=base_tokens)
    rule = ScalingRule(data=DataConfig(corpus=corpus, domain=second, validation_tokens=65_536))
    before = dataclasses.replace(rule, data=dataclasses.replace(rule.data, domain=first))
    runs: list[RunSpec] = []
    for model in models_of(rule, params):
        for seed in range(seeds):
            runs += [rule.run(0, count, seed, model=model) for count in scratch]
            for count in filter(None, (base_tokens, control)):
                base = before.run(0, count, seed, model=model)
                runs.append(base)
                for more in tokens:
                    later = rule.run(0, more, seed, model=model)
                    runs.append(dataclasses.replace(later, start="weights", parent=base.run_id))
    return Sweep(runs)
