"""`python launch.py bench`: how fast training is, against the machine's peak and against plain PyTorch.

Each side runs in a process of its own (bench/jax_peer.py, bench/torch_peer.py) with the same threads, the same
environment, the same batches and the same first parameters, and both are asked in turn, round by round, because
timings drift. Medians over rounds are reported, and the median of the ratios within a round.
"""

import contextlib
import dataclasses
import datetime
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import flags
from errors import BadInput
from files import write_json
from model.config import ModelConfig
from model.ledger import ledger
from training import allocator
from training.throughput import Measurement, device_here, write_rows

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
SAME_LOSS = {
    "float32": 1e-4,
    "bfloat16": 2e-2,
}  # relative difference of the first losses that rounding explains


@dataclasses.dataclass(frozen=True)
class Bench:
    """Tokens per second, utilization, compile time and host wait, beside PyTorch where it is installed.

    Attributes:
      sizes: names of shapes.
      sequence: tokens in a sequence.
      batch_tokens: tokens in a step.
      compute_dtype: dtype of activations.
      threads: CPU threads of each side; 0 for one a core.
      scan: scan over layers; by default off on a CPU, where unrolled layers are faster.
      rounds: rounds of alternating measurements.
      seconds: length of one measurement.
      torch_python: interpreter that has torch; by default this one, where it has torch.
      compile: also measure torch.compile.
      clock: wall, or cpu: seconds of processor time, for a machine that others use; take --threads 1 with it.
      device: cpu or cuda; where both sides run.
      plain_allocator: leave out the memory settings of CPU workers (training/allocator.py).
      out: JSON file for every number.
      table: throughput table to add our own speeds to (training/throughput.py); `plan` reads cache/throughput.json.
    """

    sizes: tuple[str, ...] = ("10k", "100k", "1M", "5M")
    sequence: int = 128
    batch_tokens: int = 4096
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int = 0
    scan: bool = False
    rounds: int = 5
    seconds: float = 1.0
    torch_python: str = ""
    compile: bool = False
    clock: Literal["wall", "cpu"] = "wall"
    device: Literal["cpu", "cuda"] = "cpu"
    plain_allocator: bool = False
    out: Path | None = None
    table: Path | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.sizes) - set(SIZES))
        if unknown or not self.sizes:
            raise BadInput(f"--sizes {' '.join(unknown)}: must be some of {', '.join(SIZES)}")
        for name in ("sequence", "batch_tokens", "rounds"):
            if getattr(self, name) < 1:
                raise BadInput(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if self.batch_tokens % self.sequence:
            raise BadInput(
                f"--batch-tokens {self.batch_tokens}: must be a multiple of --sequence {self.sequence}"
            )
        if not self.seconds > 0:
            raise BadInput(f"--seconds {self.seconds}: must be positive")
        if self.threads < 0 or self.threads > len(os.sched_getaffinity(0)):
            raise BadInput(f"--threads {self.threads}: must be 0 to {len(os.sched_getaffinity(0))}")
        if self.table is not None and self.clock != "wall":
            raise BadInput(f"--table {self.table}: takes speeds by the clock, not --clock {self.clock}")
        if self.torch_python and not os.access(self.torch_python, os.X_OK):
            raise BadInput(f"--torch-python {self.torch_python}: not a program that can be run")


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
            text=True,
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
            raise RuntimeError(f"{self.name} ended before {do}") from None
        return self._answer(received, do)

    def _answer(self, received: IO[str], do: str) -> dict[str, Any]:
        line = received.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended in {do}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended with a command unread
            self.process.stdin.close()
        self.process.wait()


def start_sides(options: Bench) -> dict[str, Side]:
    """Start our side and, where there is an interpreter with torch, eager and compiled PyTorch."""
    available = sorted(os.sched_getaffinity(0))
    cores = set(available[: options.threads or len(available)])
    environment = os.environ | {"OMP_NUM_THREADS": str(len(cores)), "PYTHONPATH": str(ROOT)}
    if options.device == "cpu":
        environment |= {"JAX_PLATFORMS": "cpu"}
        if not options.plain_allocator:
            environment |= allocator.environment()
    sides = {"jax": Side([sys.executable, "-m", "bench.jax_peer"], environment, cores)}
    python = options.torch_python or (sys.executable if importlib.util.find_spec("torch") else "")
    if python:
        command = [python, "-m", "bench.torch_peer", "--threads", str(len(cores)), "--device", options.device]
        sides["torch"] = Side(command, environment, cores)
        if options.compile:
            sides["torch.compile"] = Side([*command, "--compile"], environment, cores)
    return sides


def measure(options: Bench, size: str, sides: dict[str, Side]) -> dict[str, Any]:
    """Every number of one size."""
    config = dataclasses.replace(
        SIZES[size],
        compute_dtype=options.compute_dtype,
        scan=options.scan,
    )
    fields = dataclasses.asdict(config)
    resolved = fields | {"head_width": config.resolved_head_width, "ff_width": config.resolved_ff_width}
    batch = options.batch_tokens // options.sequence
    prepared = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, side in sides.items():
            prepared[name] = side.ask(
                "prepare",
                model=fields if name == "jax" else resolved,
                batch=batch,
                sequence=options.sequence,
                parameters=f"{folder}/parameters.npz",
            )
    ours = prepared["jax"]["loss"]
    for name, answer in prepared.items():
        if abs(answer["loss"] / ours - 1) > SAME_LOSS[options.compute_dtype]:
            raise RuntimeError(
                f"{size}: the first loss of {name} is {answer['loss']}, ours {ours}: not one network"
            )
    counts = {}
    for name, side in sides.items():
        side.ask("steps", count=2)
        counts[name] = max(2, round(options.seconds / (side.ask("steps", count=2)[options.clock] / 2)))
    rates: dict[str, list[float]] = {name: [] for name in sides}
    bare_rates: list[float] = []
    peaks: list[float] = []
    for _ in range(options.rounds):
        peaks.append(
            sides["jax"].ask("peak", dtype=options.compute_dtype, clock=options.clock)["flops_per_second"]
        )
        for name, side in sides.items():
            seconds = side.ask("steps", count=counts[name])[options.clock]
            rates[name].append(counts[name] * options.batch_tokens / seconds)
        seconds = sides["jax"].ask("bare", count=counts["jax"])[options.clock]
        bare_rates.append(counts["jax"] * options.batch_tokens / seconds)
    counted = ledger(config, options.sequence)
    rate, peak = statistics.median(rates["jax"]), statistics.median(peaks)
    waits = [1 - loop / bare for loop, bare in zip(rates["jax"], bare_rates, strict=True)]
    return {
        "size": size,
        "params": counted["params"]["total"],
        "model": fields,
        "sequence": options.sequence,
        "batch_tokens": options.batch_tokens,
        "tokens_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "rounds": rates,
        "ratio": {
            name: statistics.median(a / b for a, b in zip(rates["jax"], rates[name], strict=True))
            for name in sides
            if name != "jax"
        },
        "peak_flops_per_second": peak,
        "mfu": {key: rate * counted["flops_per_token"][key] / peak for key in ("exact", "palm")},  # type: ignore[literal-required]
        "compile_seconds": prepared["jax"]["seconds"],
        "host_wait": max(0.0, statistics.median(waits)),
        "first_loss": {name: answer["loss"] for name, answer in prepared.items()},
        "versions": {name: answer["versions"] for name, answer in prepared.items()},
        "device": prepared["jax"]["device"],
    }


def sentence(row: dict[str, Any]) -> str:
    """One size in one line."""
    peers = "".join(
        f" | {name} {row['tokens_per_second'][name]:,.0f} (ours {ratio:.2f}x)"
        for name, ratio in row["ratio"].items()
    )
    return (
        f"{row['size']:>5} {row['params']:>11,} params | {row['tokens_per_second']['jax']:>9,.0f} tokens/s{peers}"
        f" | MFU exact {row['mfu']['exact']:.3f} palm {row['mfu']['palm']:.3f}"
        f" of {row['peak_flops_per_second'] / 1e9:,.0f} GFLOP/s"
        f" | compile {row['compile_seconds']:.1f} s | host wait {row['host_wait']:.1%}"
    )


def run(options: Bench, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure every size, reporting each as it is done; writes `options.out` where given."""
    sides = start_sides(options)
    try:
        rows = []
        for size in options.sizes:
            rows.append(measure(options, size, sides))
            report(sentence(rows[-1]))
    finally:
        for side in sides.values():
            side.close()
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    result = {"settings": settings, "machine": platform.platform(), "rows": rows}
    if options.out is not None:
        write_json(options.out, result)
    if options.table is not None:
        write_rows(options.table, [measurement(options, row) for row in rows])
    return result


def measurement(options: Bench, row: dict[str, Any]) -> Measurement:
    """What the throughput table keeps of one size: one process that had the machine to itself."""
    on_processor = options.device == "cpu"
    return Measurement(
        device=device_here() if on_processor else row["device"].partition(" x ")[2],
        threads=(options.threads or len(os.sched_getaffinity(0))) if on_processor else 0,
        workers=1,
        model=ModelConfig(**row["model"]),
        sequence_length=options.sequence,
        batch_tokens=options.batch_tokens,
        tokens_per_second=row["tokens_per_second"]["jax"],
        compile_seconds=row["compile_seconds"],
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=row["versions"]["jax"],
    )


def main(arguments: list[str]) -> int:
    """The command; exit status 0, or `BadInput` for a bad argument."""
    run(flags.parse(Bench, arguments, "python launch.py bench"), lambda line: print(line, flush=True))  # noqa: T201
    return 0
