"""How many rows the blocks of a mixture of experts have, from counts alone: planning counts with them, without JAX."""

from model.config import ModelConfig

LARGEST_BLOCK, SMALLEST_BLOCK = 64, 8


def rows_of_block(choices: int, experts: int) -> int:
    """Q: 64, or a smaller power of two where an expert has fewer choices on average."""
    mean = max(1, choices // experts)
    return max(SMALLEST_BLOCK, min(LARGEST_BLOCK, 1 << (mean - 1).bit_length()))


def block_count(choices: int, experts: int, rows: int) -> int:
    """P: blocks of `rows` that are enough however the choices fall."""
    return min(choices, (choices + experts * (rows - 1)) // rows)


def rows_a_token(config: ModelConfig, tokens: int) -> float:
    """Rows of all blocks for each of so many tokens: the experts that it meets, and what fills up blocks."""
    choices = tokens * config.resolved_experts_per_token
    rows = rows_of_block(choices, config.resolved_experts)
    return block_count(choices, config.resolved_experts, rows) * rows / tokens
