"""The grid that the planner chose: sizes, data sizes and seeds that make a forecast's interval smallest.

Claim   at equal FLOPs the forecast of a larger run is tighter than from a plain isoFLOP grid (docs/results/planned.md)
Run     python launch.py plan --budget 5e12 --target 1e14 --out plan.json
        python launch.py run planned --plan plan.json
Cost    as the plan says; the default grid, chosen for 5e12 FLOPs, about 2 minutes on 2 CPU cores (planned)
Expect  docs/results/planned.md
"""

from pathlib import Path
from typing import Literal

from data.config import DataConfig
from experiments.planner import planned_sweep, read_plan
from experiments.scaling import ScalingRule
from experiments.spec import Sweep


def sweep(
    plan: Path | None = None,
    batch_tokens: int = 1024,
    sequence_length: int = 128,
    compute_dtype: Literal["float32", "bfloat16"] = "float32",
    corpus: str = "pysource",
) -> Sweep:
    """The runs of a plan's file.

    Args:
      plan: what `python launch.py plan --budget ... --out FILE` wrote; without one, a small grid.
      batch_tokens: tokens of a step.
      sequence_length: context.
      compute_dtype: of the matrix products.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    runs, trunks = (DEFAULT, False) if plan is None else read_plan(plan)
    data = DataConfig(corpus=corpus, sequence_length=sequence_length, validation_tokens=65_536)
    rule = ScalingRule(data=data, batch_tokens=batch_tokens, compute_dtype=compute_dtype)
    return planned_sweep(rule, runs, trunks)


# python launch.py plan --budget 5e12 --target 1e14 --runs-at-most 16 --structure runs, tokens rounded
DEFAULT = [
    {"params": params, "tokens": tokens, "seed": 0}
    for params, data_sizes in (
        (7_504, (92_160, 131_072, 1_482_752)),
        (14_288, (46_080, 185_344)),
        (20_864, (46_080, 131_072, 185_344, 262_144, 370_688, 524_288)),
        (33_504, (262_144, 370_688, 5_931_008)),
        (217_792, (524_288, 1_482_752)),
    )
    for tokens in data_sizes
]
