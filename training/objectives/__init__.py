"""What a run learns: one file an objective, chosen by its name in `RunSpec.objective`.

A file of this folder defines the functions of `Objective`; next_token.py is the example to copy. It may say more, each
as a constant or function of its own:

    ARCHITECTURES = ("encoder",)    kinds of network it trains: decoder (the default), encoder, encoder_decoder
    READS = ("mask_share",)         the settings of training/objective_settings.py that it reads; others are refused
    WINDOW = "masked"               what is computed of a window, a name of `training.window.KINDS`; planning counts it
    example(spec, tokens_BS) -> batch
                                    a batch of these windows in shape and dtype, as the step reads it; without it the
                                    tokens themselves
    held_out(spec, tokens_BS, first) -> (batch, weights)
                                    what `held_out_nats` reads of windows of the held-out slice, the first of which is
                                    number `first`, and how much each of its nats counts, float32 (B, n). Without it
                                    the tokens themselves, and each target counts 1. val/loss is the mean over these
                                    weights; val/bits_per_byte is left out, since it stands for the whole text

ARCHITECTURES, READS and WINDOW are literals, read without importing the file.

A `loss` is a mean, or a sum: where its metrics name a `weight`, everything it returns is a sum over targets, and a step
divides by the weight of the whole batch, whatever microbatches, devices and processes it is cut into.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

import jax
import numpy as np

from data.cache import TokenCache
from model.config import ModelConfig
from model.extras import Extras
from training.spec import OptimConfig, RunSpec

Batch = Any  # a tree of arrays whose first axis is B
Params = Any  # the model's tree of parameters


class Reader(Protocol):
    """The training batches of one process."""

    def from_token(self, tokens: int) -> Iterator[Batch]:
        """Batches from a position on, in the order of the data and the seed, without end.

        What is random in a batch is a function of the seed and of the position of each sequence in the order of the
        data (data/corruption.py), so that a restart, a pack and any number of processes read the same.
        """


class Objective(Protocol):
    """The functions of a file of this folder."""

    @staticmethod
    def reader(cache: TokenCache, spec: RunSpec, share: tuple[int, int]) -> Reader:
        """What a process reads that has share (index, count) of every batch."""

    @staticmethod
    def hyperparameters(optim: OptimConfig) -> dict[str, float]:
        """The numbers that `loss` finds in `hyper`: arguments of the compiled step, which runs that differ only in
        them share."""

    @staticmethod
    def loss(
        config: ModelConfig, params: Params, batch: Batch, hyper: Mapping[str, Any]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What training makes small, and what to log: {"loss": ...} in nats per target and other scalars by name; all
        means or (with "weight") sums. What blocks hand to the objective is added by `with_extras`."""

    @staticmethod
    def held_out_nats(config: ModelConfig, params: Params, batch: Batch) -> jax.Array:
        """Negative log likelihood of each target of the held-out slice, (B, T), or as the weights of `held_out`."""


def with_extras(
    objective: jax.Array, metrics: dict[str, Any], extras: Extras | None
) -> tuple[jax.Array, dict[str, Any]]:
    """A loss with the penalties of the blocks and what they log; "kept" is for the blocks' own `after_step`.

    Where the loss is a sum, so is what is added.
    """
    if extras is None:
        return objective, metrics
    if "weight" in metrics:
        extras = jax.tree.map(lambda value: value * metrics["weight"], extras)
    return objective + extras.penalty, {**metrics, **extras.logged, "kept": extras.kept}


def load(name: str) -> Objective:
    """The objective of a name that `RunSpec` has checked."""
    return cast(Objective, importlib.import_module(f"{__name__}.{name}"))


def example(spec: RunSpec, tokens_BS: np.ndarray | None = None) -> Batch:
    """A batch of a run as its step reads it: of these windows, or of zeros."""
    if tokens_BS is None:
        length = spec.data.sequence_length
        tokens_BS = np.zeros((spec.batch_tokens // length, length + 1), np.int32)
    own = getattr(load(spec.objective), "example", None)
    return own(spec, tokens_BS) if own else tokens_BS


def counts_whole_text(name: str) -> bool:
    """Whether the held-out loss is that of every token, so that it has bits per byte."""
    return not hasattr(load(name), "held_out")


def held_out_batch(
    spec: RunSpec, tokens_BS: np.ndarray, weights_BT: np.ndarray, first: int
) -> tuple[Batch, np.ndarray]:
    """What `held_out_nats` reads of held-out windows, and how much each of its nats counts.

    Args:
      weights_BT: 1 for each token, 0 in rows that fill up a last batch.
      first: number of the first window in the held-out slice.
    """
    own = getattr(load(spec.objective), "held_out", None)
    if own is None:
        return tokens_BS, weights_BT
    batch, weights = own(spec, tokens_BS, first)
    return batch, (weights * weights_BT[:, :1]).astype(np.float32)
