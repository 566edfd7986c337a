"""`python launch.py bench`: how fast training is, against the machine's peak and against plain PyTorch.

Each side runs in a process of its own (bench/jax_peer.py, bench/torch_peer.py) with the same threads, the same
environment, the same batches and the same first parameters. On a CPU all are asked in turn, round by round, because
timings drift; on a GPU, whose memory one side at a time needs, one after the other. Medians over rounds are reported,
and the median of the ratios within a round. The peak is that of a matrix product in the same call.
"""

import contextlib
import dataclasses
import datetime
import importlib.util
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from core import cli as flags
from core.errors import BadInput
from core.files import write_json
from model.config import ModelConfig
from model.ledger import ledger
from planning.memory import short_bytes
from planning.throughput import Measurement, device_here, write_rows
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
    if options.device == "cpu":
        environment |= {"JAX_PLATFORMS": "cpu"}
        if not options.plain_allocator:
            environment |= allocator.environment()
    return environment


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


@dataclasses.dataclass
class Measured:
    """What the sides said of one size, by side; rates in tokens per second, a value a round."""

    prepared: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    rates: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    bare_rates: list[float] = dataclasses.field(default_factory=list)
    peaks: list[float] = dataclasses.field(default_factory=list)


def measure(options: Bench, size: str) -> dict[str, Any]:
    """Every number of one size."""
    names = list(commands(options))
    measured = Measured()
    with tempfile.TemporaryDirectory() as folder:
        for group in [names] if options.device == "cpu" else [[name] for name in names]:
            with started(options, group) as sides:
                _prepare(options, size, sides, folder, measured)
                _take_turns(options, size, sides, measured)
    return _row(options, size, measured)


def _prepare(options: Bench, size: str, sides: dict[str, Side], folder: str, measured: Measured) -> None:
    """Compile and take the first step on every side, and see that all are one network."""
    config = options.model(size)
    sequence, batch_tokens = options.shape(size)
    fields = dataclasses.asdict(config)
    resolved = fields | {"head_width": config.resolved_head_width, "ff_width": config.resolved_ff_width}
    for name, side in sides.items():
        answer = side.ask(
            "prepare",
            model=fields if name == "jax" else resolved,
            batch=batch_tokens // sequence,
            sequence=sequence,
            parameters=f"{folder}/parameters.npz",
        )
        measured.prepared[name] = answer
        ours = measured.prepared["jax"]["loss"]
        if abs(answer["loss"] / ours - 1) > SAME_LOSS[config.compute_dtype]:
            raise RuntimeError(
                f"{size}: the first loss of {name} is {answer['loss']}, ours {ours}: not one network"
            )


def _take_turns(options: Bench, size: str, sides: dict[str, Side], measured: Measured) -> None:
    """Rounds of steps, each side once in each."""
    _, batch_tokens = options.shape(size)
    counts = {}
    for name, side in sides.items():
        _settle(side)
        counts[name] = max(2, round(options.seconds / (side.ask("steps", count=2)[options.clock] / 2)))
        measured.rates[name] = []
    for _ in range(options.rounds):
        if "jax" in sides:
            answer = sides["jax"].ask("peak", dtype=options.model(size).compute_dtype, clock=options.clock)
            measured.peaks.append(answer["flops_per_second"])
        for name, side in sides.items():
            seconds = side.ask("steps", count=counts[name])[options.clock]
            measured.rates[name].append(counts[name] * batch_tokens / seconds)
        if "jax" in sides:
            seconds = sides["jax"].ask("bare", count=counts["jax"])[options.clock]
            measured.bare_rates.append(counts["jax"] * batch_tokens / seconds)


def _settle(side: Side) -> None:
    """Take steps until a process has all the memory that it will use.

    The heap of a process with several devices grows over its first ten or so steps, as their scratch memories find
    their places; where a virtual machine has to get every page from its host, such a step takes twice as long.
    """
    clean = 0
    for _ in range(MOST_SETTLING):
        clean = clean + 1 if side.ask("steps", count=2)["faults"] < FEW_FAULTS else 0
        if clean == 2:
            return


def _row(options: Bench, size: str, measured: Measured) -> dict[str, Any]:
    config = options.model(size)
    sequence, batch_tokens = options.shape(size)
    counted = ledger(config, sequence)
    rates, ours = measured.rates, measured.rates["jax"]
    rate, peak = statistics.median(ours), statistics.median(measured.peaks)
    waits = [1 - loop / bare for loop, bare in zip(ours, measured.bare_rates, strict=True)]
    prepared = measured.prepared
    return {
        "size": size,
        "params": counted["params"]["total"],
        "model": dataclasses.asdict(config),
        "sequence": sequence,
        "batch_tokens": batch_tokens,
        "tokens_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "rounds": rates,
        "ratio": {
            name: statistics.median(a / b for a, b in zip(ours, rates[name], strict=True))
            for name in rates
            if name != "jax"
        },
        "peak_flops_per_second": peak,
        "mfu": {key: rate * counted["flops_per_token"][key] / peak for key in ("exact", "palm")},  # type: ignore[literal-required]
        "compile_seconds": {name: answer["seconds"] for name, answer in prepared.items()},
        "bytes": prepared["jax"]["bytes"],
        "host_wait": max(0.0, statistics.median(waits)),
        "first_loss": {name: answer["loss"] for name, answer in prepared.items()},
        "versions": {name: answer["versions"] for name, answer in prepared.items()},
        "implementations": prepared["jax"]["implementations"],
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
        f" | first step {row['compile_seconds']['jax']:.1f} s | {short_bytes(row['bytes']['total'])}"
        f" | host wait {row['host_wait']:.1%}"
    )


def run(options: Bench, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure every size, reporting each as it is done; writes `options.out` where given."""
    rows = []
    if options.pack:
        from bench import packs as pack_bench

        rows = pack_bench.measure_all(options, report)
    elif options.start:
        from bench import start as start_bench

        rows = start_bench.measure_all(options, report)
    else:
        for size in options.sizes:
            rows.append(measure(options, size))
            report(sentence(rows[-1]))
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
        sequence_length=row["sequence"],
        batch_tokens=row["batch_tokens"],
        tokens_per_second=row["tokens_per_second"]["jax"],
        compile_seconds=row["compile_seconds"]["jax"],
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=row["versions"]["jax"],
    )


def main(arguments: list[str]) -> int:
    """The command; exit status 0, or `BadInput` for a bad argument."""
    run(flags.parse(Bench, arguments, "python launch.py bench"), lambda line: print(line, flush=True))  # noqa: T201
    return 0
