"""The two compiled programs of decoding: what a batch of prompts leaves behind, and some tokens more of every row.

Both take a leading member axis M of parameters and rows where the networks of a pack decode together.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from model.config import ModelConfig
from model.decode import cache as kept
from model.decode.draw import draw
from model.kernels.device import products_as
from model.parameters import Parameters

STEPS = 16  # tokens a row between two looks at what was generated
Rows = dict[str, Any]


def rows_of(
    seed: int, prompts: list[np.ndarray], written: list[np.ndarray], words: Any, samples: Any, width: int
) -> Rows:  # fmt: skip
    """What `start` takes of a batch.

    Args:
      prompts, written: tokens of each row: what it goes on from, and what was written since.
      words, samples: two numbers a row, uint32 (B,), that its random numbers follow from.
      width: P, positions that prompts are padded to.
    """
    tokens_BP = np.zeros((len(prompts), width), np.int32)
    for row, parts in enumerate(zip(prompts, written, strict=True)):
        both = np.concatenate(parts)
        tokens_BP[row, : len(both)] = both
    given_B = np.array([len(one) for one in prompts], np.int32)
    written_B = np.array([len(one) for one in written], np.int32)
    return {"tokens": tokens_BP, "given": given_B, "written": written_B, "keys": _keys(seed, words, samples)}


def padded(length: int, shortest: int = 16) -> int:
    """The width that prompts are padded to: a power of two."""
    return max(shortest, 1 << (length - 1).bit_length())


def positions(longest: int, most: int) -> int:
    """That are kept of each text: a padded prompt's, and `most` tokens more by whole numbers of `STEPS`."""
    return padded(longest) + -(-most // STEPS) * STEPS


def _keys(seed: int, words: np.ndarray, samples: np.ndarray) -> jax.Array:
    def key(word: jax.Array, sample: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), word), sample)

    return jax.vmap(key)(jnp.asarray(words), jnp.asarray(samples))


@functools.lru_cache(maxsize=32)
def start(config: ModelConfig, capacity: int, in_pack: bool = False) -> Callable[..., Rows]:
    """Compiled `(params, rows) -> state` after the prompts, for texts of up to `capacity` positions."""

    def begin(params: Parameters, rows: Rows) -> Rows:
        tokens_BP, length_B = rows["tokens"], rows["given"] + rows["written"]
        count, width = tokens_BP.shape
        cache = kept.empty(config, count, capacity)
        with products_as(config):
            model, x_BPD, cache = kept.hidden(config, params, cache, tokens_BP, jnp.zeros(count, jnp.int32))
            last_B1D = jnp.take_along_axis(x_BPD, length_B[:, None, None] - 1, axis=1)
            logits_BV = model.head(last_B1D)[:, 0]
        position_P = jnp.arange(width)
        given_BP = position_P < rows["given"][:, None]
        written_BP = ~given_BP & (position_P < length_B[:, None])

        def counts(tokens_P: Any, which_P: Any) -> Any:
            return jnp.zeros(config.vocabulary, jnp.int32).at[tokens_P].add(which_P)

        return {
            "cache": cache,
            "logits": logits_BV,
            "position": length_B,
            "keys": rows["keys"],
            "number": rows["written"],
            "prompt": jax.vmap(counts)(tokens_BP, given_BP.astype(jnp.int32)),
            "generated": jax.vmap(counts)(tokens_BP, written_BP.astype(jnp.int32)),
        }

    return jax.jit(jax.vmap(begin) if in_pack else begin)


@functools.lru_cache(maxsize=64)
def advance(
    config: ModelConfig, used: frozenset[str], in_pack: bool = False
) -> Callable[..., tuple[Rows, Rows]]:
    """Compiled `(params, state, values) -> (state, what was drawn, (STEPS, B) each)`; the state's memory is reused.

    Args:
      used: names of the controls that do something; `values` has their numbers.
    """

    def step(params: Parameters, values: dict[str, Any], state: Rows, _: None) -> Any:
        keys_B = jax.vmap(jax.random.fold_in)(state["keys"], state["number"])
        generated_BV, prompt_BV = state["generated"], state["prompt"]
        counts_BV = generated_BV + prompt_BV if "penalty_counts" in used else generated_BV
        drawn = draw(state["logits"], counts_BV, generated_BV + prompt_BV > 0, keys_B, used, values)
        token_B = drawn["token"]
        logits_B1V, cache = kept.scores(config, params, state["cache"], token_B[:, None], state["position"])
        following = {
            **state,
            "cache": cache,
            "logits": logits_B1V[:, 0],
            "position": state["position"] + 1,
            "number": state["number"] + 1,
            "generated": generated_BV.at[jnp.arange(len(token_B)), token_B].add(1),
        }
        return following, drawn

    def steps(params: Parameters, state: Rows, values: dict[str, Any]) -> Any:
        return jax.lax.scan(functools.partial(step, params, values), state, None, length=STEPS)

    return jax.jit(jax.vmap(steps, (0, 0, None)) if in_pack else steps, donate_argnums=1)
