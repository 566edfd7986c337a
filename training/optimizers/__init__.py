"""How gradients move parameters: one file an optimizer, chosen by its name in `OptimConfig.name`.

A file of this folder defines the functions of `Optimizer`; adamw.py is the example to copy. Its state may be any that
optax can build: what mirrors the parameters is cut over devices as they are, the rest lies whole on each.

A file may also declare, as literals that are read without importing it:

  READS     which of beta1, beta2, epsilon and momentum it reads; another that is set is refused
  MOMENTS   arrays of a parameter's shape that its state holds, 2 where it does not say; for the planner
  MOMENTS_OF_MATRICES   the same of the matrices of blocks, where it differs
  MUP       True where model/parametrization.py's multipliers hold for it; else mup is refused
  COOLDOWN  False where the learning rate must not fall at the end
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
        """From gradients to what the step multiplies by -learning_rate and adds to the parameters.

        In `update`, though not in `init`, `hyper` has the step's learning_rate too.
        """

    # A file may also define, where gradients are not taken at the parameters that are evaluated and exported:
    # gradient_at(hyper: Mapping[str, Any], params: Tree, moments: Any) -> Tree


def load(name: str) -> Optimizer:
    """The optimizer of a name that `OptimConfig` has checked."""
    return cast(Optimizer, importlib.import_module(f"{__name__}.{name}"))


def decay_mask(config: ModelConfig, decay_all: bool) -> Tree:
    """True for each parameter that weight decay shrinks: matrices, but not embeddings, unless asked."""
    return {**each(layout(config), lambda leaf: decay_all or leaf.is_matrix), "embedding": decay_all}


def gradient_point(optimizer: Optimizer, hyper: Mapping[str, Any], params: Tree, moments: Any) -> Tree:
    """Where a step takes its gradient: at the parameters, unless the optimizer has its own place."""
    own = getattr(optimizer, "gradient_at", None)
    return params if own is None else own(hyper, params, moments)


def common_hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """The numbers of `clipped_and_decayed`.

    The step removes learning_rate * weight_decay of a parameter, so an independent decay is divided by the peak.
    """
    independent = optim.decay == "independent"
    return {
        "weight_decay": optim.weight_decay / optim.learning_rate if independent else optim.weight_decay,
        "clip_norm": optim.clip_norm if optim.clip_norm > 0 else float("inf"),
    }


def clipped_and_decayed(
    hyper: Mapping[str, Any], config: ModelConfig, decay_all: bool, *steps: optax.GradientTransformation
) -> optax.GradientTransformation:
    """`steps` between what every optimizer has: clipping by the global norm before, decoupled decay after."""
    clip = optax.clip_by_global_norm(hyper["clip_norm"])
    decay = optax.add_decayed_weights(hyper["weight_decay"], mask=decay_mask(config, decay_all))
    return optax.chain(clip, *steps, decay)
