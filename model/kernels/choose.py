"""Which kernel computes what, and why: rules of architecture, shape and device, without JAX.

Every kernel has networks and shapes that it refuses. A rule here picks the fastest one that takes them, or else the
definition in model/transformer.py, and says its reason in words; a run writes both into env.json, so that no fallback
is silent.
"""

import dataclasses
import itertools
import math

from model.config import ModelConfig, kind_of
from model.parameters import layout as parameter_tree
from model.parameters import leaves, mixer, runs_feature_major

# Logits of one device above this many are never held at once: 2^26 float32 are 256 MiB, and with any vocabulary
# to 2^15 a block still has 2,048 tokens, enough rows for a matrix product to run at full speed.
LARGEST_LOGITS = 2**26

# Splash attention works on blocks of keys that are a multiple of the TPU's 128 lanes.
TPU_LANES = 128


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was chosen and the reason, one line."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Device:
    """What the rules need to know of a device.

    Attributes:
      platform: cpu, gpu or tpu, as JAX names it.
      kind: the vendor's name.
      capability: CUDA compute capability as major.minor; empty elsewhere.
    """

    platform: str
    kind: str = ""
    capability: str = ""


def layout(config: ModelConfig, device: Device) -> Choice:
    """feature-major on the CPU in float32, token-major, as the definition is written, everywhere else."""
    if device.platform != "cpu":
        return Choice("token-major", "fused attention kernels read token-major arrays")
    if config.compute_dtype != "float32":
        return Choice("token-major", f"feature-major is written for float32, not {config.compute_dtype}")
    if not runs_feature_major(config):
        return Choice("token-major", f"model.architecture={config.architecture} is written token-major")
    return Choice("feature-major", "on a CPU sums over an earlier axis are vectorized")


def attention(config: ModelConfig, device: Device, sequence_length: int) -> Choice:
    """cudnn on NVIDIA GPUs, splash on TPUs, blocks where feature-major, and xla, the definition, everywhere else; own
    where a block mixes positions otherwise than by `transformer.Attention`.

    The limits of cudnn are those that `jax.nn.dot_product_attention` checks (JAX 0.10): 16-bit floats, compute
    capability 8.0, head width a multiple of 8 up to 128, or 256 from capability 9.0 on, and where gradients are taken
    an even length.
    """
    if own := mixer(config):
        return Choice(
            "own", f"model.architecture={config.architecture} mixes positions by {own}, as it is written"
        )
    if kind_of(config.architecture) != "decoder":
        return Choice(
            "xla", f"model.architecture={config.architecture} attends to both sides, and kernels are causal"
        )
    if layout(config, device).name == "feature-major":
        return Choice("blocks", "CPU, float32: causal blocks of queries over feature-major arrays")
    if device.platform == "tpu":
        return _splash(sequence_length)
    if device.platform == "gpu":
        return _cudnn(config, device, sequence_length)
    return Choice("xla", f"{device.platform} has no fused kernel")


def _splash(sequence_length: int) -> Choice:
    if sequence_length % TPU_LANES:
        return Choice(
            "xla", f"splash needs a sequence length in multiples of {TPU_LANES}, not {sequence_length}"
        )
    return Choice("splash", "TPU: the Pallas kernel skips what causality forbids and keeps no weights")


def _cudnn(config: ModelConfig, device: Device, sequence_length: int) -> Choice:
    if "NVIDIA" not in device.kind.upper():
        return Choice("xla", f"cudnn needs an NVIDIA GPU, not {device.kind}")
    capability = tuple(int(part) for part in (device.capability or "0").split("."))
    if capability < (8, 0):
        return Choice("xla", f"cudnn needs compute capability 8.0, not {device.capability or 'unknown'}")
    if config.compute_dtype != "bfloat16":
        return Choice("xla", f"cudnn needs model.compute_dtype=bfloat16, not {config.compute_dtype}")
    if sequence_length % 2:
        return Choice("xla", f"cudnn needs an even sequence length, not {sequence_length}")
    widest = 256 if capability >= (9, 0) else 128
    if config.resolved_head_width > widest or config.resolved_head_width % 8:
        return Choice(
            "xla",
            f"cudnn needs a head width in multiples of 8 up to {widest}, not {config.resolved_head_width}",
        )
    return Choice("cudnn", f"NVIDIA GPU, bfloat16, head width {config.resolved_head_width}")


def loss_positions(vocabulary: int, sequences: int, length: int) -> int:
    """Positions whose logits are computed at once, of every sequence on a device; `length` for all of them.

    The positions are shared out evenly among the fewest blocks of at most `LARGEST_LOGITS` logits.
    """
    at_once = max(1, LARGEST_LOGITS // (vocabulary * sequences))
    blocks = math.ceil(length / at_once)
    return math.ceil(length / blocks)


def loss(vocabulary: int, sequences: int, length: int) -> Choice:
    """whole where all logits of a device may be held, else blocks; the numbers are those of one device."""
    positions = loss_positions(vocabulary, sequences, length)
    count = vocabulary * sequences * length
    if positions == length:
        return Choice("whole", f"{count:,} logits a device, at most {LARGEST_LOGITS:,}")
    return Choice(
        f"blocks of {positions} positions", f"{count:,} logits a device, more than {LARGEST_LOGITS:,}"
    )


def slow(attention: Choice, device: Device, length: int) -> str | None:
    """A warning where an accelerator trains without its fused attention: what it costs and why, one line."""
    if device.platform == "cpu" or attention.name != "xla":
        return None
    return (
        f"attention without a fused kernel keeps all {length} x {length} weights of every head: "
        f"{attention.reason}"
    )


# Blocks of queries of `causal_blocks`: n of them compute (n + 1) / 2n of the scores. Products of fewer than 64 queries
# do not run at full speed, and beyond four blocks what is saved pays only for blocks of 256.
FEW_BLOCKS, MINIMUM_BLOCK = 4, 64
MANY_BLOCKS, LARGE_BLOCK = 8, 256
# Attention weights that `causal_blocks` computes at once: 512 KiB, half of a common second-level cache.
WEIGHTS_AT_ONCE = 2**17


def query_blocks(length: int) -> list[tuple[int, int]]:
    """Where the blocks of queries of `causal_blocks` start and stop."""
    count = max(1, min(FEW_BLOCKS, length // MINIMUM_BLOCK), min(MANY_BLOCKS, length // LARGE_BLOCK))
    edges = [length * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def weights_of_block(repeats: int, length: int) -> int:
    """Most attention weights of one key head and a block of queries."""
    return repeats * max((stop - start) * stop for start, stop in query_blocks(length))


def heads_at_once(heads: int, repeats: int, length: int) -> int:
    """How many key heads of all sequences `causal_blocks` takes together: a divisor of `heads`, at least one."""
    most = max(1, min(heads, WEIGHTS_AT_ONCE // weights_of_block(repeats, length)))
    return next(count for count in range(most, 0, -1) if heads % count == 0)


def longest_side(config: ModelConfig) -> int:
    """Of any matrix of the network; feature-major computes gate and up as one."""
    tree = parameter_tree(config)
    joined = sum(tree["blocks"][name].shape[-1] for name in ("gate", "up") if name in tree["blocks"])
    return max(joined, *(side for leaf in leaves(tree) if leaf.is_matrix for side in leaf.shape[-2:]))
