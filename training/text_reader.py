"""The training text as batches of an objective: windows in the order of the data, each changed on the host."""

from collections.abc import Callable
from typing import Any

import numpy as np

from data.cache import TokenCache
from data.loader import TrainLoader
from training.spec import RunSpec

Change = Callable[
    [np.ndarray, int], Any
]  # (tokens_BS, position of the first window in the order) -> a tree of arrays


def text(cache: TokenCache, spec: RunSpec, share: tuple[int, int], change: Change | None = None) -> TrainLoader:
    """Windows of T + 1 tokens, int32 (B, S), or what `change` makes of them in the thread that reads ahead.

    Args:
      share: (index, count), which part of every batch.
    """
    index, count = share
    return TrainLoader(
        cache, spec.data, batch_tokens=spec.batch_tokens, seed=spec.seed, process_index=index, process_count=count,
        change=change,
    )  # fmt: skip
