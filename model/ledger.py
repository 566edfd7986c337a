"""The one place where parameters and FLOPs are counted. Plain Python: planning and analysis need no JAX.

Counts are closed forms of the configuration; tests hold them against a literal count over the parameter tree
and against the cost analysis of the compiled program.
"""

from typing import TypedDict

from core.errors import BadInput
from model.config import ModelConfig

FORWARD_AND_BACKWARD = 3  # each product of the forward pass has two of the same size in the backward pass
MULTIPLY_AND_ADD = 2


class ParameterCounts(TypedDict):
    """Numbers of scalars.

    total: every stored parameter. non_embedding: total without the embedding table and without an untied head.
    non_embedding_plus_head: non_embedding plus vocabulary x width, the head counted once whether it is tied or
    not, since it costs the same product either way (Porian et al. 2024, arXiv 2406.19146).
    """

    total: int
    non_embedding: int
    non_embedding_plus_head: int


FlopsPerToken = TypedDict(
    "FlopsPerToken",
    {
        "exact": float,
        "palm": float,
        "6N_total": float,
        "6N_non_embedding": float,
        "6N_non_embedding_plus_head": float,
    },
)


class Ledger(TypedDict):
    """What one run writes to ledger.json."""

    params: ParameterCounts
    flops_per_token: FlopsPerToken


def _block_matrix_parameters(config: ModelConfig) -> int:
    """Weights of one block that enter a matrix product."""
    head_width, ff_width = config.resolved_head_width, config.resolved_ff_width
    attention = config.width * head_width * (2 * config.heads + 2 * config.kv_heads)
    feed_forward = (3 if config.activation == "swiglu" else 2) * config.width * ff_width
    return attention + feed_forward


def _block_gains(config: ModelConfig) -> int:
    """Normalization gains of one block."""
    return 2 * config.width + (2 * config.resolved_head_width if config.qk_norm else 0)


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Number of parameters under each convention."""
    table = config.vocabulary * config.width
    blocks = config.depth * (_block_matrix_parameters(config) + _block_gains(config))
    non_embedding = blocks + config.width  # the final normalization's gain
    return {
        "total": non_embedding + table * (1 if config.tied else 2),
        "non_embedding": non_embedding,
        "non_embedding_plus_head": non_embedding + table,
    }


def matrix_parameters(config: ModelConfig) -> int:
    """Weights that multiply every token: all blocks' matrices and the head; no gains, no embedding look-up."""
    return config.depth * _block_matrix_parameters(config) + config.vocabulary * config.width


def ledger(config: ModelConfig, sequence_length: int) -> Ledger:
    """Parameters, and training FLOPs (forward and backward) per token, under every convention.

    `exact` counts every matrix product, the head's among them, and the causal half of the two attention
    products. `palm` is 6 N + 12 L H K T (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) with N the
    weights that enter matrix products (`matrix_parameters`) and all T positions attended. Both leave out what
    is not a matrix product, and what rematerialization computes twice.

    Args:
      config: the network.
      sequence_length: T, tokens in a training sequence.

    Raises:
      BadInput: the sequence length is below 1.
    """
    if sequence_length < 1:
        raise BadInput(f"sequence_length={sequence_length}: must be at least 1")
    params = parameter_counts(config)
    product = FORWARD_AND_BACKWARD * MULTIPLY_AND_ADD
    weights = product * matrix_parameters(config)
    # Queries by keys and weights by values: two products of T x K for each head of each layer.
    full_attention = product * 2 * config.depth * config.heads * config.resolved_head_width * sequence_length
    return {
        "params": params,
        "flops_per_token": {
            "exact": weights + full_attention / 2,
            "palm": float(weights + full_attention),
            "6N_total": 6.0 * params["total"],
            "6N_non_embedding": 6.0 * params["non_embedding"],
            "6N_non_embedding_plus_head": 6.0 * params["non_embedding_plus_head"],
        },
    }
