"""Bytes of the keys and values that decoding keeps. Pure numbers: planning counts them without JAX."""

from model.config import ITEM_BYTES, ModelConfig

ROWS = 8  # of a batch that is no larger; always as many, so that one program serves all
MOST_BYTES = 2**30  # keys and values of a batch


def cache_bytes(config: ModelConfig, rows: int, capacity: int) -> int:
    """Of `rows` texts of `capacity` positions: a key and a value for every layer, key head and position."""
    each = config.kv_heads * config.resolved_head_width * ITEM_BYTES[config.compute_dtype]
    return 2 * config.depth * rows * capacity * each


def rows_at_once(config: ModelConfig, capacity: int, members: int = 1) -> int:
    """Texts of each member of a pack that are decoded together, unless another number is asked for."""
    return max(1, min(ROWS, MOST_BYTES // (cache_bytes(config, 1, capacity) * members)))
