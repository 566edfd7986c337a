"""Loss on the fixed held-out slice: nats per token and bits per byte, with standard errors."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from data.cache import TokenCache
from data.config import DataConfig
from data.loader import validation_batches, validation_bytes
from training.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class Score:
    """One evaluated number: its value, the tokens it averages over, its standard error over sequences."""

    value: float
    n: int
    stderr: float


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The held-out slice in memory: batches of (tokens int32 (B, T+1), weights float32 (B, T)), and its bytes."""

    batches: tuple[tuple[np.ndarray, np.ndarray], ...]
    bytes: int


def held_out(cache: TokenCache, config: DataConfig, batch_sequences: int) -> HeldOut:
    """Read the held-out slice once; every evaluation of every run reads the same tokens."""
    return HeldOut(
        tuple(
            (batch.tokens, batch.weights)
            for batch in validation_batches(cache, config, batch_sequences=batch_sequences)
        ),
        validation_bytes(cache, config),
    )


def evaluation_sequences(spec: RunSpec, mesh: jax.sharding.Mesh) -> int:
    """Sequences of one evaluation batch: about 16,384 tokens, so that logits stay small, in whole shards."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    sequences = min(16_384, spec.data.validation_tokens) // spec.data.sequence_length
    return max(1, sequences // shards) * shards


def score_held_out(
    evaluation_step: Callable[[Any, Any, Any], jax.Array], params: Any, slice_: HeldOut
) -> dict[str, Score]:
    """val/loss in nats per token and val/bits_per_byte.

    Sums over sequences are float64 on the host. The standard error treats sequences as independent:
    sd(mean loss of a sequence) / sqrt(sequences).
    """
    pending = [evaluation_step(params, tokens, weights) for tokens, weights in slice_.batches]
    nats_S = np.concatenate([np.asarray(part, np.float64) for part in pending])
    counts_S = np.concatenate([weights.sum(axis=1, dtype=np.float64) for _, weights in slice_.batches])
    nats_S, counts_S = nats_S[counts_S > 0], counts_S[counts_S > 0]
    total = counts_S.sum()
    mean = nats_S.sum() / total
    residual_S = nats_S - mean * counts_S
    sequences = len(nats_S)
    stderr = math.sqrt(sequences / max(1, sequences - 1) * float(residual_S @ residual_S)) / total
    per_byte = total / slice_.bytes / math.log(2)
    return {
        "val/loss": Score(float(mean), int(total), stderr),
        "val/bits_per_byte": Score(float(mean * per_byte), int(total), float(stderr * per_byte)),
    }
