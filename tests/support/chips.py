"""Programs for a GPU or a TPU, lowered on a machine that has neither.

JAX lowers a program for another platform than the one that it runs on; what its cuDNN attention asks of the machine
(version, compute capability) is answered for it here. Lowering runs the rules of shape and type of every kernel, not
the kernel: speed, autotuning and cuDNN's own plans are known to a device alone.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax._src.cudnn.fused_attention_stablehlo as fused
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from core.errors import BadInput
from model import sharding
from model.config import ModelConfig, architectures
from model.decode import cache, program
from model.decode.controls import Controls
from model.kernels import install, trial
from model.kernels.choose import Device
from model.kernels.install import with_kernels
from model.transformer import Transformer
from training.evaluate.score import make_task_step
from training.objectives import next_token
from training.pack_step import lanes, make_pack_step
from training.program import Program
from training.spec import OptimConfig
from training.state import hyperparameters
from training.step import abstract_state, make_evaluation_step, make_initialization, make_train_step

HOPPER = Device("gpu", "NVIDIA H100 80GB HBM3", "9.0")
V5E = Device("tpu", "TPU v5 lite")
PLATFORMS = {"cuda": HOPPER, "tpu": V5E}
CACHED = (
    make_train_step,
    make_evaluation_step,
    make_initialization,
    make_pack_step,
    make_task_step,
    abstract_state,
    program.start,
    program.advance,
)

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Case:
    """A program: what is computed, of which network, on which shapes.

    Attributes:
      kind: train, evaluation, tasks, or decode (prompts of `length`, then some tokens more).
      sequences, length: of one batch (of one member).
      mesh: devices along data, fsdp and tensor.
      members: of a pack; 0 for a run alone.
    """

    config: ModelConfig
    kind: str = "train"
    sequences: int = 4
    length: int = 128
    mesh: Shape = (1, 1, 1)
    members: int = 0
    microbatches: int = 1

    @property
    def program(self) -> Program:
        return Program(self.config, microbatches=self.microbatches)


@contextlib.contextmanager
def pretending(device: Device) -> Iterator[None]:
    """Programs that are traced in here are for `device`."""
    capability = tuple(int(part) for part in (device.capability or "0.0").split("."))

    def at_most(text: str) -> bool:
        return tuple(int(part) for part in text.split(".")) <= capability

    patches = [
        mock.patch.object(install, "this_device", return_value=device),
        mock.patch.object(trial, "refusal", return_value=None),
        mock.patch.object(fused, "check_cudnn_version", return_value=91200),
        mock.patch.object(fused, "check_compute_capability", at_most),
        mock.patch.object(fused, "is_cuda_compute_capability_equal", lambda text: text == device.capability),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        _forget()
        try:
            yield
        finally:
            _forget()


def _forget() -> None:
    """Programs that were traced for another device."""
    jax.clear_caches()
    for cached in CACHED:
        cached.cache_clear()


def mesh_of(shape: Shape, devices: list[Any] | None = None) -> Mesh:
    """A mesh over the first of `devices`, or of this process's."""
    found = np.array((devices or jax.devices())[: math.prod(shape)]).reshape(shape)
    return Mesh(found, sharding.MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def step_and_arguments(
    case: Case, devices: list[Any] | None = None
) -> tuple[Any, tuple[Any, ...], Mesh | None]:
    """A jitted function, shapes of its arguments, and the mesh to enter while it is traced, if any."""
    config, mesh = case.config, mesh_of(case.mesh, devices)
    tokens_BS = jax.ShapeDtypeStruct((case.sequences, case.length + 1), jnp.int32)
    if case.kind == "decode":
        return *_decoding(case, mesh, devices), mesh
    if case.kind != "train":
        params = abstract_state(config, mesh).params
        if case.kind == "evaluation":
            losses = next_token.held_out_nats
            return jax.jit(functools.partial(losses, config)), (params, tokens_BS), mesh
        return _task_step(config), (params, tokens_BS), mesh
    hyper = {**hyperparameters(OptimConfig()), "learning_rate": 1e-3}
    if not case.members:
        return make_train_step(case.program, mesh), (abstract_state(config, mesh), tokens_BS, hyper), mesh
    alone = abstract_state(config, mesh_of((1, 1, 1), devices))

    def many(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct((case.members, *leaf.shape), leaf.dtype, sharding=lanes(mesh))

    def each(dtype: Any) -> Any:
        return jax.ShapeDtypeStruct((case.members,), dtype)

    arguments = (
        jax.tree.map(many, alone),
        jax.ShapeDtypeStruct((case.members, *tokens_BS.shape), jnp.int32),
        dict.fromkeys(hyper, each(jnp.float32)),
        each(bool),
    )
    return make_pack_step(case.program, mesh), arguments, None


def _decoding(case: Case, mesh: Mesh, devices: list[Any] | None) -> tuple[Any, tuple[Any, ...]]:
    """Both programs of decoding, one after the other, with every control."""
    config, members = case.config, (case.members,) if case.members else ()
    controls = Controls(0.8, 40, 0.9, 0.05, 0.1, 0.1, 1.1, "all")
    start = program.start(config, 2 * case.length, bool(members))
    advance = program.advance(config, controls.used | {"known"}, bool(members))
    keys_B = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (*members, case.sequences)))
    rows = {
        "tokens": jax.ShapeDtypeStruct((*members, case.sequences, case.length), jnp.int32),
        "keys": jax.ShapeDtypeStruct(keys_B.shape, keys_B.dtype),
        **{name: jax.ShapeDtypeStruct((*members, case.sequences), jnp.int32) for name in ("given", "written")},
    }

    def both(params: Any, rows: Any, values: Any) -> Any:
        return advance(params, start(params, rows), values)

    params = abstract_state(config, mesh_of((1, 1, 1), devices) if members else mesh).params
    if members:
        params = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*members, *leaf.shape), leaf.dtype, sharding=lanes(mesh)), params
        )
    return jax.jit(both), (params, rows, {**controls.values, "known": config.vocabulary - 1})


