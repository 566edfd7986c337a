"""The loss of targets that count unequally, as sums: a step divides them by the weight of its whole batch."""

import jax
import jax.numpy as jnp

from model.transformer import Transformer


def sums(
    model: Transformer, x: jax.Array, targets_BT: jax.Array, weights_BT: jax.Array, z_loss: jax.Array | float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum over targets of weight times (loss + z_loss times the squared log-partition); {"loss", "weight"} are the sums
    of weight times loss, in nats, and of weights.

    Args:
      x: what the head reads, of the targets' positions.
      weights_BT: of each target, 0 for one that does not count.
    """
    nll_BT, logz_BT = model.head.token_losses(x, targets_BT)
    nats = jnp.sum(weights_BT * nll_BT)
    penalty = jnp.sum(weights_BT * jnp.square(logz_BT))
    return nats + z_loss * penalty, {"loss": nats, "weight": jnp.sum(weights_BT)}
