"""Attention to the last W positions, and the ring of keys and values that decoding keeps.

Axes: N windows of a sequence, W positions of one; S new positions of a text, and C = W slots of its ring.
"""

import functools

import jax
import jax.numpy as jnp

from model import parametrization, rotary
from model.config import ModelConfig
from model.parameters import Parameters
from model.transformer import Attention, Block


class WindowAttention(Attention):
    """`Attention` of which a position sees itself and the W - 1 positions before."""

    def mix(self, q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, scale: float) -> jax.Array:
        window, length = self.config.window, q_BTHK.shape[1]
        if window >= length:
            return super().mix(q_BTHK, k_BTGK, v_BTGK, scale)
        if 2 * window >= length:
            return jax.nn.dot_product_attention(
                q_BTHK, k_BTGK, v_BTGK, scale=scale, is_causal=True, local_window_size=(window - 1, 0),
                implementation="xla",
            )  # fmt: skip
        return in_windows(q_BTHK, k_BTGK, v_BTGK, scale, window)


def in_windows(q_BTHK: jax.Array, k_BTGK: jax.Array, v_BTGK: jax.Array, scale: float, window: int) -> jax.Array:
    """Queries a window at a time, each with the keys of its own window and of the one before: 2 W scores a query."""
    batch, length = q_BTHK.shape[:2]
    count = -(-length // window)

    def cut(x: jax.Array) -> jax.Array:
        """(B, N, W, ...), padded with zeros behind."""
        padded = jnp.pad(x, ((0, 0), (0, count * window - length), (0, 0), (0, 0)))
        return padded.reshape(batch, count, window, *x.shape[2:])

    def with_earlier(x_BNWGK: jax.Array) -> jax.Array:
        """(B N, 2 W, G, K): each window behind the one before, which is padding for the first."""
        earlier = jnp.pad(x_BNWGK, ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))[:, :-1]
        joined = jnp.concatenate([earlier, x_BNWGK], axis=2)
        return joined.reshape(batch * count, 2 * window, *joined.shape[3:])

    query, key = jnp.arange(window)[:, None] + window, jnp.arange(2 * window)
    seen = (key <= query) & (key > query - window)  # (W, 2 W)
    first = seen & (key >= window)
    seen_NWC = jnp.where((jnp.arange(count) == 0)[:, None, None], first, seen)
    mixed = jax.nn.dot_product_attention(
        cut(q_BTHK).reshape(batch * count, window, *q_BTHK.shape[2:]),
        with_earlier(cut(k_BTGK)),
        with_earlier(cut(v_BTGK)),
        mask=jnp.tile(seen_NWC, (batch, 1, 1))[:, None],
        scale=scale,
        implementation="xla",
    )
    return mixed.reshape(batch, count * window, *mixed.shape[2:])[:, :length]


class WindowBlock(Block):
    """The decoder's block with `WindowAttention`."""

    def __init__(self, config: ModelConfig, params: Parameters):
        super().__init__(config, params)
        self.attention = WindowAttention(config, params)


class ResumedWindow(WindowAttention):
    """Attention of S new positions of each row over its ring and over themselves.

    Position p lies in slot p mod C of the ring, its key not yet turned: scores depend on differences of positions,
    so all are counted from the oldest slot.

    Attributes:
      start_B: position of each row's first new token. count_B: how many of its new tokens are not padding.
      kept: keys and values, (B, C, G, K) each.
    """

    start_B: jax.Array
    count_B: jax.Array
    kept: tuple[jax.Array, jax.Array]

    def __call__(self, x_BSD: jax.Array) -> jax.Array:
        q_BSHK, *fresh = self.projections(x_BSD)
        slots, new = self.kept[0].shape[1], x_BSD.shape[1]
        start_B1 = self.start_B[:, None]
        held_BC = _newest(start_B1, slots)
        place_BX = jnp.concatenate([held_BC, start_B1 + jnp.arange(new)], axis=1)  # X = C + S
        ago_BSX = place_BX[:, slots:, None] - place_BX[:, None]
        seen_BSX = (ago_BSX >= 0) & (ago_BSX < self.config.window) & (place_BX >= 0)[:, None]
        turn = functools.partial(rotary.rotate_at, length=slots + new, base=self.config.rope_base)
        offset_BX = place_BX - start_B1 + slots
        keys_BXGK, values_BXGK = (
            jnp.concatenate([old, one.astype(old.dtype)], axis=1)
            for old, one in zip(self.kept, fresh, strict=True)
        )
        mixed_BSHK = jax.nn.dot_product_attention(
            turn(q_BSHK, offset_BX[:, slots:]), turn(keys_BXGK, offset_BX), values_BXGK, mask=seen_BSX[:, None],
            scale=1 / parametrization.attention_divisor(self.config), implementation="xla",
        )  # fmt: skip
        # What each slot holds now: of the new positions that belong into it the last one, else what it held.
        now_BC = _newest(start_B1 + self.count_B[:, None], slots)
        from_BC = jnp.where(now_BC >= start_B1, slots + now_BC - start_B1, jnp.arange(slots))
        row_B1 = jnp.arange(x_BSD.shape[0])[:, None]
        self.kept = (keys_BXGK[row_B1, from_BC], values_BXGK[row_B1, from_BC])
        return self.merged(mixed_BSHK)


def _newest(end_B1: jax.Array, slots: int) -> jax.Array:
    """The last position before `end_B1` that belongs into each slot, (B, C); negative where there is none."""
    return end_B1 - 1 - (end_B1 - 1 - jnp.arange(slots)) % slots