def decodes(architecture: str) -> bool:
    """Whether an architecture writes token by token."""
    try:
        cache.check(architecture)
    except BadInput:
        return False
    return True


def _task_step(config: ModelConfig) -> Any:
    def logits(params: Any, tokens_BS: jax.Array) -> jax.Array:
        tokens_BT = tokens_BS[:, :-1]
        return with_kernels(Transformer(config, params), tokens_BT.shape)(tokens_BT)

    return jax.jit(logits)


def matrix(*, whole: bool) -> dict[str, tuple[Case, str]]:
    """Programs by name: one of each kind for either platform, or every architecture, shape and mesh as well."""
    cases = {
        f"{platform} {name}": (case, platform) for platform in PLATFORMS for name, case in ONE_OF_EACH.items()
    }
    if whole:
        for platform, architecture in itertools.product(PLATFORMS, architectures()):
            for name, case in _all_of(dataclasses.replace(HALF, architecture=architecture)).items():
                cases[f"{platform} {architecture} {name}"] = case, platform
    return cases


HALF = ModelConfig(width=256, heads=4, kv_heads=4, compute_dtype="bfloat16")
SINGLE = dataclasses.replace(HALF, compute_dtype="float32")
ONE_OF_EACH = {
    "train": Case(HALF),
    "train, float32": Case(SINGLE),
    "train, odd length": Case(HALF, length=127),
    "train, loss in blocks": Case(dataclasses.replace(HALF, vocabulary=50_304), length=512),
    "evaluation": Case(HALF, "evaluation"),
    "tasks": Case(HALF, "tasks", length=24),
    "pack": Case(HALF, members=4),
    "pack over 8 devices": Case(HALF, length=512, members=8, mesh=(8, 1, 1)),
    "pack over 4 devices, loss in blocks": Case(
        dataclasses.replace(HALF, vocabulary=50_304), length=512, members=4, mesh=(4, 1, 1)
    ),
    "decode": Case(HALF, "decode", length=64),
    "decode, pack": Case(HALF, "decode", length=64, members=4, mesh=(4, 1, 1)),
    "decode, mesh 2,2,2": Case(HALF, "decode", sequences=8, length=64, mesh=(2, 2, 2)),
    "mesh 2,2,2": Case(HALF, sequences=8, length=512, mesh=(2, 2, 2)),
}


