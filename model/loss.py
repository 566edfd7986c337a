"""Cross-entropy of the next token."""

import jax
import jax.numpy as jnp

Pair = tuple[jax.Array, jax.Array]


def cross_entropy(logits_BTV: jax.Array, targets_BT: jax.Array) -> Pair:
    """Negative log likelihood of each target and log of each position's partition sum; (B, T) float32, nats.

    The square of the second is the z-loss (Chowdhery et al. 2022, arXiv 2204.02311, section 5).
    """
    logz_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    target_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    return logz_BT - target_BT, logz_BT
