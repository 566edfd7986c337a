"""Predict the next token of text, the pretraining loss; with a penalty on the log-partition where optim.z_loss is set.

Source of the penalty: PaLM (Chowdhery et al. 2022, arXiv 2204.02311, section 5).
"""

from collections.abc import Mapping
from typing import Any

import jax

from data.cache import TokenCache
from data.loader import TrainLoader
from model.config import ModelConfig
from model.kernels.install import with_kernels
from model.transformer import Transformer
from training.objectives import Params, with_extras
from training.spec import OptimConfig, RunSpec
from training.text_reader import text

READS = ()


def reader(cache: TokenCache, spec: RunSpec, share: tuple[int, int]) -> TrainLoader:
    """Windows of T + 1 tokens, int32 (B, S)."""
    return text(cache, spec, share)


def hyperparameters(optim: OptimConfig) -> dict[str, float]:
    """The weight of the penalty."""
    return {"z_loss": optim.z_loss}


def loss(
    config: ModelConfig, params: Params, tokens_BS: jax.Array, hyper: Mapping[str, Any]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean loss plus z_loss times the mean squared log-partition and the penalties of blocks, and the mean loss alone;
    nats per token."""
    tokens_BT, targets_BT = tokens_BS[:, :-1], tokens_BS[:, 1:]
    model = with_kernels(Transformer(config, params), tokens_BT.shape)
    x_BTD, extras = model.hidden_and_extras(tokens_BT)
    objective, mean = model.head.objective(x_BTD, targets_BT, hyper["z_loss"])
    return with_extras(objective, {"loss": mean}, extras)


def held_out_nats(config: ModelConfig, params: Params, tokens_BS: jax.Array) -> jax.Array:
    """Negative log likelihood of each target, (B, T)."""
    tokens_BT, targets_BT = tokens_BS[:, :-1], tokens_BS[:, 1:]
    model = with_kernels(Transformer(config, params), tokens_BT.shape)
    nll_BT, _ = model.head.token_losses(model.hidden(tokens_BT), targets_BT)
    return nll_BT
