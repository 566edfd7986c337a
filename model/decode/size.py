"""What decoding keeps of one text: shapes and bytes. Pure numbers: planning counts them without JAX."""

import math

from model.config import ITEM_BYTES, ModelConfig
from model.parameters import architecture

Shapes = list[
    tuple[tuple[tuple[int, ...], str], ...]
]  # of each module that mixes positions, its arrays: shape, dtype


def kept_shapes(config: ModelConfig, capacity: int) -> Shapes:
    """Of one text of `capacity` positions and one layer: as the file of model/blocks/ says (`kept`), else a key and a
    value of every position and key head for each attention."""
    block = architecture(config)
    own = getattr(block, "kept", None)
    if own is not None:
        return list(own(config, capacity))
    attentions = sum(leaf.axes[-1] == "heads" for leaf in block.parameters(config).values() if leaf.is_matrix)
    one = ((capacity, config.kv_heads, config.resolved_head_width), config.compute_dtype)
    return [(one, one)] * attentions


ROWS = 8  # of a batch that is no larger; always as many, so that one program serves all
MOST_BYTES = 2**30  # keys and values of a batch


def cache_bytes(config: ModelConfig, rows: int, capacity: int) -> int:
    """Of `rows` texts of `capacity` positions, in all layers."""
    arrays = [array for module in kept_shapes(config, capacity) for array in module]
    return config.depth * rows * sum(math.prod(shape) * ITEM_BYTES[dtype] for shape, dtype in arrays)


def rows_at_once(config: ModelConfig, capacity: int, members: int = 1) -> int:
    """Texts of each member of a pack that are decoded together, unless another number is asked for."""
    return max(1, min(ROWS, MOST_BYTES // (cache_bytes(config, 1, capacity) * members)))
