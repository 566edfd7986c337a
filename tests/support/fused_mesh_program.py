"""Run as its own process with 8 fake devices: cuDNN's attention cut over meshes, its numbers beside plain attention's.

JAX's rules of how cuDNN's primitives are partitioned run as they would on 8 GPUs; what each device then computes of its
own sequences and heads is plain attention, given to the inner primitives in place of the library. Prints JSON: for each
case the relative difference of loss and gradient norm to one device with plain attention.
"""

import dataclasses
import json
import math
import sys
from typing import Any

import jax
import jax._src.cudnn.fused_attention_stablehlo as fused
import jax.numpy as jnp
import numpy as np
from jax._src.interpreters import mlir

from model.config import ModelConfig
from model.kernels import install
from model.transformer import Attention
from tests.support.chips import HOPPER, mesh_of, pretending
from training.pack_step import lanes, make_pack_step
from training.program import Program
from training.spec import OptimConfig
from training.state import hyperparameters
from training.step import make_initialization, make_train_step

BASE = ModelConfig(
    width=64, depth=2, heads=8, kv_heads=8, head_width=8, vocabulary=64, compute_dtype="bfloat16"
)
MESHES = ((8, 1, 1), (1, 8, 1), (2, 4, 1), (2, 2, 2), (1, 2, 4), (1, 1, 8))
SEQUENCES, LENGTH = 8, 32
HYPER = {**hyperparameters(OptimConfig()), "learning_rate": 1e-3}


def mix(query: Any, key: Any, value: Any, scale: float) -> Any:
    """Plain attention over the layout that cuDNN reads, (B, T, N, H)."""
    return Attention.mix(None, query, key, value, scale)  # type: ignore[arg-type]


def forward(query: Any, key: Any, value: Any, *_: Any, scale: float, is_training: bool, **__: Any) -> Any:
    batch, length, heads, _ = query.shape
    out = (mix(query, key, value, scale),)
    return (*out, jnp.zeros((batch, heads, length), jnp.float32)) if is_training else out


def backward(query: Any, key: Any, value: Any, *rest: Any, scale: float, **_: Any) -> Any:
    return jax.vjp(lambda *arrays: mix(*arrays, scale), query, key, value)[1](rest[-1])


def batches() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 64, (SEQUENCES, LENGTH + 1)).astype(np.int32)


def step(config: ModelConfig, mesh_shape: tuple[int, int, int]) -> tuple[float, float]:
    """Loss and gradient norm of one step."""
    mesh = mesh_of(mesh_shape)
    with jax.set_mesh(mesh):
        state = make_initialization(config, mesh)[0](0)
        _, metrics = make_train_step(Program(config), mesh)(state, batches(), HYPER)
    return float(metrics["loss"]), float(metrics["grad_norm"])


def packed(config: ModelConfig) -> tuple[float, float]:
    """The same of a pack of 8 equal runs, one on each device."""
    mesh = mesh_of((8, 1, 1))
    alone = make_initialization(config, mesh_of((1, 1, 1)))[0](0)
    state_M = jax.device_put(jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * 8), alone), lanes(mesh))
    hyper_M = {name: np.full(8, value, np.float32) for name, value in HYPER.items()}
    step_M = make_pack_step(Program(config), mesh)
    _, metrics = step_M(state_M, np.stack([batches()] * 8), hyper_M, np.ones(8, bool))
    losses, norms = np.asarray(metrics["loss"]), np.asarray(metrics["grad_norm"])
    assert np.ptp(losses) == 0
    return float(losses[0]), float(norms[0])


def main() -> None:
    said = {}
    networks = {
        "": BASE,
        "grouped": dataclasses.replace(BASE, kv_heads=4),
        "remat dots": dataclasses.replace(BASE, remat="dots"),
    }
    plain = {name: step(config, (1, 1, 1)) for name, config in networks.items()}
    for primitive, function in (
        (fused._dot_product_attention_fwd_p, forward),
        (fused._dot_product_attention_bwd_p, backward),
    ):
        mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=True), platform="cpu")
    with pretending(HOPPER):
        for name, config in networks.items():
            assert install.attention(config, HOPPER, LENGTH).name == "cudnn"
            for shape in MESHES:
                if config.kv_heads % shape[2] == 0 and config.width % (shape[1]) == 0:
                    said[f"{shape} {name}".strip()] = _off(step(config, shape), plain[name])
            said[f"pack on 8 {name}".strip()] = _off(packed(config), plain[name])
    sys.stdout.write(json.dumps(said) + "\n")


def _off(found: tuple[float, float], right: tuple[float, float]) -> float:
    return max(math.inf if math.isnan(a) else abs(a / b - 1) for a, b in zip(found, right, strict=True))


if __name__ == "__main__":
    main()
