"""What a bench measures and with what: its settings, the shapes of its sizes, and the process of each side."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from core.errors import BadInput
from launchers.local.devices import require_cuda, visible_gpus
from model.config import ModelConfig
from training.processes import allocator

ROOT = Path(__file__).parents[1]

# Shapes with roughly the parameters of their name; head width 16 to 64 as the models of these sizes have.
SIZES: dict[str, ModelConfig] = {
    "10k": ModelConfig(width=16, depth=2, heads=2, kv_heads=2),
    "30k": ModelConfig(width=32, depth=2, heads=2, kv_heads=2),
    "100k": ModelConfig(width=64, depth=2, heads=4, kv_heads=4),
    "400k": ModelConfig(width=128, depth=2, heads=4, kv_heads=4),
    "1M": ModelConfig(width=128, depth=5, heads=4, kv_heads=4),
    "5M": ModelConfig(width=256, depth=6, heads=4, kv_heads=4),
    "10M": ModelConfig(width=320, depth=8, heads=5, kv_heads=5),
    "30M": ModelConfig(width=512, depth=10, heads=8, kv_heads=8),
    "124M": ModelConfig(width=768, depth=12, heads=12, kv_heads=12, vocabulary=50_304),
    "350M": ModelConfig(width=1024, depth=24, heads=16, kv_heads=16, vocabulary=50_304),
    "760M": ModelConfig(width=1536, depth=24, heads=12, kv_heads=12, vocabulary=50_304),
    "1.3B": ModelConfig(width=2048, depth=24, heads=16, kv_heads=16, vocabulary=50_304),
}
# By size: sequences of 2,048 tokens as in practice, shorter where attention would be most of the work.
SHORT_SEQUENCES = {"10k": 128, "30k": 128, "100k": 128, "400k": 128, "1M": 128, "5M": 128, "10M": 512}
LONG_SEQUENCE = 2048
# Tokens of a step: enough for products at full speed; on a GPU as many as 80 GB hold beside the state.
CPU_BATCH_TOKENS = 4096
GPU_BATCH_TOKENS = {"124M": 65_536, "350M": 32_768, "760M": 16_384, "1.3B": 8_192}
GPU_SMALL_BATCH_TOKENS = 131_072
FEW_FAULTS = 50  # page faults in two steps: memory does not grow
MOST_SETTLING = 10  # times two steps before the first round
SAME_LOSS = {
    "float32": 1e-4,
    "bfloat16": 2e-2,
}  # relative difference of the first losses that rounding explains


@dataclasses.dataclass(frozen=True)
class Bench:
    """Tokens per second, utilization, compile time and host wait, beside PyTorch where it is installed.

    Attributes:
      sizes: names of shapes.
      sequence: tokens in a sequence; by default by size: 2,048, shorter for the smallest.
      batch_tokens: tokens in a step; by default 4,096 on a CPU, and by size what a GPU of 80 GB holds.
      compute_dtype: dtype of activations; auto is float32 on a CPU and bfloat16 on a GPU.
      threads: CPU threads of each side; 0 for one a core.
      scan: scan over layers; auto is off on a CPU, where unrolled layers are faster, and on on a GPU.
      remat: what our side computes again in the backward pass.
      rounds: rounds of alternating measurements.
      seconds: length of one measurement.
      torch_python: interpreter that has torch; by default this one, where it has torch.
      compile: also measure torch.compile.
      clock: wall, or cpu: seconds of processor time, for a machine that others use; take --threads 1 with it.
      device: cpu or cuda; where both sides run.
      plain_allocator: leave out the memory settings of CPU workers (training/processes/allocator.py).
      pack: numbers of members: measure packs instead (bench/packs.py), beside one run at a time.
      start: measure the time to the first step, cold and warm, and the cost of a checkpoint instead
        (bench/start.py).
      depth: layers, in place of those of the sizes.
      out: JSON file for every number.
      table: throughput table to add our own speeds to (planning/throughput.py); `plan` reads cache/throughput.json.
    """

    sizes: tuple[str, ...] = ("10k", "100k", "1M", "5M")
    sequence: int | None = None
    batch_tokens: int | None = None
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = 0
    scan: Literal["auto", "on", "off"] = "auto"
    remat: Literal["none", "block", "dots"] = "none"
    rounds: int = 5
    seconds: float = 1.0
    torch_python: str = ""
    compile: bool = False
    clock: Literal["wall", "cpu"] = "wall"
    device: Literal["cpu", "cuda"] = "cpu"
    plain_allocator: bool = False
    pack: tuple[int, ...] = ()
    start: bool = False
    depth: int | None = None
    out: Path | None = None
    table: Path | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.sizes) - set(SIZES))
        if unknown or not self.sizes:
            raise BadInput(f"--sizes {' '.join(unknown)}: must be some of {', '.join(SIZES)}")
        for name in ("sequence", "batch_tokens", "rounds", "depth"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"--{name.replace('_', '-')} {value}: must be at least 1")
        for size in self.sizes:
            sequence, batch_tokens = self.shape(size)
            if batch_tokens % sequence:
                raise BadInput(f"--batch-tokens {batch_tokens}: must be a multiple of --sequence {sequence}")
        if self.pack and min(self.pack) < 1:
            raise BadInput(f"--pack {min(self.pack)}: must be at least 1 run")
        if not self.seconds > 0:
            raise BadInput(f"--seconds {self.seconds}: must be positive")
        if self.threads < 0 or self.threads > len(os.sched_getaffinity(0)):
            raise BadInput(f"--threads {self.threads}: must be 0 to {len(os.sched_getaffinity(0))}")
        if self.pack and self.start:
            raise BadInput("--start: measures runs alone; leave out --pack")
        if self.table is not None and (self.pack or self.start):
            raise BadInput(f"--table {self.table}: takes the speeds of steps; leave out --pack and --start")
        if self.table is not None and self.clock != "wall":
            raise BadInput(f"--table {self.table}: takes speeds by the clock, not --clock {self.clock}")
        if self.torch_python and not os.access(self.torch_python, os.X_OK):
            raise BadInput(f"--torch-python {self.torch_python}: not a program that can be run")

    def shape(self, size: str) -> tuple[int, int]:
        """Tokens in a sequence and in a step of a size."""
        if self.device == "cpu":
            batch_tokens = self.batch_tokens or CPU_BATCH_TOKENS
        else:
            batch_tokens = self.batch_tokens or GPU_BATCH_TOKENS.get(size, GPU_SMALL_BATCH_TOKENS)
        return self.sequence or SHORT_SEQUENCES.get(size, LONG_SEQUENCE), batch_tokens

    def model(self, size: str) -> ModelConfig:
        """The network of a size."""
        automatic: Literal["float32", "bfloat16"] = "float32" if self.device == "cpu" else "bfloat16"
        dtype = automatic if self.compute_dtype == "auto" else self.compute_dtype
        scan = self.device == "cuda" if self.scan == "auto" else self.scan == "on"
        shape = SIZES[size] if self.depth is None else dataclasses.replace(SIZES[size], depth=self.depth)
        return dataclasses.replace(shape, compute_dtype=dtype, scan=scan, remat=self.remat)


class Side:
    """A peer's process; `ask` sends one command of bench/protocol.py and waits for its answer."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], cores: set[int]):
        self.name = " ".join(command[1:])
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to one command.

        Raises:
          RuntimeError: the peer ended without an answer; its own message went to standard error.
        """
        sent, received = self.process.stdin, self.process.stdout
        assert sent is not None
        assert received is not None
        try:
            sent.write(json.dumps({"do": do} | arguments) + "\n")
            sent.flush()
        except BrokenPipeError:
            raise self._ended(f"before {do}") from None
        return self._answer(received, do)

    def _answer(self, received: IO[str], do: str) -> dict[str, Any]:
        line = received.readline()
        if not line:
            raise self._ended(f"in {do}")
        return json.loads(line)

    def _ended(self, when: str) -> RuntimeError:
        status = self.process.wait()
        why = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        hint = "; was there memory for all sides at once?" if status == -signal.SIGKILL else ""
        return RuntimeError(f"{self.name} ended {when}: {why}{hint}")

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended with a command unread
            self.process.stdin.close()
        self.process.wait()


def commands(options: Bench) -> dict[str, list[str]]:
    """How each side is started: ours and, where there is an interpreter with torch, eager and compiled PyTorch."""
    sides = {"jax": [sys.executable, "-m", "bench.jax_peer"]}
    python = options.torch_python or (sys.executable if importlib.util.find_spec("torch") else "")
    if python:
        command = [python, "-m", "bench.torch_peer", "--threads", str(len(_cores(options)))]
        sides["torch"] = [*command, "--device", options.device]
        if options.compile:
            sides["torch.compile"] = [*sides["torch"], "--compile"]
    return sides


def _cores(options: Bench) -> set[int]:
    available = sorted(os.sched_getaffinity(0))
    return set(available[: options.threads or len(available)])


def environment_of(options: Bench) -> dict[str, str]:
    """The environment of everything that is measured."""
    environment = os.environ | {"OMP_NUM_THREADS": str(len(_cores(options))), "PYTHONPATH": str(ROOT)}
    if options.device == "cuda":
        environment |= {"JAX_PLATFORMS": "cuda"}  # else JAX measures the processor where CUDA does not load
    else:
        environment |= {"JAX_PLATFORMS": "cpu"}
        if not options.plain_allocator:
            environment |= allocator.environment()
    return environment


def refuse_without_device(options: Bench) -> None:
    """Refuse to measure a device that is not here.

    Raises:
      BadInput: no GPU, or a JAX without CUDA.
    """
    if options.device == "cuda":
        gpus = visible_gpus()
        if not gpus:
            raise BadInput(
                "--device cuda: no GPU is here: nvidia-smi lists none, or CUDA_VISIBLE_DEVICES or JAX_PLATFORMS hide it"
            )
        require_cuda(gpus)


@contextlib.contextmanager
def started(
    options: Bench, names: Sequence[str], processes: dict[str, list[str]] | None = None
) -> Iterator[dict[str, Side]]:
    """The processes of these sides, closed at the end; `processes` in place of `commands`."""
    processes = processes or commands(options)
    cores, environment = _cores(options), environment_of(options)
    sides = {name: Side(processes[name], environment, cores) for name in names}
    try:
        yield sides
    finally:
        for side in sides.values():
            side.close()
