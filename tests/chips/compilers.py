"""`make test-chips`: the shipped steps, compiled by XLA for an NVIDIA H100 and a TPU v5e on a machine that has neither.

Needs jax[cuda12] and jax[tpu] in an environment of their own, no device and no network. The compilers account for the
memory of a step; what only the device knows (autotuning, cuDNN's plans, speed) is not asked. The table that is printed
at the end is the one of docs/performance.md.
"""

import dataclasses
import functools
import importlib.metadata
import math
import os
import re
from collections.abc import Iterator
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # no metadata server is asked which TPU this is
os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import pytest
from jax.experimental import topologies

from bench.side import SIZES, Bench
from data.config import DataConfig
from experiments import registry
from model.config import ModelConfig
from model.kernels.chips import memory_of
from planning.memory_form import estimate_bytes
from tests.support.chips import PLATFORMS, Case, pretending, step_and_arguments
from training.processes.allocator import MEMORY_SHARE
from training.processes.mesh import shape_for
from training.spec import OptimConfig, RunSpec

# What a description of the card for XLA needs, from NVIDIA's white paper of the H100 SXM.
H100 = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000
l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84978434048 shared_memory_per_block_optin: 232448
cuda_compute_capability { major: 9 minor: 0 } registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3" """

NEAR = 0.2  # estimate beside the compiler's account, relative


@functools.cache  # the description must stay alive
def topology(platform: str, count: int) -> Any:
    jax.devices()
    if platform == "tpu":
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    return topologies.get_topology_desc("h100", platform="cuda", target_config=H100, topology=f"1x1x{count}")


def compiled(case: Case, platform: str) -> Any:
    """The executable of a case, for as many devices as its mesh has."""
    devices = list(topology(platform, math.prod(case.mesh)).devices)
    with pretending(PLATFORMS[platform]):
        step, arguments, mesh = step_and_arguments(case, devices)
        if mesh is None:
            return step.lower(*arguments).compile()
        with jax.set_mesh(mesh):
            return step.lower(*arguments).compile()


def spec_of(case: Case) -> RunSpec:
    tokens = case.sequences * case.length
    micro = tokens // case.microbatches if case.microbatches > 1 else 0
    return RunSpec(
        model=case.config,
        data=DataConfig(sequence_length=case.length),
        optim=OptimConfig(microbatch_tokens=micro),
        batch_tokens=tokens,
        tokens=tokens,
    )


