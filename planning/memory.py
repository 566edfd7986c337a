"""Bytes that training needs on each device: from the compiled program, and in closed form before anything compiles.

`compiled_bytes` asks XLA: the step is compiled for shapes alone, without data or weights, in a process of its own
that has as many devices as the mesh, and the answer is kept under the cache folder. `estimate_bytes` is the closed
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
from typing import Any, Literal

from core.codec import from_json, to_json
from core.errors import BadInput, exit_on_bad_input
from core.files import read_json, write_json
from core.numbers import short_bytes
from model.config import ModelConfig
from model.kernels import choose
from model.kernels.chips import memory_of
from model.parameters import layout, leaves
from training.processes.allocator import gpu_memory_share
from training.spec import RunSpec

FLOAT32_BYTES = 4
STATE_COPIES = 3  # parameters and the two moments of Adam, float32
ITEM_BYTES = {"float32": 4, "bfloat16": 2}
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
ROOT = Path(__file__).resolve().parents[1]

Mesh = tuple[int, int, int]  # devices along data, fsdp, tensor
ONE_DEVICE: Mesh = (1, 1, 1)
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
      mesh: devices along data, fsdp and tensor; sequences are cut over the first two, matrices over the last two.
      device: what the program is for; decides layout and attention (model/kernels/choose.py).
    """
    data, fsdp, tensor = mesh
    model, length = spec.model, spec.data.sequence_length
    form = form_of(model, device)
    # Gains are cut over fsdp alone, and so little of it all that they are counted whole.
    sizes = [(form.padded(leaf.shape), leaf.is_matrix) for leaf in leaves(layout(model))]
    matrices = sum(size for size, is_matrix in sizes if is_matrix)
    stored = (matrices // (fsdp * tensor) + sum(size for size, _ in sizes) - matrices) * FLOAT32_BYTES
    microbatches = spec.batch_tokens // (spec.optim.microbatch_tokens or spec.batch_tokens)
    tokens = max(length, spec.batch_tokens // microbatches // (data * fsdp))
    kept = _block_floats_per_token(model, device, length, tensor)
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
    scratch = weights + round(tokens * activations * item + working) + logits * FLOAT32_BYTES
    return Bytes(STATE_COPIES * stored, scratch, "estimated")


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


def _block_floats_per_token(config: ModelConfig, device: choose.Device, length: int, tensor: int) -> float:
    """Numbers of one block that the backward pass reads again, in the manner of Korthikanti et al. 2022 (arXiv
    2205.05198, section 4.1), counted for this network on each of `tensor` devices."""
    form = form_of(config, device)
    head = form.lane(config.resolved_head_width)
    heads, kv_heads = config.heads * head, config.kv_heads * head
    # Projections, then queries and keys normalized and turned; the mixed values.
    attention: float = heads + 2 * kv_heads + (2 if config.qk_norm else 1) * (heads + kv_heads) + heads
    if choose.attention(config, device, length).name == "xla":
        attention += form.attention_copies * config.heads * form.lane(length)
    # The products, and what the activation makes of them.
    feed_forward = (form.gated if config.activation == "swiglu" else form.plain) * config.resolved_ff_width
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
    length = spec.data.sequence_length
    batch_BT = jax.ShapeDtypeStruct((spec.batch_tokens // length, length + 1), jnp.int32)
    step = make_train_step(program_of(spec), mesh)
    with jax.set_mesh(mesh):
        compiled = step.lower(  # type: ignore[attr-defined]
            state, batch_BT, {**hyperparameters(spec.optim, spec.objective), "learning_rate": 1e-3}
        ).compile()
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
