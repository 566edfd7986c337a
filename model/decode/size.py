"""Bytes of the keys and values that decoding keeps. Pure numbers: planning counts them without JAX."""

from model.config import ITEM_BYTES, ModelConfig


def cache_bytes(config: ModelConfig, rows: int, capacity: int) -> int:
    """Of `rows` texts of `capacity` positions: a key and a value for every layer, key head and position."""
    each = config.kv_heads * config.resolved_head_width * ITEM_BYTES[config.compute_dtype]
    return 2 * config.depth * rows * capacity * each
