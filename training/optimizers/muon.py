"""Muon: orthogonalized momentum for the matrices of blocks, AdamW for embedding, head and gains.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/): each layer's momentum is brought near its closest
orthogonal matrix by five Newton-Schulz steps, which leaves singular values of about 0.7 to 1.2. Updates are scaled to
the root mean square of an AdamW step, 0.2, so that one learning rate serves both groups (Liu et al. 2025, arXiv
2502.16982, section 2.2).

Blocks are stacked, (L, in, out): the layer is a batch axis here. Without being told, optax would take every matrix of
two axes, so the embedding table and the stacked gains, and leave the blocks to Adam.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from model.config import ModelConfig
from model.parameters import Leaf, each, layout
from training.optimizers import Tree, clipped_and_decayed, common_hyperparameters
from training.spec import OptimConfig

READS = ("beta1", "beta2", "epsilon", "momentum")
MOMENTS = 2
MOMENTS_OF_MATRICES = 1
MOMENTUM = 0.95
ROOT_MEAN_SQUARE = 0.2  # of an update, as AdamW's

EACH_LAYER = MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)


def hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """momentum of the matrices; Adam's numbers for everything else."""
    return {
        "beta1": optim.beta1,
        "beta2": optim.beta2,
        "epsilon": optim.epsilon,
        "momentum": MOMENTUM if optim.momentum is None else optim.momentum,
        **common_hyperparameters(optim),
    }


def groups(config: ModelConfig) -> Tree:
    """`muon` for each matrix of a block, `adam` for embedding, head and gains: a tree like the parameters."""

    def group(leaf: Leaf) -> str:
        return "muon" if leaf.is_matrix and "layers" in leaf.axes else "adam"

    return each(layout(config), group)


def transformation(
    hyper: Mapping[str, Any], config: ModelConfig, decay_all: bool
) -> optax.GradientTransformation:
    """Clip, Muon (with Nesterov's momentum) or Adam, decoupled decay."""
    muon = optax.chain(
        optax.contrib.scale_by_muon(beta=hyper["momentum"], weight_dimension_numbers=_dimensions),
        optax.stateless(lambda updates, _: jax.tree.map(_as_large_as_of_adamw, updates)),
    )
    adam = optax.scale_by_adam(b1=hyper["beta1"], b2=hyper["beta2"], eps=hyper["epsilon"])
    either = optax.partition({"muon": muon, "adam": adam}, groups(config))
    return clipped_and_decayed(hyper, config, decay_all, either)


def _dimensions(updates: Tree) -> Tree:
    return jax.tree.map(lambda _: EACH_LAYER, updates)


def _as_large_as_of_adamw(update: jax.Array) -> jax.Array:
    """An orthogonal matrix has root mean square 1 / sqrt(its longer side)."""
    return ROOT_MEAN_SQUARE * math.sqrt(max(update.shape[-2:])) * update
