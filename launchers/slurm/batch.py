"""From runs to sbatch arrays: which run goes into which array, and the script of each. Pure functions."""

import dataclasses
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import BadInput
from core.order import waves
from launchers.packs import form_packs
from launchers.slurm.options import Resources, SlurmOptions
from training.cost import parameter_count, training_flops
from training.spec import RunSpec

TEMPLATE = Path(__file__).resolve().parents[1] / "templates" / "array.sh"
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
PROJECT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Array:
    """One sbatch array: runs that get the same resources and wait for the same arrays.

    Attributes:
      role: runs (trunks among them), branches, or stages (they begin with another run's weights).
      elements: run_ids, the costliest first: element i trains elements[i], one run or those of a pack.
      resources: of each element.
      after: indices of earlier arrays of the plan that must have ended.
      parents: trunks of these runs that are not in the plan; where Slurm has them queued, they come first.
    """

    role: str
    elements: tuple[tuple[str, ...], ...]
    resources: Resources
    after: tuple[int, ...] = ()
    parents: tuple[str, ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """All its run_ids."""
        return tuple(run for element in self.elements for run in element)


def plan_arrays(
    specs: Sequence[RunSpec],
    options: SlurmOptions,
    most_elements: int,
    most_of_a_pack: Callable[[RunSpec], int] = lambda spec: 1,
) -> list[Array]:
    """Arrays for these runs: one a resource shape, trunks and plain runs before branches, chunks of `most_elements`.

    Under a throttle the chunks of a shape follow each other, so that no more than `throttle` of its elements are ever
    at work. Branches wait for every array that holds a trunk of theirs: the run itself refuses to start without its
    trunk's checkpoint, so a trunk that failed costs its branches nothing but their place. Later stages wait for the
    runs that they begin with in the same way.
    """
    wave = waves(specs)
    shapes: dict[tuple[int, Resources], list[RunSpec]] = {}
    for spec in specs:
        shape = options.shape_for(parameter_count(spec))
        shapes.setdefault((wave[spec.run_id], shape), []).append(spec)
    arrays: list[Array] = []
    place: dict[str, int] = {}
    last_of_shape: dict[Resources, int] = {}
    for (number, shape), members in sorted(shapes.items(), key=lambda item: item[0][0]):
        packs = form_packs(members, most_of_a_pack)
        packs.sort(key=lambda pack: sum(map(training_flops, pack)), reverse=True)
        for start in range(0, len(packs), most_elements):
            elements = packs[start : start + most_elements]
            chunk = [spec for pack in elements for spec in pack]
            parents = {spec.parent for spec in chunk if spec.parent is not None}
            after = {place[parent] for parent in parents if parent in place}
            if options.throttle and shape in last_of_shape:
                after.add(last_of_shape[shape])
            if options.throttle:
                last_of_shape[shape] = len(arrays)
            for spec in chunk:
                place[spec.run_id] = len(arrays)
            arrays.append(
                Array(
                    role=_role(chunk) if number else "runs",
                    elements=tuple(tuple(spec.run_id for spec in pack) for pack in elements),
                    resources=shape,
                    after=tuple(sorted(after)),
                    parents=tuple(sorted(parent for parent in parents if parent not in place)),
                )
            )
    return arrays


def _role(specs: Sequence[RunSpec]) -> str:
    return "branches" if all(spec.is_branch for spec in specs) else "stages"


def array_range(count: int, throttle: int) -> str:
    """0-11%4: element numbers, and how many at the same time."""
    return f"0-{count - 1}" + (f"%{throttle}" if throttle else "")


def render(array: Array, options: SlurmOptions, batch: Path, sweep: Path, cache: Path, python: str) -> str:
    """The batch script of one array. Every value is either checked plain (#SBATCH lines) or quoted for the shell.

    Raises:
      BadInput: a path holds a character that Slurm itself would interpret.
    """
    for path in (batch, sweep, cache):
        if any(character in str(path) for character in "\0\r\n%\\"):
            raise BadInput(
                f"{str(path)!r}: Slurm needs a folder without line break, % and backslash in its name"
            )
    shape = array.resources
    extra = [f"--partition={options.partition}"] * bool(options.partition)
    extra += [f"--account={options.account}"] * bool(options.account)
    extra += [f"--gpus-per-node={shape.gpus}"] * bool(shape.gpus)
    extra += [f"--mem={shape.memory}"] * bool(shape.memory)
    extra += list(options.options)
    environment = [
        f"export JAX_PLATFORMS={shlex.quote(options.platform if shape.gpus else 'cpu')}",
        "export PYTHONUNBUFFERED=1",
    ]
    run_options = "" if shape.gpus else f" --cores {shape.cpus}"
    run_options += f" --mesh {shlex.quote(shape.mesh)}" if shape.mesh else ""
    run_options += " --distributed" if shape.nodes * shape.tasks > 1 else ""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{sweep.name}-{array.role}").lstrip("-")[:60]
    values = {
        "job_name": name or "sweep",
        "array": array_range(len(array.elements), options.throttle),
        "nodes": str(shape.nodes),
        "tasks_per_node": str(shape.tasks),
        "cpus": str(shape.cpus),
        "time": shlex.quote(shape.time),
        "signal_seconds": str(options.signal_seconds),
        "options": "\n".join(f"#SBATCH {option}" for option in extra),
        "batch": shlex.quote(str(batch)),
        "sweep": shlex.quote(str(sweep)),
        "project": shlex.quote(str(PROJECT)),
        "environment": "\n".join(environment),
        "setup": "\n".join(options.setup),
        "container": "".join(f"{shlex.quote(word)} " for word in options.container),
        "python": shlex.quote(python),
        "cache": shlex.quote(str(cache)),
        "checkpoint_seconds": shlex.quote(f"{options.checkpoint_seconds:g}"),
        "run_options": run_options,
        "most_restarts": str(options.most_restarts),
    }
    text = PLACEHOLDER.sub(lambda match: values[match[1]], TEMPLATE.read_text(encoding="utf-8"))
    return re.sub(r"\n{3,}", "\n\n", text)
