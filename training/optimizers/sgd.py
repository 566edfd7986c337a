"""Stochastic gradient descent with momentum (Polyak 1964; Sutskever et al. 2013, equations 1 and 2).

A step is the sum of past gradients, each weaker by `momentum`, so at the default it is up to 10 times the gradient.
"""

from collections.abc import Mapping
from typing import Any

import optax

from model.config import ModelConfig
from training.optimizers import clipped_and_decayed, common_hyperparameters
from training.spec import OptimConfig

READS = ("momentum",)
MOMENTS = 1
MOMENTUM = 0.9


def hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """Of momentum, clipping and decay."""
    momentum = MOMENTUM if optim.momentum is None else optim.momentum
    return {"momentum": momentum, **common_hyperparameters(optim)}


def transformation(
    hyper: Mapping[str, Any], config: ModelConfig, decay_all: bool
) -> optax.GradientTransformation:
    """Clip, momentum, decoupled decay."""
    return clipped_and_decayed(hyper, config, decay_all, optax.trace(decay=hyper["momentum"]))
