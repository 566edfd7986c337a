"""How fast each shape trains on each device: the measured table, and what it says of shapes that were not measured.

The table is one JSON file, `throughput.json` in the cache folder: {"format": 1, "rows": [...]}, one row for each
(device, threads, workers, network, sequence length, batch). `python launch.py bench` writes it, finished runs add to
it, `plan` reads it. No JAX here: planning does not start it.
"""

import dataclasses
import itertools
import math
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from core.codec import from_json, to_json
from core.errors import BadInput
from core.files import read_json, write_json
from core.reading import path_exists
from core.records import Attempt
from core.rundir import RunDirectory, SweepDirectory
from launchers.elsewhere import other_sweeps
from model.config import ModelConfig
from model.ledger import ledger
from training.cost import counted
from training.records import read_spec
from training.spec import RunSpec

FILE = "throughput.json"
FORMAT = 1
FORWARD_SHARE = 3.0  # an evaluated token costs the forward third of a trained one (model/ledger.py)
ENOUGH_SECONDS = 5.0  # of training by finished runs of one shape, before their rate counts as a measurement

Basis = Literal["measured", "interpolated", "extrapolated", "assumed"]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured for one shape on one kind of device.

    Attributes:
      device: kind of device, as `device_here` or JAX names it.
      threads: CPU threads of a process; 0 on an accelerator.
      workers: processes that trained at the same time while this was measured.
      model: the network. sequence_length, batch_tokens: of a step.
      tokens_per_second: of training alone.
      compile_seconds: extra seconds of the first run of a shape that no cache knows; 0 where not measured.
      load_seconds: the same where compiled programs lie in the cache folder.
      run_seconds: seconds of a run besides training and compilation, one evaluation of `validation_tokens` included.
      validation_tokens: of that evaluation.
      start_seconds: from starting a worker to its first run.
      peak_bytes: most bytes on the device that the compiled step needs; None where not measured.
      source: bench, or the sweep whose finished runs were measured.
      date: ISO 8601. versions: e.g. "jax 0.10.2".
    """

    device: str
    threads: int
    workers: int
    model: ModelConfig
    sequence_length: int
    batch_tokens: int
    tokens_per_second: float
    compile_seconds: float = 0.0
    load_seconds: float = 0.0
    run_seconds: float = 0.0
    validation_tokens: int = 0
    start_seconds: float = 0.0
    peak_bytes: int | None = None
    source: str = "bench"
    date: str = ""
    versions: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tokens_per_second) and self.tokens_per_second > 0):
            raise BadInput(f"tokens_per_second={self.tokens_per_second}: must be positive")

    @property
    def key(self) -> tuple[Any, ...]:
        """What a later measurement of the same thing replaces."""
        return (
            self.device, self.threads, self.workers, self.model, self.sequence_length, self.batch_tokens,
        )  # fmt: skip

    @property
    def flops_per_token(self) -> float:
        return ledger(self.model, self.sequence_length)["flops_per_token"]["exact"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of runs of one shape.

    Attributes:
      basis: measured, interpolated between measured shapes, extrapolated beyond them, or assumed (planning/assumed.py).
      why: what was measured, in words; empty for a measured shape.
      others: as for `Measurement`; evaluation_seconds is one evaluation of the held-out slice.
    """

    tokens_per_second: float
    first_seconds: float
    load_seconds: float
    run_seconds: float
    evaluation_seconds: float
    start_seconds: float
    peak_bytes: int | None
    basis: Basis
    why: str = ""

    def seconds(self, spec: RunSpec) -> float:
        """Of a run, from its order to its end, without compilation."""
        more_evaluations = len(spec.all_marks) - 1
        return (
            spec.trained_tokens / self.tokens_per_second
            + self.run_seconds
            + more_evaluations * self.evaluation_seconds
        )


def device_here(gpus: Sequence[str] = ()) -> str:
    """The kind of the device that runs would train on here: the GPU's name, or the processor's.

    Args:
      gpus: indices of visible GPUs.
    """
    if gpus:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", f"--id={gpus[0]}"],
            capture_output=True, encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
        if listing.returncode == 0 and listing.stdout.strip():
            return listing.stdout.strip().splitlines()[0]
    return f"cpu: {processor_name()}"


