"""Tables of rotary positions (Su et al. 2021, arXiv 2104.09864): pair k of the two halves turns by t base^(-2k/K)."""

import functools

import numpy as np


@functools.lru_cache(maxsize=16)
def tables(length: int, head_width: int, base: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of every position and pair, (T, K / 2) float32.

    Constants of the program: left to the compiler, a cosine and a sine would be computed again for every element that
    turns, which was an eighth of a step of 1M parameters on the CPU.
    """
    frequency_K = base ** (-np.arange(0, head_width, 2, dtype=np.float64) / head_width)
    angle_TK = np.arange(length, dtype=np.float64)[:, None] * frequency_K
    return np.cos(angle_TK).astype(np.float32), np.sin(angle_TK).astype(np.float32)
