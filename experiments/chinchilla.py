"""How should compute be split between size and data?  All three approaches of Hoffmann et al. 2022 on one grid.

Claim   the best size and the best number of tokens grow as about the same power of compute, by the envelope of the
        training curves, by isoFLOP valleys and by the parametric law alike (Hoffmann et al. 2022, arXiv 2203.15556)
Run     python launch.py run chinchilla
        python -m analysis.report runs/chinchilla
Cost    6 minutes on 2 CPU cores that other programs used too; --preset h100 is sized by its FLOPs for 25 minutes
        of one H100 at an assumed 8% of 989 TFLOP/s, and has not been run
Expect  docs/results/chinchilla.md

Every size is one trunk with a cooldown for each data size (Hägele et al. 2024, arXiv 2405.18392), so that every point
of a size's curve has been cooled down. `most_flops` keeps large models from data sizes that only small ones can afford.
"""

from typing import Any, Literal

from core.errors import BadInput
from data.config import DataConfig
from experiments.grids import flops_per_token, models_of, over_tokens
from experiments.scaling import ScalingRule
from experiments.spec import Seeds, Sweep, check_at_least

PRESETS: dict[str, dict[str, Any]] = {
    # 8 sizes from 1M to 60M parameters by 5 data sizes, up to one pass over the default corpus: 1.2e17 FLOPs. Batch
    # and learning rate are far outside of what the rule was set on (experiments/learning_rate.py).
    "h100": {
        "params": (1e6, 1.8e6, 3.2e6, 5.6e6, 1e7, 1.8e7, 3.3e7, 6e7),
        "tokens": (7_340_032, 14_680_064, 29_360_128, 58_720_256, 117_440_512),
        "most_flops": 0.0,
        "batch_tokens": 16_384,
        "sequence_length": 256,
        "validation_tokens": 1_048_576,
        "compute_dtype": "bfloat16",
        "scan": True,
    },
}


def sweep(
    params: tuple[float, ...] = (7.5e3, 1.1e4, 2.1e4, 4.6e4, 9.6e4, 2.18e5),
    tokens: tuple[int, ...] = (163_840, 327_680, 655_360, 1_310_720, 2_621_440, 5_242_880, 10_485_760),
    most_flops: float = 1.2e12,
    seeds: Seeds = 1,
    trunk: bool = True,
    batch_tokens: int = 1024,
    sequence_length: int = 128,
    validation_tokens: int = 65_536,
    compute_dtype: Literal["float32", "bfloat16"] = "float32",
    scan: bool = False,
    corpus: str = "pysource",
) -> Sweep:
    """For each size and seed, one trunk and a branch for each data size.

    Args:
      params: sizes; each becomes the rule's nearest shape.
      tokens: data sizes.
      most_flops: a size skips the data sizes that would cost it more than this; 0 for no limit.
      seeds: repetitions that differ in initialization and data order.
      trunk: share the constant part among data sizes; otherwise train every run from the start.
      batch_tokens: tokens of a step.
      sequence_length: context.
      validation_tokens: length of the held-out slice.
      compute_dtype: of the matrix products.
      scan: compile one block for all layers.
      corpus: pysource, text:PATH or tfds:NAME.
    """
    check_at_least(1, seeds=seeds)
    if not most_flops >= 0:
        raise BadInput(f"most_flops={most_flops:g}: must be positive, or 0 for no limit")
    rule = ScalingRule(
        data=DataConfig(corpus=corpus, sequence_length=sequence_length, validation_tokens=validation_tokens),
        batch_tokens=batch_tokens,
        compute_dtype=compute_dtype,
        scan=scan,
    )
    runs = []
    for model in models_of(rule, params):
        cost = flops_per_token(rule, model)
        affordable = [count for count in tokens if not most_flops or count * cost <= most_flops]
        if tokens and not affordable:
            raise BadInput(
                f"most_flops={most_flops:g}: {rule.count(model)} parameters cannot afford tokens={min(tokens)} "
                f"({min(tokens) * cost:.3g} FLOPs)"
            )
        for seed in range(seeds):
            runs += over_tokens(rule, model, affordable, seed, trunk)
    return Sweep(runs)
