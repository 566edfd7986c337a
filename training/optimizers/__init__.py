"""How gradients move parameters: one file an optimizer, chosen by its name in `OptimConfig.name`.

A file of this folder defines the functions of `Optimizer`; adamw.py is the example to copy. Its state may be any that
optax can build: what mirrors the parameters is cut over devices as they are, the rest lies whole on each.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, cast

import optax

from model.config import ModelConfig
from model.parameters import each, layout
from training.spec import OptimConfig

Tree = Any  # a tree like the parameters


class Optimizer(Protocol):
    """The functions of a file of this folder."""

    @staticmethod
    def hyperparameters(optim: OptimConfig) -> dict[str, float]:
        """The numbers that `transformation` finds in `hyper`: arguments of the compiled step, which runs that differ
        only in them share."""

    @staticmethod
    def transformation(
        hyper: Mapping[str, Any], config: ModelConfig, decay_all: bool
    ) -> optax.GradientTransformation:
        """From gradients to what the step multiplies by -learning_rate and adds to the parameters."""


def load(name: str) -> Optimizer:
    """The optimizer of a name that `OptimConfig` has checked."""
    return cast(Optimizer, importlib.import_module(f"{__name__}.{name}"))


def decay_mask(config: ModelConfig, decay_all: bool) -> Tree:
    """True for each parameter that weight decay shrinks: matrices, but not embeddings, unless asked."""
    return {**each(layout(config), lambda leaf: decay_all or leaf.is_matrix), "embedding": decay_all}