def case_of(spec: RunSpec) -> Case:
    """The step of a run on one device."""
    length = spec.data.sequence_length
    micro = spec.batch_tokens // (spec.optim.microbatch_tokens or spec.batch_tokens)
    return Case(spec.model, sequences=spec.batch_tokens // length, length=length, microbatches=micro)


BENCH = Bench(device="cuda", sizes=tuple(SIZES))
SIX_LAYERS = ModelConfig(width=512, depth=6, heads=4, kv_heads=4, compute_dtype="bfloat16")


def bench_case(size: str) -> Case:
    length, tokens = BENCH.shape(size)
    return Case(BENCH.model(size), sequences=tokens // length, length=length)


def cases() -> dict[str, tuple[Case, str]]:
    """Shapes whose account the closed form is held to, by name."""
    change = dataclasses.replace
    single = {"depth": 4, "compute_dtype": "float32"}
    large = bench_case("350M")
    found: dict[str, tuple[Case, str]] = {
        f"bench {size}": (bench_case(size), "cuda")
        for size in ("1M", "10M", "30M", "124M", "350M", "760M", "1.3B")
    }
    for width, heads in ((16, 2), (64, 4), (128, 4)):
        config = change(SIX_LAYERS, width=width, heads=heads, kv_heads=heads, **single)
        found[f"float32, width {width}"] = Case(config, sequences=64, length=128), "cuda"
    blocks = change(
        SIX_LAYERS, width=320, depth=8, heads=5, kv_heads=5, compute_dtype="float32", vocabulary=50_304
    )
    found["float32, loss in blocks"] = Case(blocks, sequences=16, length=512), "cuda"
    for remat in ("dots", "block"):
        found[f"350M, remat {remat}"] = change(large, config=change(large.config, remat=remat)), "cuda"
    base = Case(SIX_LAYERS, sequences=8, length=2048)
    for mesh in ((8, 1, 1), (1, 8, 1), (2, 2, 2)):
        config = change(SIX_LAYERS, vocabulary=512)
        found[f"mesh {mesh}"] = Case(config, sequences=16, length=2048, mesh=mesh), "cuda"
    for name, changes in {
        "unrolled": {"scan": False},
        "unrolled, remat dots": {"scan": False, "remat": "dots"},
        "unrolled, remat block": {"scan": False, "remat": "block"},
        "gelu": {"activation": "gelu"},
        "grouped": {"heads": 8, "kv_heads": 2},
        "no qk-norm": {"qk_norm": False},
    }.items():
        found[name] = change(base, config=change(SIX_LAYERS, **changes)), "cuda"
    found["four microbatches"] = change(base, sequences=32, microbatches=4), "cuda"
    four = change(base, sequences=4)
    for name, changes in {
        "heads of 128": {},
        "heads of 64": {"heads": 8, "kv_heads": 8},
        "remat dots": {"remat": "dots"},
        "remat block": {"remat": "block"},
    }.items():
        found[f"TPU, {name}"] = change(four, config=change(SIX_LAYERS, **changes)), "tpu"
    found["TPU, loss in blocks"] = change(base, config=change(SIX_LAYERS, vocabulary=50_304)), "tpu"
    narrow = change(SIX_LAYERS, width=64, **single)
    found["TPU, float32, width 64"] = Case(narrow, sequences=64, length=128), "tpu"
    return found


CASES = cases()


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Rows of the table, printed when all are there."""
    rows: list[str] = []
    yield rows
    version = importlib.metadata.version("jax")
    print(f"\nJAX {version}\n| step | compiler, GiB | estimate, GiB | ratio |\n|---|---|---|---|")
    print("\n".join(rows))


def account(executable: Any) -> tuple[int, int]:
    """Bytes between steps, and of a step besides."""
    said = executable.memory_analysis()
    kept = said.argument_size_in_bytes + said.output_size_in_bytes - said.alias_size_in_bytes
    return kept, said.temp_size_in_bytes


@pytest.mark.parametrize("name", CASES)
def test_the_estimate_is_near_the_compiler(name, table):
    case, platform = CASES[name]
    total = sum(account(compiled(case, platform)))
    estimate = estimate_bytes(spec_of(case), case.mesh, PLATFORMS[platform]).total
    table.append(f"| {name} | {total / 2**30:.2f} | {estimate / 2**30:.2f} | {estimate / total:.2f} |")
    assert abs(estimate / total - 1) < NEAR
    if name.startswith("bench"):
        limit = memory_of("NVIDIA H100 80GB HBM3")
        assert limit is not None
        assert total < MEMORY_SHARE * limit


@pytest.mark.parametrize("size", ["124M", "350M"])
def test_no_float32_copy_of_a_layers_activations_is_kept(size):
    case = bench_case(size)
    config = case.config
    text = compiled(case, "cuda").as_text()
    whole = f"{config.depth},{case.sequences},{case.length},"
    stacks = set(re.findall(rf"f32\[{whole}[0-9,]+\]", text))
    assert f"bf16[{whole}{config.width}]" in text
    assert stacks <= {f"f32[{whole}{config.heads}]"}, stacks  # what cuDNN keeps of the softmax, a number a head


def presets() -> dict[str, RunSpec]:
    """The largest step of every shipped preset for an accelerator."""
    found = {}
    for experiment in map(registry.load, registry.names()):
        for name, arguments in experiment.presets.items():
            if not name.startswith("cpu"):
                found[f"{experiment.name} --preset {name}"] = max(
                    experiment.sweep(**arguments),
                    key=lambda spec: estimate_bytes(spec, device=PLATFORMS["cuda"]).total,
                )
    return found


PRESETS = presets()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_an_h100_and_runs_on_a_v5e(name, table):
    """On the TPU the run is cut over the chips of a host where its state asks for it, as the rule of meshes does."""
    case = case_of(PRESETS[name])
    total = sum(account(compiled(case, "cuda")))
    table.append(f"| {name} | {total / 2**30:.2f} | | |")
    limit = memory_of("NVIDIA H100 80GB HBM3")
    assert limit is not None
    assert total < MEMORY_SHARE * limit
    chip = memory_of("TPU v5 lite")
    shape = shape_for(case.config, case.sequences // case.microbatches, 8, memory_bytes=chip or 0)
    assert shape is not None
    assert sum(account(compiled(dataclasses.replace(case, mesh=shape), "tpu"))) < (chip or 0)
