"""The one place where parameters and FLOPs are counted, off the parameter tree. Planning needs no JAX for it.

Tests hold the counts against closed forms, published sizes and the cost analysis of the compiled program.
"""

from typing import TypedDict

from core.errors import BadInput
from model.config import ModelConfig
from model.parameters import layout, leaves

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


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Number of parameters under each convention."""
    total = tables = 0
    for leaf in leaves(layout(config)):
        total += leaf.size
        tables += leaf.size if "vocabulary" in leaf.axes else 0
    return {
        "total": total,
        "non_embedding": total - tables,
        "non_embedding_plus_head": total - tables + config.vocabulary * config.width,
    }


def matrix_parameters(config: ModelConfig) -> int:
    """Weights that multiply every token: all blocks' matrices and the head; no gains, no embedding look-up."""
    blocks = leaves(layout(config)["blocks"])
    return sum(leaf.size for leaf in blocks if leaf.is_matrix) + config.vocabulary * config.width


def attended_width(config: ModelConfig) -> int:
    """Numbers of all queries of a token, over all layers: what matrices that write the axis `heads` make."""
    queries = (leaf for leaf in leaves(layout(config)["blocks"]) if leaf.axes[-1] == "heads")
    return config.depth * sum(leaf.shape[-1] for leaf in queries)


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
    full_attention = product * 2 * attended_width(config) * sequence_length
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
