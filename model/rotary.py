"""Rotary positions (Su et al. 2021, arXiv 2104.09864): pair k of the two halves turns by t base^(-2k/K)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def rotate(x_BTHK: jax.Array, base: float, first: int = 0) -> jax.Array:
    """Every head turned by its position, in float32; positions are counted from `first`."""
    both = tables(first + x_BTHK.shape[1], x_BTHK.shape[3], base)
    return _turned(x_BTHK, *(table[first:, None, :] for table in both))


def _turned(x_BTHK: jax.Array, cosine: np.ndarray | jax.Array, sine: np.ndarray | jax.Array) -> jax.Array:
    first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x_BTHK.dtype)


def rotate_at(x_BTHK: jax.Array, position_BT: jax.Array, length: int, base: float) -> jax.Array:
    """As `rotate`, at these positions, all below `length`."""
    rows = (jnp.asarray(table)[position_BT][:, :, None] for table in tables(length, x_BTHK.shape[3], base))
    return _turned(x_BTHK, *rows)


@functools.lru_cache(maxsize=16)
def tables(length: int, head_width: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of every position and pair, (T, K / 2) float32.

    Constants of the program: left to the compiler, a cosine and a sine would be computed again for every element that
    turns, which was an eighth of a step of 1M parameters on the CPU.
    """
    frequency_K = base ** (-np.arange(0, head_width, 2, dtype=np.float64) / head_width)
    angle_TK = np.arange(length, dtype=np.float64)[:, None] * frequency_K
    return np.cos(angle_TK).astype(np.float32), np.sin(angle_TK).astype(np.float32)