def _all_of(base: ModelConfig) -> dict[str, Case]:
    replace = dataclasses.replace
    cases = {}
    for length in (16, 100, 127, 128, 511, 512, 1920, 2048):
        for kind in ("train", "evaluation", "tasks"):
            cases[f"{kind}, {length} positions"] = Case(base, kind, length=length)
    networks = {
        "float32": replace(base, compute_dtype="float32"),
        "float32, highest": replace(base, compute_dtype="float32", matmul_precision="highest"),
        "remat block": replace(base, remat="block"),
        "remat dots": replace(base, remat="dots"),
        "unrolled": replace(base, scan=False),
        "grouped": replace(base, heads=8, kv_heads=2),
        "one key head": replace(base, heads=8, kv_heads=1),
        "no qk-norm": replace(base, qk_norm=False),
        "gelu": replace(base, activation="gelu"),
        "untied, softcap": replace(base, tied=False, logit_softcap=30.0),
        "mup": replace(base, parametrization="mup"),
        "heads of 8": replace(base, heads=4, kv_heads=4, head_width=8),
        "heads of 256": replace(base, heads=2, kv_heads=2, head_width=256),
        "heads of 72": replace(base, heads=2, kv_heads=2, head_width=72),
        "heads of 20": replace(base, heads=2, kv_heads=2, head_width=20),
        "vocabulary 50,304": replace(base, vocabulary=50_304),
    }
    for name, config in networks.items():
        cases[f"train, {name}"] = Case(config, length=512)
        cases[f"evaluation, {name}"] = Case(config, "evaluation", length=512)
        cases[f"pack, {name}"] = Case(config, length=512, members=4)
    for mesh in ((8, 1, 1), (1, 8, 1), (2, 4, 1), (2, 2, 2), (1, 2, 4)):
        for remat in ("none", "dots"):
            config = replace(base, heads=8, kv_heads=4, remat=remat)
            cases[f"mesh {mesh}, remat {remat}"] = Case(config, sequences=8, length=512, mesh=mesh)
            cases[f"mesh {mesh}, evaluation, remat {remat}"] = Case(
                config, "evaluation", sequences=8, length=512, mesh=mesh
            )
    if decodes(base.architecture):
        for name, config in {"bfloat16": base, **networks}.items():
            cases[f"decode, {name}"] = Case(config, "decode")
            cases[f"decode, pack, {name}"] = Case(config, "decode", members=4)
        for mesh in ((8, 1, 1), (2, 2, 2), (1, 2, 4)):
            config = replace(base, heads=8, kv_heads=4)
            cases[f"decode, mesh {mesh}"] = Case(config, "decode", sequences=8, mesh=mesh)
    cases["microbatches"] = Case(base, sequences=8, length=512, microbatches=4)
    cases["pack of 8 on 8, odd"] = Case(base, length=127, members=8, mesh=(8, 1, 1))
    return cases


def main() -> None:
    """Lower the matrix and print {name: null, or what went wrong}; `--whole` for all of it, from a process with 8 CPU
    devices."""
    said: dict[str, str | None] = {}
    for name, (case, platform) in matrix(whole="--whole" in sys.argv).items():
        try:
            lowered(case, platform)
            said[name] = None
        except Exception as error:  # noqa: BLE001  the table is of every failure
            said[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    sys.stdout.write(json.dumps(said) + "\n")


def lowered(case: Case, platform: str) -> str:
    """The StableHLO of a program for `cuda` or `tpu`; raises what lowering raises."""
    with pretending(PLATFORMS[platform]):
        step, arguments, mesh = step_and_arguments(case)
        with jax.set_mesh(mesh) if mesh is not None else contextlib.nullcontext():
            text: str = step.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    return text


if __name__ == "__main__":
    main()
