"""What is done to the scores of the next token before one is drawn.

In this order, as the library transformers does it: penalties, temperature, top-k, top-p, min-p. Frequency and presence
penalties are OpenAI's, who count what was generated; `penalty_counts` says whether the prompt counts too.
"""

from typing import Any

import jax
import jax.numpy as jnp


def penalized(
    logits_BV: jax.Array, counts_BV: jax.Array, seen_BV: jax.Array, used: frozenset[str], values: dict[str, Any]
) -> jax.Array:
    """Scores with the three penalties.

    Args:
      counts_BV: how often each token was there, as `penalty_counts` says; seen_BV: whether it was in prompt or answer.
    """
    if "repetition_penalty" in used:
        factor = values["repetition_penalty"]
        scaled_BV = jnp.where(logits_BV < 0, logits_BV * factor, logits_BV / factor)
        logits_BV = jnp.where(seen_BV, scaled_BV, logits_BV)
    if "frequency_penalty" in used:
        logits_BV -= counts_BV * values["frequency_penalty"]
    if "presence_penalty" in used:
        logits_BV -= (counts_BV > 0) * values["presence_penalty"]
    return logits_BV


def warped(logits_BV: jax.Array, used: frozenset[str], values: dict[str, Any]) -> jax.Array:
    """Scores divided by the temperature, and -inf for tokens that top-k, top-p or min-p take away."""
    if "temperature" in used:
        logits_BV = logits_BV / values["temperature"]
    if "top_k" in used:
        vocabulary = logits_BV.shape[-1]
        ascending_BV = jnp.sort(logits_BV, axis=-1)
        kth = vocabulary - jnp.minimum(values["top_k"], vocabulary)
        logits_BV = _without(logits_BV, logits_BV < jnp.take(ascending_BV, kth, axis=-1)[..., None])
    if "top_p" in used:
        order_BV = jnp.argsort(logits_BV, axis=-1)
        ascending_BV = jnp.take_along_axis(jax.nn.softmax(logits_BV, axis=-1), order_BV, axis=-1)
        below_BV = jnp.cumsum(ascending_BV, axis=-1) <= 1 - values["top_p"]
        below_BV = below_BV.at[..., -1].set(False)  # the likeliest stays
        logits_BV = _without(logits_BV, jnp.take_along_axis(below_BV, jnp.argsort(order_BV, axis=-1), axis=-1))
    if "min_p" in used:
        probabilities_BV = jax.nn.softmax(logits_BV, axis=-1)
        least_B1 = values["min_p"] * probabilities_BV.max(axis=-1, keepdims=True)
        logits_BV = _without(logits_BV, probabilities_BV < least_B1)
    return logits_BV


def _without(logits_BV: jax.Array, dropped_BV: jax.Array) -> jax.Array:
    return jnp.where(dropped_BV, -jnp.inf, logits_BV)


def draw(
    logits_BV: jax.Array, counts_BV: jax.Array, seen_BV: jax.Array, keys_B: jax.Array, used: frozenset[str],
    values: dict[str, Any],
) -> dict[str, jax.Array]:  # fmt: skip
    """One token a row: "token", its "probability" among those that were left, how many were "kept", the probability
    that the network gave to those that were "removed", and the "logprob" that it gives to the token (nats)."""
    allowed_BV = logits_BV
    if "known" in used:  # rows of the table that stand for no token of the tokenizer
        allowed_BV = _without(logits_BV, jnp.arange(logits_BV.shape[-1]) >= values["known"])
    scores_BV = penalized(allowed_BV, counts_BV, seen_BV, used, values)
    if "greedy" in used:
        token_B = jnp.argmax(scores_BV, axis=-1)
        probability_B = jnp.ones(token_B.shape)
        left_BV = jnp.arange(scores_BV.shape[-1]) == token_B[:, None]
    else:
        scores_BV = warped(scores_BV, used, values)
        token_B = jax.vmap(jax.random.categorical)(keys_B, scores_BV)
        probability_B = _at(jax.nn.softmax(scores_BV, axis=-1), token_B)
        left_BV = jnp.isfinite(scores_BV)
    return {
        "token": token_B.astype(jnp.int32),
        "probability": probability_B,
        "kept": left_BV.sum(axis=-1),
        "removed": jnp.where(left_BV, 0, jax.nn.softmax(logits_BV, axis=-1)).sum(axis=-1),
        "logprob": _at(jax.nn.log_softmax(logits_BV, axis=-1), token_B),
    }


def _at(array_BV: jax.Array, token_B: jax.Array) -> jax.Array:
    return jnp.take_along_axis(array_BV, token_B[:, None], axis=-1)[:, 0]
