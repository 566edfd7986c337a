"""Scores of tasks by networks that do not predict the next token of one stream.

An encoder gives each token of an answer its probability given the prompt and the answer's other tokens: with one token
hidden at a time, their logarithms add up to the pseudo-log-likelihood (Salazar et al. 2020, arXiv 1910.14659, eq. 2).
An answer counts as exact where each of its tokens is the likeliest so. An encoder_decoder reads the prompt as its
source and is scored on the answer as a decoder is. Neither sees padding: sequences of
one length and prompt share a batch.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from model import sharding
from model.config import ModelConfig, kind_of
from model.kernels.device import products_as
from model.transformer import Transformer

Scored = tuple[jax.Array, jax.Array, jax.Array]  # nll (B, n) and likeliest (B, n) of the answer, options (B, K)


@functools.lru_cache(maxsize=32)
def make_step(config: ModelConfig, mesh: jax.sharding.Mesh) -> Callable[..., tuple[Any, Any, Any]]:
    """As `score.make_task_step`, for sequences whose answers all begin at the same index; nll and likeliest tokens
    are 0 before it."""
    scored = _hidden_one_by_one if kind_of(config.architecture) == "encoder" else _written
    place = sharding.batch_sharding(mesh)

    def step(start: int, params: Any, tokens_BS: jax.Array, options_BK: jax.Array) -> tuple[Any, Any, Any]:
        with products_as(config):
            nll, likeliest, options = scored(Transformer(config, params), tokens_BS, start, options_BK)
        before = ((0, 0), (start - 1, 0))
        return jnp.pad(nll, before), jnp.pad(likeliest.astype(jnp.int32), before), options

    compiled = jax.jit(
        step,
        static_argnums=0,
        in_shardings=(sharding.parameter_shardings(config, mesh), place, place),
        out_shardings=sharding.everywhere(mesh),
    )

    def call(params: Any, tokens: np.ndarray, positions: np.ndarray, options: np.ndarray) -> Any:
        spread = (sharding.spread(mesh, array) for array in (tokens, options))
        return compiled(int(positions[0, 0]), params, *spread)

    return call


def _hidden_one_by_one(model: Transformer, tokens_BS: jax.Array, start: int, options_BK: jax.Array) -> Scored:
    mask = model.config.vocabulary - 1

    def at(index: jax.Array) -> Scored:
        here_B1D = jax.lax.dynamic_slice_in_dim(
            model.hidden(tokens_BS.at[:, index].set(mask)), index, 1, axis=1
        )
        logp_BV = jax.nn.log_softmax(model.head(here_B1D)[:, 0])
        own_B1 = jax.lax.dynamic_slice_in_dim(tokens_BS, index, 1, axis=1)
        nll_B = -jnp.take_along_axis(logp_BV, own_B1, axis=1)[:, 0]
        return nll_B, jnp.argmax(logp_BV, axis=1), jnp.take_along_axis(logp_BV, options_BK, axis=1)

    nll_nB, likeliest_nB, options_nBK = jax.lax.map(at, jnp.arange(start, tokens_BS.shape[1]))
    return nll_nB.T, likeliest_nB.T, options_nBK[0]


def _written(model: Transformer, tokens_BS: jax.Array, start: int, options_BK: jax.Array) -> Scored:
    # As in training: the decoder begins with the last token that is known.
    source_BU, read_Bn, answer_Bn = (
        tokens_BS[:, : max(1, start - 1)],
        tokens_BS[:, start - 1 : -1],
        tokens_BS[:, start:],
    )
    logp_BnV = jax.nn.log_softmax(model(read_Bn, source_BU))
    nll_Bn = -jnp.take_along_axis(logp_BnV, answer_Bn[..., None], axis=-1)[..., 0]
    return nll_Bn, jnp.argmax(logp_BnV, axis=-1), jnp.take_along_axis(logp_BnV[:, 0], options_BK, axis=1)
