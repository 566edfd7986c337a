"""Predict hidden tokens from both sides (Devlin et al. 2019, arXiv 1810.04805): the loss of an encoder.

`mask_share` of a window's tokens are chosen; they read as the mask token, a share `mask_random` of them as a random
token and a share `mask_kept` as themselves. val/loss is the mean over a fixed 15% of the held-out slice, all of which
read as the mask token: the same targets and the same question for every masked run, whatever its settings. It is not
comparable with the loss of a decoder, which sees one side.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data import corruption
from data.cache import TokenCache
from data.loader import TrainLoader
from model.config import ModelConfig
from model.kernels.install import with_kernels
from model.transformer import Transformer
from training.objectives import Batch, Params
from training.objectives.next_token import hyperparameters
from training.spec import RunSpec
from training.text_reader import text

__all__ = ["example", "held_out", "held_out_nats", "hyperparameters", "loss", "reader"]
ARCHITECTURES = ("encoder",)
READS = ("mask_share", "mask_random", "mask_kept")
WINDOW = "masked"
HELD_OUT_SHARE, HELD_OUT_SEED = 0.15, 20_181_011  # any constant: the same tokens are hidden for every run


def _batch(spec: RunSpec, known: int, tokens_BS: np.ndarray, first: int) -> dict[str, np.ndarray]:
    """The window's T targets of a decoder, so that every token of the text is read once."""
    hidden = corruption.masked(
        tokens_BS[:, 1:], spec.seed, first, count=spec.plan.window.predicted, mask=spec.model.vocabulary - 1,
        known=known, random=spec.mask_random, kept=spec.mask_kept,
    )  # fmt: skip
    return hidden._asdict()


def reader(cache: TokenCache, spec: RunSpec, share: tuple[int, int]) -> TrainLoader:
    """{"tokens": (B, T), "positions": (B, n), "targets": (B, n)}, int32; n of T positions are predicted."""
    return text(cache, spec, share, functools.partial(_batch, spec, cache.vocabulary))


def example(spec: RunSpec, tokens_BS: np.ndarray) -> Batch:
    return _batch(spec, 1, tokens_BS, 0)


def held_out(spec: RunSpec, tokens_BS: np.ndarray, first: int) -> tuple[Batch, np.ndarray]:
    """The fixed mask."""
    count = corruption.masked_count(tokens_BS.shape[1] - 1, HELD_OUT_SHARE)
    hidden = corruption.masked(
        tokens_BS[:, 1:],
        HELD_OUT_SEED,
        first,
        count=count,
        mask=spec.model.vocabulary - 1,
        known=1,
        random=0,
        kept=0,
    )
    return hidden._asdict(), np.ones(hidden.targets.shape, np.float32)


def loss(
    config: ModelConfig, params: Params, batch: Batch, hyper: Mapping[str, Any]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean loss of hidden tokens plus the penalty, and the mean loss alone; nats per hidden token."""
    model, x_BnD = _hidden(config, params, batch)
    objective, mean = model.head.objective(x_BnD, batch["targets"], hyper["z_loss"])
    return objective, {"loss": mean}


def held_out_nats(config: ModelConfig, params: Params, batch: Batch) -> jax.Array:
    """Negative log likelihood of each hidden token, (B, n)."""
    model, x_BnD = _hidden(config, params, batch)
    return model.head.token_losses(x_BnD, batch["targets"])[0]


def _hidden(config: ModelConfig, params: Params, batch: Batch) -> Any:
    """The network, and what its head reads at the hidden positions."""
    model = with_kernels(Transformer(config, params), batch["targets"].shape)
    x_BTD = model.hidden(batch["tokens"])
    return model, jnp.take_along_axis(x_BTD, batch["positions"][..., None], axis=1)
