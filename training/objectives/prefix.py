"""Go on with a text whose beginning is given: prefix language modelling (Liu et al. 2018; Raffel et al. 2020).

The first `source_share` of a window is the source, the rest the target; val/loss is the mean over the target's tokens.
An encoder_decoder reads the source with its encoder. A decoder reads all of it in one stream, causally, and may learn
the source's tokens too (`source_weight`; with 1 it trains on the loss of next_token). Both are asked for the same
tokens given the same text, so their losses compare.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from data.cache import TokenCache
from data.loader import TrainLoader
from model.config import ModelConfig, kind_of
from model.kernels.install import with_kernels
from model.transformer import Transformer
from training import weighted
from training.objectives import Batch, Params, with_extras
from training.objectives.next_token import hyperparameters
from training.spec import RunSpec
from training.text_reader import text
from training.window import prefix_length

__all__ = ["example", "held_out", "held_out_nats", "hyperparameters", "loss", "loss_of_pair", "reader"]
ARCHITECTURES = ("decoder", "encoder_decoder")
READS = ("source_share", "source_weight")
WINDOW = "prefix"


def _batch(spec: RunSpec, source_weight: float, tokens_BS: np.ndarray, first: int = 0) -> Batch:
    """{"tokens", "targets", "weights"} of a decoder, (B, T); {"source", "tokens", "targets"} of an encoder_decoder."""
    source = prefix_length(tokens_BS.shape[1] - 1, spec.source_share)
    if kind_of(spec.model.architecture) == "encoder_decoder":
        return {
            "source": tokens_BS[:, :source],
            "tokens": tokens_BS[:, source:-1],
            "targets": tokens_BS[:, source + 1 :],
        }
    weights = np.ones((len(tokens_BS), tokens_BS.shape[1] - 1), np.float32)
    weights[:, :source] = source_weight
    return {"tokens": tokens_BS[:, :-1], "targets": tokens_BS[:, 1:], "weights": weights}


def reader(cache: TokenCache, spec: RunSpec, share: tuple[int, int]) -> TrainLoader:
    """Windows as source and target."""
    return text(cache, spec, share, functools.partial(_batch, spec, spec.source_weight))


def example(spec: RunSpec, tokens_BS: np.ndarray) -> Batch:
    return _batch(spec, spec.source_weight, tokens_BS)


def held_out(spec: RunSpec, tokens_BS: np.ndarray, first: int) -> tuple[Batch, np.ndarray]:
    """The target's tokens count."""
    batch = _batch(spec, 0.0, tokens_BS)
    return batch, batch.get("weights", np.ones(batch["targets"].shape, np.float32))


def loss(
    config: ModelConfig, params: Params, batch: Batch, hyper: Mapping[str, Any]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of the weighted targets plus the penalty, and the loss alone: sums for a decoder, else means; nats."""
    if "source" in batch:
        return loss_of_pair(config, params, batch, hyper)
    model = with_kernels(Transformer(config, params), batch["tokens"].shape)
    x_BTD, extras = model.hidden_and_extras(batch["tokens"])
    sums = weighted.sums(model, x_BTD, batch["targets"], batch["weights"], hyper["z_loss"])
    return with_extras(*sums, extras)


def loss_of_pair(
    config: ModelConfig, params: Params, batch: Batch, hyper: Mapping[str, Any]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean over all targets of a source and its target."""
    model = with_kernels(Transformer(config, params), batch["tokens"].shape)
    x_BTD = model.hidden(batch["tokens"], batch["source"])
    objective, mean = model.head.objective(x_BTD, batch["targets"], hyper["z_loss"])
    return objective, {"loss": mean}


def held_out_nats(config: ModelConfig, params: Params, batch: Batch) -> jax.Array:
    """Negative log likelihood of each target, (B, T)."""
    model = with_kernels(Transformer(config, params), batch["tokens"].shape)
    return model.head.token_losses(model.hidden(batch["tokens"], batch.get("source")), batch["targets"])[0]
