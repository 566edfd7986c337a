"""Loss on the fixed held-out slice: nats per token and bits per byte, with standard errors."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from data.cache import TokenCache
from data.config import DataConfig
from data.loader import clean_windows, validation_batches, validation_bytes
from data.mixture import parse_mixture
from model.mesh_shape import batch_parts
from training.objectives import counts_whole_text, held_out_batch
from training.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class Score:
    """One evaluated number: its value, the tokens it averages over, its standard error over sequences."""

    value: float
    n: int
    stderr: float


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The held-out slice in memory: batches of (tokens int32 (B, T+1), weights float32 (B, T)), and its bytes.

    Attributes:
      bytes: that all weighted targets stand for; 0 where they are not the whole text.
      parts: of each corpus of a mixture its own slice, by its label.
      fingerprint: SHA-256 over its tokens and weights.
      clean: by threshold, which sequences have no near-duplicate in the training text (S,), and their bytes.
    """

    batches: tuple[tuple[Any, np.ndarray], ...]
    bytes: int
    fingerprint: str = ""
    clean: Mapping[str, tuple[np.ndarray, int]] = dataclasses.field(default_factory=dict)
    parts: "Mapping[str, HeldOut]" = dataclasses.field(default_factory=dict)


def held_out(cache: TokenCache, config: DataConfig, batch_sequences: int) -> HeldOut:
    """Read the held-out slice once; every evaluation of every run reads the same tokens."""
    batches = tuple(
        (batch.tokens, batch.weights)
        for batch in validation_batches(cache, config, batch_sequences=batch_sequences)
    )
    digest = hashlib.sha256()
    for tokens, weights in batches:
        kept = weights.any(axis=1)  # sequences that fill the last batch up are none
        for array in (tokens[kept], weights[kept]):
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return HeldOut(
        batches,
        validation_bytes(cache, config),
        digest.hexdigest(),
        {} if config.mixture else clean_windows(cache, config),  # counted within one corpus
        {
            part.label: held_out(own, one, batch_sequences)
            for part, own, one in zip(parse_mixture(config.mixture), cache.mixture, config.parts(), strict=True)
        },
    )


def as_read(slice_: HeldOut, spec: RunSpec) -> HeldOut:
    """The slice as the objective of a run reads it: the same for every run of the same settings."""
    if counts_whole_text(spec.objective):
        return slice_
    batches, first = [], 0
    for tokens, weights in slice_.batches:
        batches.append(held_out_batch(spec, tokens, weights, first))
        first += len(tokens)
    clean = {name: (chosen, 0) for name, (chosen, _) in slice_.clean.items()}
    parts = {label: as_read(part, spec) for label, part in slice_.parts.items()}
    asked = f"{slice_.fingerprint} {spec.objective} {sorted(spec.objective_settings.items())}"
    fingerprint = hashlib.sha256(asked.encode()).hexdigest()
    return HeldOut(tuple(batches), 0, fingerprint, clean, parts)


def evaluation_sequences(spec: RunSpec, mesh: jax.sharding.Mesh) -> int:
    """Sequences of one evaluation batch: about 16,384 tokens, so that logits stay small, in whole shards."""
    shards = batch_parts(tuple(mesh.shape.values()))
    sequences = min(16_384, spec.data.validation_tokens) // spec.data.sequence_length
    return max(1, sequences // shards) * shards


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Of each held-out sequence its nats and the number of its targets, float64 (S,)."""

    nats_S: np.ndarray
    targets_S: np.ndarray


def score_each(
    evaluation_step: Callable[[Any, Any, Any], jax.Array], params: Any, slice_: HeldOut
) -> Sequences:
    """The held-out sequences of a slice, summed on the device; those without a target are left out."""
    pending = [evaluation_step(params, tokens, weights) for tokens, weights in slice_.batches]
    nats_S = np.concatenate([np.asarray(part, np.float64) for part in pending])
    counts_S = np.concatenate([weights.sum(axis=1, dtype=np.float64) for _, weights in slice_.batches])
    return Sequences(nats_S[counts_S > 0], counts_S[counts_S > 0])


def score_held_out(
    evaluation_step: Callable[[Any, Any, Any], jax.Array],
    params: Any,
    slice_: HeldOut,
    sequences: Sequences | None = None,
) -> dict[str, Score]:
    """val/loss in nats per target and val/bits_per_byte, and the same of val/clean-JACCARD for the sequences without
    near-duplicates in the training text, where some have one; of a mixture val/CORPUS/loss and so on for each corpus.

    Sums over sequences are float64 on the host. The standard error treats sequences as independent:
    sd(mean loss of a sequence) / sqrt(sequences).

    Args:
      sequences: those of the slice, where they are known.
    """
    sequences = sequences or score_each(evaluation_step, params, slice_)
    nats_S, counts_S = sequences.nats_S, sequences.targets_S
    scores = _mean_loss("val", nats_S, counts_S, slice_.bytes)
    for name, (clean_S, size) in slice_.clean.items():
        scores |= _mean_loss(f"val/clean-{name}", nats_S[clean_S], counts_S[clean_S], size)
    for label, part in slice_.parts.items():
        own = score_held_out(evaluation_step, params, part)
        scores |= {f"val/{label}/{name.removeprefix('val/')}": score for name, score in own.items()}
    return scores


def _mean_loss(name: str, nats_S: np.ndarray, counts_S: np.ndarray, size: int) -> dict[str, Score]:
    """name/loss and, where there are bytes, name/bits_per_byte over sequences with these nats, targets, and `size`
    bytes in all."""
    total = counts_S.sum()
    mean = nats_S.sum() / total
    residual_S = nats_S - mean * counts_S
    sequences = len(nats_S)
    stderr = math.sqrt(sequences / max(1, sequences - 1) * float(residual_S @ residual_S)) / total
    found = {f"{name}/loss": Score(float(mean), int(total), stderr)}
    if size:
        per_byte = total / size / math.log(2)
        found[f"{name}/bits_per_byte"] = Score(float(mean * per_byte), int(total), float(stderr * per_byte))
    return found
