"""Bytes that training a network needs on its device, counted from its shape before anything is compiled.

A closed form: the state is exact, activations are an estimate (the compiler fuses, reuses and pads), which a compiled
program replaces wherever one was measured.
"""

import dataclasses

from model.config import ModelConfig
from model.ledger import parameter_counts
from training.config import RunSpec

FLOAT32_BYTES = 4
STATE_COPIES = 3  # parameters and the two moments of Adam, float32
ITEM_BYTES = {"float32": 4, "bfloat16": 2}


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Of one device that holds the whole model."""

    state: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        return self.state + self.gradients + self.activations


def estimate_bytes(spec: RunSpec) -> Bytes:
    """State, gradients, and activations kept for the backward pass of one microbatch."""
    stored = parameter_counts(spec.model)["total"] * FLOAT32_BYTES
    tokens = spec.optim.microbatch_tokens or spec.batch_tokens
    return Bytes(
        state=STATE_COPIES * stored,
        gradients=stored,
        activations=tokens * activation_bytes_per_token(spec.model, spec.data.sequence_length),
    )


def activation_bytes_per_token(config: ModelConfig, sequence_length: int) -> int:
    """What the backward pass reads again of each token, in the manner of Korthikanti et al. 2022 (arXiv 2205.05198,
    section 4.1), counted for this network: norms, projections, attention weights, gates, and logits in float32."""
    item = ITEM_BYTES[config.compute_dtype]
    K, F, D = config.resolved_head_width, config.resolved_ff_width, config.width
    projections = (config.heads + 2 * config.kv_heads) * K * (2 if config.qk_norm else 1) + config.heads * K
    block = (
        4 * D + projections + config.heads * sequence_length + (3 if config.activation == "swiglu" else 2) * F
    )
    kept = config.depth * D + block if config.remat == "block" else config.depth * block
    return kept * item + 2 * config.vocabulary * FLOAT32_BYTES
