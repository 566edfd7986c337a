"""Write the hidden spans of a window (Raffel et al. 2020, arXiv 1910.10683, T5): the loss of an encoder-decoder.

`mask_share` of the tokens are hidden in spans of mean length `span_mean`. The encoder reads what is left with a
sentinel for each span; the decoder begins with the first sentinel and predicts the first span, the next sentinel, the
second span, and so on. val/loss is the mean over all these targets, sentinels among them, of a held-out slice whose
spans are the same for every run of the same settings.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from data import corruption
from data.cache import TokenCache
from data.loader import TrainLoader
from model.config import ModelConfig
from training.objectives import Batch, Params
from training.objectives.prefix import held_out_nats, hyperparameters, loss_of_pair
from training.spec import RunSpec
from training.text_reader import text

__all__ = ["example", "held_out", "held_out_nats", "hyperparameters", "loss", "reader"]
ARCHITECTURES = ("encoder_decoder",)
READS = ("mask_share", "span_mean")
WINDOW = "span"
HELD_OUT_SEED = 20_191_023  # any constant: the same spans are hidden for every run


def _batch(spec: RunSpec, seed: int, tokens_BS: np.ndarray, first: int) -> Batch:
    """The window's T targets of a decoder, so that every token of the text is read once."""
    text_BT = tokens_BS[:, 1:]
    lengths = corruption.span_lengths(text_BT.shape[1], spec.mask_share, spec.span_mean)
    found = corruption.spans(text_BT, seed, first, lengths, spec.model.vocabulary - 1)
    return {"source": found.source, "tokens": found.target[:, :-1], "targets": found.target[:, 1:]}


def reader(cache: TokenCache, spec: RunSpec, share: tuple[int, int]) -> TrainLoader:
    """{"source": (B, U), "tokens": (B, T), "targets": (B, T)}, int32."""
    return text(cache, spec, share, functools.partial(_batch, spec, spec.seed))


def example(spec: RunSpec, tokens_BS: np.ndarray) -> Batch:
    return _batch(spec, 0, tokens_BS, 0)


def held_out(spec: RunSpec, tokens_BS: np.ndarray, first: int) -> tuple[Batch, np.ndarray]:
    """The fixed spans."""
    batch = _batch(spec, HELD_OUT_SEED, tokens_BS, first)
    return batch, np.ones(batch["targets"].shape, np.float32)


def loss(
    config: ModelConfig, params: Params, batch: Batch, hyper: Mapping[str, Any]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean loss of all targets plus the penalty, and the mean loss alone; nats per target."""
    return loss_of_pair(config, params, batch, hyper)