def processor_name() -> str:
    """The processor's model name where the system tells it, else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.machine()


def read_table(path: Path) -> list[Measurement]:
    """The rows of a table; [] where there is none.

    Raises:
      BadInput: not a throughput table.
    """
    if not path.exists():
        return []
    value = read_json(path)
    if not (isinstance(value, dict) and value.get("format") == FORMAT and isinstance(value.get("rows"), list)):
        raise BadInput(f"{path}: not a throughput table of format {FORMAT}; python launch.py bench writes one")
    rows = []
    for number, row in enumerate(value["rows"]):
        try:
            rows.append(from_json(Measurement, {k: v for k, v in row.items() if k not in ADDED}))
        except (BadInput, TypeError, AttributeError) as error:
            raise BadInput(f"{path}: row {number}: {error}") from None
    return rows


ADDED = ("params", "flops_per_token")  # in the file for its readers; they follow from the network


def write_rows(path: Path, rows: Iterable[Measurement]) -> int:
    """Put rows into the table, each in the place of an earlier one of the same key; how many the table then holds."""
    kept = {row.key: row for row in read_table(path)} | {row.key: row for row in rows}
    plain = [
        to_json(row)
        | {
            "params": dict(ledger(row.model, row.sequence_length)["params"]),
            "flops_per_token": row.flops_per_token,
        }
        for row in kept.values()
    ]
    write_json(path, {"format": FORMAT, "rows": plain})
    return len(plain)


def from_runs(directory: Path, specs: Iterable[RunSpec], device: str) -> list[Measurement]:
    """One measurement a shape from finished runs of a sweep on `device`, where they trained for long enough.

    A run on another machine's processor, or one that cannot be read, is left out: its rate says nothing here.
    """
    pairs = ((SweepDirectory(directory).run(spec.run_id), spec) for spec in specs)
    return _from_finished(pairs, device, str(directory))


def from_other_sweeps(directory: Path, device: str) -> list[Measurement]:
    """The same from all sweeps beside runs/<sweep>; a run that lies in several of them counts once."""
    return _from_finished(_runs_beside(directory), device, f"sweeps in {directory.parent}")


def _runs_beside(directory: Path) -> Iterator[tuple[RunDirectory, RunSpec]]:
    seen = set()
    for sweep in other_sweeps(directory):
        try:
            runs = SweepDirectory(sweep).runs()
        except BadInput:
            continue
        for run in runs:
            if run.name not in seen and path_exists(run.result):
                try:
                    spec = read_spec(run.path)
                except BadInput:
                    continue
                seen.add(run.name)
                yield run, spec


def _from_finished(
    pairs: Iterable[tuple[RunDirectory, RunSpec]], device: str, source: str
) -> list[Measurement]:
    groups: dict[tuple[Any, ...], list[tuple[float, float, Attempt]]] = {}
    for run, spec in pairs:
        if not run.is_complete():
            continue
        try:
            result, attempt = run.read_result(), run.read_environment()["attempts"][-1]
        except (BadInput, IndexError):
            continue
        name, threads = device_of(attempt)
        tokens, seconds = float(result["trained_tokens"]), result["train_seconds"]
        # The cores of a process are one place, whose threads are counted; several accelerators are not one.
        one_place = threads > 0 or attempt["devices"] == 1
        if name == device and one_place and "pack" not in attempt:
            key = (threads, spec.model, spec.data.sequence_length, spec.batch_tokens)
            groups.setdefault(key, []).append((tokens, seconds, attempt))
    found = []
    for (threads, model, length, batch), runs in groups.items():
        total = sum(seconds for _, seconds, _ in runs)
        if total >= ENOUGH_SECONDS:
            found.append(
                Measurement(
                    device=device, threads=threads, workers=0, model=model, sequence_length=length,
                    batch_tokens=batch, tokens_per_second=sum(tokens for tokens, _, _ in runs) / total,
                    source=f"{len(runs)} finished runs of {source}", date=runs[-1][2]["started"],
                    versions=versions_of(runs[-1][2]),
                )
            )  # fmt: skip
    return found


def device_of(attempt: Attempt) -> tuple[str, int]:
    """Device kind and CPU threads of an attempt in env.json; a processor of another machine is named by its host."""
    if attempt["platform"] != "cpu":
        return attempt["device"], 0
    here = attempt["host"] == platform.node()
    return (f"cpu: {processor_name()}" if here else f"cpu of {attempt['host']}"), len(attempt["cpus"])


def versions_of(attempt: Attempt) -> str:
    """The versions that decide speed, as one text."""
    packages = attempt["packages"]
    return ", ".join(f"{name} {packages[name]}" for name in ("jax", "jaxlib") if name in packages)


class Throughput:
    """Answers how fast any shape trains on one kind of device with so many threads.

    Args:
      rows: of the table; those of other devices, threads or dtypes are not used.
      device, threads: where runs would train.
      workers: how many at a time; rows measured with as many are preferred.
      finished: measurements by finished runs, the sweep's own first, which go before those of the table.
    """

    def __init__(
        self,
        rows: Iterable[Measurement],
        device: str,
        threads: int,
        workers: int = 1,
        finished: Iterable[Measurement] = (),
    ):
        self.device, self.threads = device, threads
        self.rows = [row for row in rows if row.device == device and row.threads == threads]
        # The last of the same shape wins: as many workers as asked after other numbers of them.
        self.rows.sort(key=lambda row: (row.workers == workers, row.date))
        self.finished = [row for row in finished if row.threads == threads]
        self.known: dict[Any, Estimate | None] = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.finished)

    def estimate(self, spec: RunSpec) -> Estimate | None:
        """Speed of the shape of `spec`; None where nothing of its dtype was measured on this device."""
        shape = (spec.model, spec.data.sequence_length, spec.batch_tokens, spec.data.validation_tokens)
        if shape not in self.known:
            self.known[shape] = self._estimate(spec)
        return self.known[shape]

    def _estimate(self, spec: RunSpec) -> Estimate | None:
        wanted = (spec.model, spec.data.sequence_length, spec.batch_tokens)
        exact = {(row.model, row.sequence_length, row.batch_tokens): row for row in self.rows}.get(wanted)
        ran = next(
            (row for row in self.finished if (row.model, row.sequence_length, row.batch_tokens) == wanted), None
        )
        if exact is not None or ran is not None:
            best = ran or exact
            assert best is not None
            return self._complete(spec, best.tokens_per_second, exact, "measured", "")
        near = [
            row for row in (*self.rows, *self.finished) if row.model.compute_dtype == spec.model.compute_dtype
        ]
        if not near:
            return None
        same = [
            row for row in near
            if (row.sequence_length, row.batch_tokens) == (spec.data.sequence_length, spec.batch_tokens)
        ]  # fmt: skip
        rate, inside = _between(same or near, _flops_per_token(spec))
        measured = sorted(row.flops_per_token for row in same or near)
        why = (
            f"from {len(same or near)} measured shapes of {measured[0]:.2g} to {measured[-1]:.2g} FLOPs a token"
        )
        if not same:
            why += ", with another sequence length or batch"
        return self._complete(spec, rate, None, "interpolated" if inside and same else "extrapolated", why)

    def _complete(
        self, spec: RunSpec, rate: float, row: Measurement | None, basis: Basis, why: str
    ) -> Estimate:
        """Fill in the seconds beside training: the row's own, or typical ones of this device's rows."""

        def typical(name: str) -> float:
            values = [getattr(one, name) for one in self.rows if getattr(one, name) > 0]
            return statistics.median(values) if values else 0.0

        own = row if row is not None and row.run_seconds > 0 else None
        evaluation = spec.data.validation_tokens / (FORWARD_SHARE * rate)
        first, load = (
            (row.compile_seconds, row.load_seconds)
            if row is not None and row.compile_seconds > 0
            else (typical("compile_seconds"), typical("load_seconds"))
        )
        return Estimate(
            tokens_per_second=rate,
            first_seconds=first,
            load_seconds=load,
            run_seconds=own.run_seconds if own else evaluation + typical("run_seconds") / 2,
            # What the measured run spent beside training bounds one evaluation; tasks that are scored make it longer.
            evaluation_seconds=own.run_seconds if own and spec.tasks else evaluation,
            start_seconds=typical("start_seconds"),
            peak_bytes=row.peak_bytes if row is not None else None,
            basis=basis,
            why=why,
        )


def _flops_per_token(spec: RunSpec) -> float:
    return counted(spec)["flops_per_token"]["exact"]


def _between(rows: Sequence[Measurement], flops_per_token: float) -> tuple[float, bool]:
    """Tokens a second at a cost per token: log-linear between neighbours, beyond the ends at the FLOPs of the last one.

    Returns:
      The rate, and whether the cost lies within the measured ones.
    """
    by_cost: dict[float, list[float]] = {}
    for row in rows:
        by_cost.setdefault(row.flops_per_token, []).append(row.tokens_per_second)
    points = sorted((math.log(cost), math.log(statistics.median(rates))) for cost, rates in by_cost.items())
    x = math.log(flops_per_token)
    if x <= points[0][0] or x >= points[-1][0]:
        edge = points[0] if x <= points[0][0] else points[-1]
        return math.exp(edge[1] + edge[0] - x), x == edge[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 <= x <= x1:
            return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0)), True
    raise AssertionError("unreachable: x lies between the ends")
