"""What a run learns: one file an objective, chosen by its name in `RunSpec.objective`.

A file of this folder defines the functions of `Objective`; next_token.py is the example to copy.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

import jax

from data.cache import TokenCache
from data.config import DataConfig
from model.config import ModelConfig
from model.extras import Extras
from training.spec import OptimConfig

Batch = Any  # a tree of arrays whose first axis is B
Params = Any  # the model's tree of parameters


class Reader(Protocol):
    """The training batches of one process."""

    def from_token(self, tokens: int) -> Iterator[Batch]:
        """Batches from a position on, in the order of the data and the seed, without end."""


class Objective(Protocol):
    """The functions of a file of this folder."""

    @staticmethod
    def reader(
        cache: TokenCache, data: DataConfig, *, batch_tokens: int, seed: int, share: tuple[int, int]
    ) -> Reader:
        """What a process reads that has share (index, count) of every batch."""

    @staticmethod
    def hyperparameters(optim: OptimConfig) -> dict[str, float]:
        """The numbers that `loss` finds in `hyper`: arguments of the compiled step, which runs that differ only in
        them share."""

    @staticmethod
    def loss(
        config: ModelConfig, params: Params, batch: Batch, hyper: Mapping[str, Any]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What training makes small, and what to log: {"loss": ...} in nats per token, and other scalars by name.

        What blocks hand to the objective is added by `with_extras`.
        """

    @staticmethod
    def held_out_nats(config: ModelConfig, params: Params, tokens_BS: jax.Array) -> jax.Array:
        """Negative log likelihood of each target of the held-out slice, (B, T)."""


def with_extras(
    objective: jax.Array, metrics: dict[str, Any], extras: Extras | None
) -> tuple[jax.Array, dict[str, Any]]:
    """A loss with the penalties of the blocks and what they log; "kept" is for the blocks' own `after_step`."""
    if extras is None:
        return objective, metrics
    return objective + extras.penalty, {**metrics, **extras.logged, "kept": extras.kept}


def load(name: str) -> Objective:
    """The objective of a name that `RunSpec` has checked."""
    return cast(Objective, importlib.import_module(f"{__name__}.{name}"))
