"""Bytes that training needs on each device: from the compiled program, and in closed form before anything compiles.

`compiled_bytes` asks XLA: the step is compiled for shapes alone, without data or weights, in a process of its own
that has as many devices as the mesh, and the answer is kept under the cache folder. `memory_form` is the closed
form for grids of hundreds of runs; tests hold it against the compiled number.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.codec import from_json, to_json
from core.errors import BadInput, exit_on_bad_input
from core.files import read_json, write_json
from core.numbers import short_bytes
from model.kernels import choose
from model.kernels.chips import memory_of
from planning.memory_form import CPU, ONE_DEVICE, Bytes, Mesh, estimate_bytes
from training.processes.allocator import gpu_memory_share
from training.spec import RunSpec

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
ROOT = Path(__file__).resolve().parents[1]


def compiled_bytes(spec: RunSpec, mesh: Mesh = ONE_DEVICE, cache_root: Path = Path("cache")) -> Bytes:
    """XLA's account of the compiled training step, for the devices that JAX finds here.

    Compiled once for a shape: the answer is kept in cache_root/memory. On a CPU any mesh can be asked for; elsewhere
    it needs as many devices as it has.

    Raises:
      BadInput: the mesh cannot be built here or cannot cut the model.
    """
    request, path = _request(spec, mesh, cache_root)
    if path.exists():
        return from_json(Bytes, read_json(path)["bytes"])
    flags = [
        os.environ.get("XLA_FLAGS", ""),
        f"--xla_force_host_platform_device_count={math.prod(mesh)}",
        "--xla_backend_optimization_level=0",  # LLVM takes most of the time and comes after the account
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_FLAGS": " ".join(flags),
    }
    done = subprocess.run(
        [sys.executable, "-m", "planning.memory"],
        input=request,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        cwd=ROOT,
        check=False,
    )
    if done.returncode == 2:
        raise BadInput(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
    if done.returncode:
        raise RuntimeError(f"compiling {spec.run_id} for its memory failed:\n{done.stderr[-2000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    write_json(path, {"request": json.loads(request), "bytes": answer})
    return from_json(Bytes, answer)


def predicted_bytes(
    spec: RunSpec,
    kind: str,
    cache_root: Path = Path("cache"),
    mesh: Mesh = ONE_DEVICE,
    *,
    compile: bool = False,
) -> Bytes:
    """Of one device of the mesh: compiled where that is asked for or already known here, else the estimate.

    Args:
      kind: of device, as JAX or nvidia-smi names it, or cpu: and the processor's name.
    """
    if compile or (kind.startswith("cpu") and _request(spec, mesh, cache_root)[1].exists()):
        return compiled_bytes(spec, mesh, cache_root)
    return estimate_bytes(spec, mesh, device_of(kind))


def device_of(kind: str) -> choose.Device:
    """The device that a name means; of a GPU the least capability with fused attention, or Hopper's by its name."""
    if kind.startswith("cpu"):
        return CPU
    if kind.upper().startswith("TPU"):
        return choose.Device("tpu", kind)
    hopper = any(name in kind for name in ("H100", "H200", "GH200"))
    return choose.Device("gpu", kind, "9.0" if hopper else "8.0")


@functools.cache
def _code() -> str:
    """A digest of the source that decides the compiled step."""
    code = hashlib.sha256()
    training = ("step.py", "state.py", "objectives/*.py", "optimizers/*.py")
    files = [
        *(ROOT / "model").rglob("*.py"),
        *(path for part in training for path in (ROOT / "training").glob(part)),
    ]
    for path in sorted(files):
        code.update(path.read_bytes())
    return code.hexdigest()[:16]


def _request(spec: RunSpec, mesh: Mesh, cache_root: Path) -> tuple[str, Path]:
    """Everything that decides the program (shape, mesh, JAX, the code, where it runs), and where its answer lies."""
    request = json.dumps(
        {
            "spec": to_json(
                dataclasses.replace(
                    spec,
                    seed=0,
                    tokens=spec.batch_tokens,
                    evaluation_marks=(),
                    checkpoint_marks=(),
                    parent=None,
                    branch_at_tokens=None,
                    tasks=(),
                    optim=dataclasses.replace(spec.optim, warmup_tokens=0, cooldown_tokens=0, schedule="wsd"),
                )
            ),
            "mesh": list(mesh),
            "jax": importlib.metadata.version("jax"),
            "code": _code(),
            "platform": [os.environ.get("JAX_PLATFORMS", ""), os.environ.get("CUDA_VISIBLE_DEVICES", "")],
        },
        sort_keys=True,
    )
    return request, cache_root / "memory" / f"{hashlib.sha256(request.encode()).hexdigest()[:16]}.json"


