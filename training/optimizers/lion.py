"""Lion: the sign of an average of gradients (Chen et al. 2023, arXiv 2302.06675, algorithm 2).

Every step has the same size in every coordinate, so the best learning rate is several times below AdamW's, and the
weight decay as much above (section 5 there).
"""

from collections.abc import Mapping
from typing import Any

import optax

from model.config import ModelConfig
from training.optimizers import clipped_and_decayed, common_hyperparameters
from training.spec import OptimConfig

READS = ("beta1", "momentum")
MOMENTS = 1
MOMENTUM = 0.99  # beta2 of the paper


def hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """beta1 weighs the average against the newest gradient; momentum is what the average keeps of itself."""
    momentum = MOMENTUM if optim.momentum is None else optim.momentum
    return {"beta1": optim.beta1, "momentum": momentum, **common_hyperparameters(optim)}


def transformation(
    hyper: Mapping[str, Any], config: ModelConfig, decay_all: bool
) -> optax.GradientTransformation:
    """Clip, sign, decoupled decay."""
    lion = optax.scale_by_lion(b1=hyper["beta1"], b2=hyper["momentum"])
    return clipped_and_decayed(hyper, config, decay_all, lion)
