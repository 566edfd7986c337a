"""Whether a kernel of attention computes what it should on this device, tried once for a shape.

The rules of `choose` know what a library says of its limits. The library on the machine, its driver and the card may
say otherwise, and a refusal in the middle of a compilation, or a gradient of NaN, would end every run.
"""

import concurrent.futures
import functools
from typing import Any

import jax
import jax.numpy as jnp

from core.errors import is_out_of_memory
from model import parametrization, transformer
from model.config import ModelConfig
from model.kernels import fused_attention

KERNELS = {"cudnn": fused_attention.cudnn, "splash": fused_attention.splash}
# Of the largest number: bfloat16 keeps 8 bits, sums of thousands of them a few less.
TOLERANCE = 0.05
# Weights of one sequence, T x T of every head, that plain attention may hold to be compared: 1 GiB in float32.
MOST_WEIGHTS = 2**28


def refusal(config: ModelConfig, kernel: str, length: int) -> str | None:
    """Why the kernel is not used for sequences of this length, in one line; None where it is right."""
    scale = 1 / parametrization.attention_divisor(config)
    shape = (length, config.heads, config.kv_heads, config.resolved_head_width)
    return _refusal(kernel, shape, config.compute_dtype, scale)


@functools.lru_cache(maxsize=256)
def _refusal(kernel: str, shape: tuple[int, int, int, int], dtype: str, scale: float) -> str | None:
    # A thread of its own has no mesh and traces nothing, whatever the caller is in the middle of.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(_compared, kernel, shape, dtype, scale).result()
        except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                return None  # what a run needs is predicted elsewhere
            return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _compared(kernel: str, shape: tuple[int, int, int, int], dtype: str, scale: float) -> str | None:
    """Compile and run one sequence, forward and backward, against plain attention."""
    length, heads, kv_heads, width = shape
    keys = jax.random.split(jax.random.key(0), 4)
    sizes = ((1, length, heads, width), *[(1, length, kv_heads, width)] * 2, (1, length, heads, width))
    q, k, v, cotangent = (
        jax.random.normal(key, size, jnp.float32).astype(dtype) for key, size in zip(keys, sizes, strict=True)
    )

    def results(mix: Any) -> Any:
        @jax.jit
        def both(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            mixed, pull = jax.vjp(lambda *arrays: mix(*arrays, scale), q, k, v)
            return [array.astype(jnp.float32) for array in (mixed, *pull(cotangent))]

        return jax.block_until_ready(both(q, k, v))

    found = results(KERNELS[kernel])
    if not all(jnp.isfinite(array).all() for array in found):
        return "its results are not finite"
    if heads * length**2 > MOST_WEIGHTS:
        return None
    definition: Any = transformer.Attention.mix  # which reads nothing of its module
    right = results(functools.partial(definition, None))
    off = max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in zip(found, right, strict=True))
    return f"off by {off:.2g} of the largest number of plain attention" if off > TOLERANCE else None