def _compile_here(request: dict[str, Any]) -> Bytes:
    # JAX: only the process that compiles loads it
    import jax
    import jax.numpy as jnp

    from model.sharding import make_mesh
    from training.objectives import example
    from training.program import program_of
    from training.state import hyperparameters
    from training.step import make_initialization, make_train_step

    spec = from_json(RunSpec, request["spec"])
    devices = jax.devices()
    data, fsdp, tensor = request["mesh"]
    count = data * fsdp * tensor
    if count > len(devices):
        raise BadInput(
            f"mesh={data},{fsdp},{tensor}: compiling needs {count} devices, {len(devices)} are here; "
            "the estimate needs none"
        )
    mesh = make_mesh((data, fsdp, tensor), devices[:count])
    _, state = make_initialization(spec.model, mesh, spec.optim.name)
    batch = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), example(spec))
    step = make_train_step(program_of(spec), mesh)
    with jax.set_mesh(mesh):
        # float32, as the run gives them, so that the run finds this program
        hyper = dict.fromkeys(
            (*hyperparameters(spec.optim, spec.objective), "learning_rate"),
            jax.ShapeDtypeStruct((), jnp.float32),
        )
        compiled = step.lower(state, batch, hyper).compile()  # type: ignore[attr-defined]
    account = compiled.memory_analysis()
    # Donated memory is counted as argument and as output; the alias is what they share.
    kept = account.argument_size_in_bytes + account.output_size_in_bytes - account.alias_size_in_bytes
    scratch = account.temp_size_in_bytes + account.generated_code_size_in_bytes
    return Bytes(kept, scratch, "compiled")


def device_memory(kind: str) -> int | None:
    """Bytes of one device that JAX can give to a run; None where unknown. Of a GPU a share is left to CUDA."""
    total = memory_of(kind)
    return int(total * gpu_memory_share()) if total and device_of(kind).platform == "gpu" else total


def device_memory_here(kind: str) -> int | None:
    """Bytes of one device of this machine that JAX can give to a run: of a GPU its share of what nvidia-smi says, of a
    CPU all memory that this process may take (the control group's limit counts); elsewhere by its name, None where
    unknown."""
    platform = device_of(kind).platform
    if platform == "gpu":
        command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        try:
            said = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=20).stdout
            return int(int(said.splitlines()[0]) * 2**20 * gpu_memory_share())
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return device_memory(kind)
    if platform == "tpu":
        return device_memory(kind)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def parse_bytes(text: str, name: str = "--device-memory") -> int:
    """80GiB, 80G, 1.5e9: a number with an optional unit (k, M, G, T; with i powers of 1,024) as bytes.

    Raises:
      BadInput: anything else, or nothing above zero.
    """
    match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    if match is None or not 0 < number < float("inf") or (match[3] and not match[2]):
        raise BadInput(f"{name}={text}: must be bytes, as 80GiB, 80G or 8.5e10")
    unit = UNITS[match[2]]
    return int(number * (1024 ** (list(UNITS).index(match[2])) if match[3] else unit))


def refuse_what_cannot_fit(predicted: Iterable[tuple[RunSpec, Bytes]], device_memory: int) -> None:
    """Refuse a sweep of which a run needs more than a device has.

    Args:
      predicted: each run with its bytes on one device.
      device_memory: bytes of one device.

    Raises:
      BadInput: the run that needs most, what it needs, and what makes it smaller.
    """
    over = [(need.total, spec, need) for spec, need in predicted if need.total > device_memory]
    if not over:
        return
    _, spec, need = max(over, key=lambda item: item[0])
    smaller = ["optim.microbatch_tokens", "a mesh with more fsdp or tensor"]
    smaller = (["model.remat=block"] if spec.model.remat != "block" else []) + smaller
    raise BadInput(
        f"{spec.run_id}: needs {short_bytes(need.total)} on a device ({need.basis}), which has "
        f"{short_bytes(device_memory)}"
        + (f", as {len(over) - 1} other runs of this sweep" if len(over) > 1 else "")
        + f"; smaller: {', '.join(smaller)}"
    )


def main() -> int:
    """Answer one request of `compiled_bytes` on standard input with a line on standard output."""
    with exit_on_bad_input():
        answer = _compile_here(json.loads(sys.stdin.read()))
    sys.stdout.write(json.dumps(to_json(answer)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
