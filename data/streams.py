"""The arrays of a token cache: memory-mapped, checked before they are read, cut into windows."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

NEAR = "near"  # the ending of a file of similarities


class Windows:
    """A stream cut into windows that share their ends: window i is [i T, i T + T]. Nothing is copied but what is read.

    Args:
      stream: numbers. (n,)
      length: T.
      check: called with the first bytes of the windows that are about to be read, and their length in bytes.
    """

    def __init__(self, stream: np.ndarray, length: int, check: Callable[..., None] | None = None) -> None:
        count = (len(stream) - 1) // length
        self._view = np.lib.stride_tricks.sliding_window_view(np.asarray(stream), length + 1)[::length][:count]
        self._check, self._bytes = check, stream.dtype.itemsize

    def __len__(self) -> int:
        return len(self._view)

    @property
    def width(self) -> int:
        """T + 1."""
        return self._view.shape[1]

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        """The windows at these places, int32 (len(chosen), T + 1)."""
        if self._check is not None and len(chosen):
            self._check(np.asarray(chosen) * ((self.width - 1) * self._bytes), self.width * self._bytes)
        return self._view[chosen].astype(np.int32)


class CheckedArray:
    """A file of numbers, memory-mapped.

    Args:
      check: of a stretch of bytes, or of the whole file where none is given; raises where it is damaged.
    """

    def __init__(self, path: Path, dtype: np.dtype, check: Callable[..., None]) -> None:
        self._array, self._check = _map(path, dtype), check

    def __len__(self) -> int:
        return len(self._array)

    def whole(self) -> np.ndarray:
        """All numbers, checked."""
        self._check()
        return self._array

    def windows(self, length: int) -> Windows:
        """The stream as windows of `length` and the one number after, (N, length + 1)."""
        return Windows(self._array, length, self._check)


class TokenSplit:
    """One split of a cache. Its arrays are memory-mapped, and checked as they are asked for.

    Args:
      arrays: of its files by ending: tokens, offsets, and bytes and near where there is one.

    Attributes:
      token_count: tokens, separators included.
      byte_count: UTF-8 bytes of all its documents.
    """

    def __init__(self, arrays: Mapping[str, CheckedArray], token_count: int, byte_count: int) -> None:
        self._arrays, self.token_count, self.byte_count = arrays, token_count, byte_count

    @property
    def stream(self) -> CheckedArray:
        """The stream, each part checked where it is read for the first time; of any length in little memory."""
        return self._arrays["tokens"]

    @property
    def tokens(self) -> np.ndarray:
        """The stream; uint8, uint16 or uint32, whichever just holds the vocabulary. (token_count,)"""
        return self.stream.whole()

    @property
    def document_offsets(self) -> np.ndarray:
        """Where each document starts in `tokens`, and the end; int64 (documents + 1,)."""
        return self._arrays["offsets"].whole()

    @property
    def token_bytes(self) -> np.ndarray | None:
        """UTF-8 bytes that each token stands for, uint32 (token_count,); None for train, and for bytes, where it is 1
        for every token but the separator."""
        return self._arrays["bytes"].whole() if "bytes" in self._arrays else None

    @property
    def near(self) -> np.ndarray | None:
        """Of each held-out document the largest Jaccard similarity with a training document, float32 (documents,); 0
        where it is below the first threshold and was not found. None for train, and in caches from before it was
        counted."""
        return self._arrays[NEAR].whole() if NEAR in self._arrays else None


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    """A read-only view of a file; an empty file, which cannot be mapped, is an empty array."""
    if not os.path.getsize(path):
        return np.zeros(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")
