"""Bytes of a training step on each device in closed form, fitted to what compilers account for."""

import dataclasses
import math
from typing import Literal

from model.config import ITEM_BYTES, ModelConfig
from model.expert_rows import block_count, rows_a_token, rows_of_block
from model.kernels import choose
from model.mesh_shape import ONE_DEVICE, Shape, batch_parts, sizes
from model.parameters import architecture, layout, leaves
from training.spec import RunSpec

FLOAT32_BYTES = 4
MOMENTS = 2  # of an optimizer that does not say how many

Mesh = Shape
CPU = choose.Device("cpu")


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Of one device at the peak of a training step.

    Attributes:
      state: parameters and moments, held between steps.
      scratch: gradients, activations kept for the backward pass, logits; given back after the step.
      basis: compiled (XLA's own account of the program) or estimated (closed form).
    """

    state: int
    scratch: int
    basis: Literal["compiled", "estimated"]

    @property
    def total(self) -> int:
        """State and scratch together."""
        return self.state + self.scratch


def estimate_bytes(spec: RunSpec, mesh: Mesh = ONE_DEVICE, device: choose.Device = CPU) -> Bytes:
    """Closed form: the state is exact, the scratch an estimate (the compiler fuses, reuses and pads).

    Args:
      mesh: devices along data, fsdp, tensor and expert; sequences are cut over all but tensor, matrices over fsdp and
        tensor, those of experts over expert as well.
      device: what the program is for; decides layout and attention (model/kernels/choose.py).
    """
    _, fsdp, tensor, expert = sizes(mesh)
    model, length = spec.model, spec.data.sequence_length
    form = form_of(model, device)
    # Gains are cut over fsdp alone, and so little of it all that they are counted whole.
    held = [
        (form.padded(leaf.shape) // (expert if "experts" in leaf.axes else 1), leaf.is_matrix)
        for leaf in leaves(layout(model))
    ]
    matrices = sum(size for size, is_matrix in held if is_matrix)
    stored = (matrices // (fsdp * tensor) + sum(size for size, _ in held) - matrices) * FLOAT32_BYTES
    of_blocks = sum(form.padded(leaf.shape) for leaf in leaves(layout(model)["blocks"]) if leaf.is_matrix)
    moments = spec.optim.declared.get("MOMENTS", MOMENTS)
    fewer = moments - spec.optim.declared.get("MOMENTS_OF_MATRICES", moments)
    state = (1 + moments) * stored - fewer * of_blocks // (fsdp * tensor) * FLOAT32_BYTES
    microbatches = spec.batch_tokens // (spec.optim.microbatch_tokens or spec.batch_tokens)
    tokens = max(length, spec.batch_tokens // microbatches // batch_parts(mesh))
    kept = _block_floats_per_token(model, device, length, tensor, tokens)
    if model.remat == "block":
        activations = model.depth * model.width + form.block_working_share * kept
    elif model.remat == "dots":
        activations = model.depth * _product_floats_per_token(model) / tensor + form.dots_working_share * kept
    else:
        activations = model.depth * kept + (SCAN_WORKING_SHARE * kept if model.scan else 0.0)
    # XLA's CPU compiler computes bfloat16 in float32.
    item = FLOAT32_BYTES if device.platform == "cpu" else ITEM_BYTES[model.compute_dtype]
    sequences = max(1, tokens // length)
    positions = choose.loss_positions(model.vocabulary // tensor, sequences, length)
    in_cpu_blocks = positions < length and device.platform == "cpu"
    copies = CPU_BLOCK_LOGIT_COPIES if in_cpu_blocks else LOGIT_COPIES
    logits = copies * positions * sequences * model.vocabulary // tensor
    # Accumulation over microbatches holds a second copy of the gradients.
    weights = stored * (2 if microbatches > 1 else 1)
    if model.compute_dtype != "float32":
        weights += matrices // (fsdp * tensor) * item  # the cast parameters
    if fsdp > 1:
        weights += matrices // tensor // model.depth * FLOAT32_BYTES  # one block's gathered parameters
    working = _working_floats(model, device, length, sequences, tensor) * FLOAT32_BYTES
    working += _picked_floats(model, tokens, tensor) * item
    scratch = weights + round(tokens * activations * item + working) + logits * FLOAT32_BYTES
    return Bytes(state, scratch, "estimated")


@dataclasses.dataclass(frozen=True)
class StepForm:
    """What was fitted to a compiler's account of this network's step; docs/performance.md has estimate beside account.

    Attributes:
      copied_widths: arrays of model width that a block keeps beside those counted: other layouts, products half done.
      attention_copies: of the T x T weights of a head, without a fused kernel.
      gated, plain: arrays of feed-forward width that SwiGLU and GELU keep.
      block_working_share, dots_working_share: of a block's activations, held while remat computes it again: all of it,
        or all but the products that are kept.
      lanes: the last axis of parameters and of heads is padded to a multiple of this; of other activations the compiler
        puts a longer axis last.
    """

    copied_widths: float
    attention_copies: float
    gated: float
    plain: float
    block_working_share: float = 1.0
    dots_working_share: float = 0.5
    lanes: int = 1

    def lane(self, length: int) -> int:
        """Numbers that a last axis of this length takes."""
        return math.ceil(length / self.lanes) * self.lanes

    def padded(self, shape: tuple[int, ...]) -> int:
        """Numbers that an array takes."""
        return math.prod(shape[:-1]) * self.lane(shape[-1])


# Fitted on the CPU from 0.1M to 10M parameters; for the H100 and the TPU v5e to their compilers' account of steps from
# 0.1M to 1.3B, without the devices. tests/planning/test_memory.py and tests/chips hold the whole to 20%.
FEATURE_MAJOR = StepForm(copied_widths=7.6, attention_copies=2.4, gated=3, plain=3)
TOKEN_MAJOR = StepForm(copied_widths=7.6, attention_copies=2.4, gated=4, plain=3)
GPU_SCANNED = StepForm(copied_widths=4.0, attention_copies=2.0, gated=4, plain=5, block_working_share=0.6)
GPU_UNROLLED = StepForm(copied_widths=0.3, attention_copies=2.0, gated=2, plain=3)
GPU_UNROLLED_BLOCKS = dataclasses.replace(GPU_SCANNED, block_working_share=1.9)  # several at a time
TPU = StepForm(
    copied_widths=3.3,
    attention_copies=2.0,
    gated=4,
    plain=5,
    block_working_share=0.6,
    dots_working_share=0.8,
    lanes=128,
)

LOGIT_COPIES = 2  # the logits and their cotangent
CPU_BLOCK_LOGIT_COPIES = 3  # in the blocks of `loss_in_blocks`, the cotangent in a second layout too
SCAN_WORKING_SHARE = 0.5  # of a block's activations, twice in memory while a scan's backward pass reads them
BLOCKS_WORKING_COPIES = 3.4  # of the weights that `causal_blocks` computes at once


def form_of(config: ModelConfig, device: choose.Device) -> StepForm:
    """The form of a network's step on a device."""
    if device.platform == "gpu":
        if config.scan:
            return GPU_SCANNED
        return GPU_UNROLLED_BLOCKS if config.remat == "block" else GPU_UNROLLED
    if device.platform == "tpu":
        return TPU
    return FEATURE_MAJOR if choose.layout(config, device).name == "feature-major" else TOKEN_MAJOR


def _block_floats_per_token(
    config: ModelConfig, device: choose.Device, length: int, tensor: int, tokens: int
) -> float:
    """Numbers of one block that the backward pass reads again, in the manner of Korthikanti et al. 2022 (arXiv
    2205.05198, section 4.1), counted for this network on each of `tensor` devices."""
    form = form_of(config, device)
    head = form.lane(config.resolved_head_width)
    heads, kv_heads = config.heads * head, config.kv_heads * head
    own = getattr(architecture(config), "mixer_floats", None)
    if own is not None:
        attention: float = own(config, length)
    else:  # projections, then queries and keys normalized and turned; the mixed values
        attention = heads + 2 * kv_heads + (2 if config.qk_norm else 1) * (heads + kv_heads) + heads
    if choose.attention(config, device, length).name == "xla":
        attention += form.attention_copies * config.heads * form.lane(length)
    # The products, and what the activation makes of them; of experts also what they read and give.
    arrays = form.gated if config.activation == "swiglu" else form.plain
    feed_forward = arrays * config.resolved_ff_width
    if config.is_routed:
        rows = rows_a_token(config, tokens)
        shared = config.shared_experts * config.resolved_expert_ff_width
        feed_forward = (
            arrays * (rows * config.resolved_expert_ff_width + shared) + 3 * tensor * rows * config.width
        )
    # The residual stream before either half, and both normalized: whole on every device.
    return (4 + form.copied_widths) * config.width + (attention + feed_forward) / tensor


def _product_floats_per_token(config: ModelConfig) -> int:
    """Numbers that the products of one block with its weights give: what remat=dots keeps."""
    return sum(leaf.shape[-1] for leaf in leaves(layout(config)["blocks"]) if leaf.is_matrix)


def _working_floats(
    config: ModelConfig, device: choose.Device, length: int, sequences: int, tensor: int
) -> float:
    """Numbers that attention holds only while it computes a few heads of a device's sequences."""
    if choose.attention(config, device, length).name != "blocks":
        return 0.0
    heads, repeats = sequences * max(1, config.kv_heads // tensor), config.heads // config.kv_heads
    together = choose.heads_at_once(heads, repeats, length)
    return BLOCKS_WORKING_COPIES * together * choose.weights_of_block(repeats, length)


def _picked_floats(config: ModelConfig, tokens: int, tensor: int) -> float:
    """Numbers of the experts' matrices, picked for each block of tokens: of all layers, and their gradient in one."""
    if not config.is_routed:
        return 0.0
    choices = tokens * config.resolved_experts_per_token
    rows = rows_of_block(choices, config.resolved_experts)
    blocks = block_count(choices, config.resolved_experts, rows)
    one = (3 if config.activation == "swiglu" else 2) * config.width * config.resolved_expert_ff_width
    layers = 1 if config.remat == "block" else config.depth
    return blocks * one * (layers + 1) / tensor
