"""The one place where parameters and FLOPs are counted, off the parameter tree. Planning needs no JAX for it.

Tests hold the counts against closed forms, published sizes and the cost analysis of the compiled program.
"""

import functools
from typing import NamedTuple, NotRequired, TypedDict

from core.errors import BadInput
from model.config import ModelConfig
from model.parameters import architecture, layout, leaves, reads_source
from model.window import Window, whole

FORWARD_AND_BACKWARD = 3  # each product of the forward pass has two of the same size in the backward pass
MULTIPLY_AND_ADD = 2


class ParameterCounts(TypedDict):
    """Numbers of scalars.

    total: every stored parameter. non_embedding: total without the embedding table and without an untied head.
    non_embedding_plus_head: non_embedding plus vocabulary x width, the head counted once whether it is tied or
    not, since it costs the same product either way (Porian et al. 2024, arXiv 2406.19146).
    Of experts, all but total count those alone that one token meets; active is total counted so, and is left out where
    every token meets everything.
    """

    total: int
    non_embedding: int
    non_embedding_plus_head: int
    active: NotRequired[int]


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
    """Of numbers: all parameters, those that one token meets, and those of tables."""

    total: int
    active: int
    tables: int


@functools.lru_cache(maxsize=4096)
def _counts(config: ModelConfig) -> _Counts:
    tree = layout(config)
    tables = sum(leaf.size for leaf in leaves(tree) if "vocabulary" in leaf.axes)
    return _Counts(sum(leaf.size for leaf in leaves(tree)), sum(leaf.active for leaf in leaves(tree)), tables)


class _Products(NamedTuple):
    """Multiplications of one window: of tokens with matrices, and of queries with keys, those that the mask leaves and
    all of them."""

    weights: int
    seen: float
    full: float


@functools.lru_cache(maxsize=4096)
def _products(config: ModelConfig, window: Window) -> _Products:
    weights, seen, full = config.vocabulary * config.width * window.predicted, 0.0, 0.0
    for name, leaf in layout(config)["blocks"].items():
        if not leaf.is_matrix:
            continue
        positions = window.source if reads_source(config, name) else window.read
        weights += leaf.active * positions
        if leaf.axes[-1] == "heads":
            numbers = config.depth * leaf.shape[-1]
            pairs = attention_pairs(config, name, window)
            seen, full = seen + numbers * pairs.seen, full + numbers * pairs.full
    return _Products(weights, seen, full)


class Pairs(NamedTuple):
    """Pairs of a query and a key of one layer and window: those that the mask leaves, and all of them."""

    seen: float
    full: float


def attention_pairs(config: ModelConfig, query: str, window: Window) -> Pairs:
    """Of the queries that a matrix of the block makes: as the file of model/blocks/ says, else causal (half of all)."""
    own = getattr(architecture(config), "attention_pairs", None)
    if own is not None:
        return Pairs(*own(config, query, window))
    return Pairs(window.read**2 / 2, window.read**2)


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Number of parameters under each convention."""
    counts = _counts(config)
    non_embedding = counts.active - counts.tables
    params: ParameterCounts = {
        "total": counts.total,
        "non_embedding": non_embedding,
        "non_embedding_plus_head": non_embedding + config.vocabulary * config.width,
    }
    return params if counts.active == counts.total else {**params, "active": counts.active}


def ledger(config: ModelConfig, sequence_length: int, window: Window | None = None) -> ModelLedger:
    """Parameters, and training FLOPs (forward and backward) per token, under every convention.

    `exact` counts every matrix product, the head's among them, and the causal half of the two attention
    products. `palm` is 6 N + 12 L H K T (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) with N the
    weights that multiply every token (all blocks' matrices and the head) and all T positions attended. Both
    leave out what is not a matrix product, and what rematerialization computes twice. An encoder attends to all
    pairs; of an encoder_decoder every matrix counts the tokens of its own stack. Of experts those count that one token
    meets, also in 6N_total; the router counts, and rows that fill up blocks do not.

    Args:
      config: the network.
      sequence_length: T, tokens in a training sequence.
      window: positions that each part computes; as `model.window.whole` by default.

    Raises:
      BadInput: the sequence length is below 1.
    """
    if sequence_length < 1:
        raise BadInput(f"sequence_length={sequence_length}: must be at least 1")
    params = parameter_counts(config)
    product = FORWARD_AND_BACKWARD * MULTIPLY_AND_ADD
    found = _products(config, window or whole(sequence_length))
    # Queries by keys and weights by values: two products for each number of a query.
    weights, seen, full = (
        product * count / sequence_length for count in (found.weights, 2 * found.seen, 2 * found.full)
    )
    return {
        "params": params,
        "flops_per_token": {
            "exact": weights + seen,
            "palm": weights + full,
            "6N_total": 6.0 * params.get("active", params["total"]),
            "6N_non_embedding": 6.0 * params["non_embedding"],
            "6N_non_embedding_plus_head": 6.0 * params["non_embedding_plus_head"],
        },
    }
