"""The one place where parameters and FLOPs are counted, off the parameter tree. Planning needs no JAX for it.

Tests hold the counts against closed forms, published sizes and the cost analysis of the compiled program.
"""

import functools
from typing import NamedTuple, TypedDict

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


class ModelLedger(TypedDict):
    """What one run writes to ledger.json."""

    params: ParameterCounts
    flops_per_token: FlopsPerToken


class _Counts(NamedTuple):
    """Of numbers: all parameters, those of tables, of blocks' matrices, and of all queries of a token."""

    total: int
    tables: int
    matrices: int
    queries: int


@functools.lru_cache(maxsize=4096)
def _counts(config: ModelConfig) -> _Counts:
    tree = layout(config)
    tables = sum(leaf.size for leaf in leaves(tree) if "vocabulary" in leaf.axes)
    matrices = [leaf for leaf in leaves(tree["blocks"]) if leaf.is_matrix]
    queries = config.depth * sum(leaf.shape[-1] for leaf in matrices if leaf.axes[-1] == "heads")
    return _Counts(
        sum(leaf.size for leaf in leaves(tree)), tables, sum(leaf.size for leaf in matrices), queries
    )


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Number of parameters under each convention."""
    counts = _counts(config)
    non_embedding = counts.total - counts.tables
    return {
        "total": counts.total,
        "non_embedding": non_embedding,
        "non_embedding_plus_head": non_embedding + config.vocabulary * config.width,
    }


def ledger(config: ModelConfig, sequence_length: int) -> ModelLedger:
    """Parameters, and training FLOPs (forward and backward) per token, under every convention.

    `exact` counts every matrix product, the head's among them, and the causal half of the two attention
    products. `palm` is 6 N + 12 L H K T (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) with N the
    weights that multiply every token (all blocks' matrices and the head) and all T positions attended. Both
    leave out what is not a matrix product, and what rematerialization computes twice.

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
    weights = product * (_counts(config).matrices + config.vocabulary * config.width)
    # Queries by keys and weights by values: two products of T for each number of a query.
    full_attention = product * 2 * _counts(config).queries * sequence_length
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
