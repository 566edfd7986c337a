"""What a sweep asks of Slurm: from a site file (TOML) and flags, checked before anything is written."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Any

from core import bounds
from core.bounds import Allowed
from core.errors import BadInput
from launchers.packs import parse_pack
from launchers.site import from_keys

# A value inside a #SBATCH line: printable, no white space, quote, backslash or #, so that it cannot end the line or
# the option that it belongs to.
OPTION_VALUE = re.compile(r"[!$-&(-\[\]-~]+")
# A name that the shell takes as it stands.
PLAIN_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_,.-]*")
TIME = re.compile(
    r"(?:(?P<days>\d{1,6})-)?(?P<first>\d{1,9})(?::(?P<second>\d{1,9}))?(?::(?P<third>\d{1,9}))?",
    flags=re.ASCII,
)
MESH = re.compile(r"(?:data|fsdp|tensor|expert)=\d+(?:,(?:data|fsdp|tensor|expert)=\d+)*", flags=re.ASCII)

# Slurm may send the signal up to a minute early and then wants half a minute to end: below this nothing is trained.
LEAST_SECONDS_BEYOND_SIGNAL = 90


def seconds_of(time: str) -> int:
    """Seconds of a Slurm time: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S (sbatch(1), --time).

    Raises:
      BadInput: another form.
    """
    match = TIME.fullmatch(time)
    if match is None or len(time) > 40:
        raise BadInput(f"time={time!r}: must be minutes, minutes:seconds, hours:minutes:seconds or days-hours")
    parts = [int(match[key]) for key in ("first", "second", "third") if match[key] is not None]
    if match["days"] is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return int(match["days"]) * 86_400 + hours * 3600 + minutes * 60 + seconds
    hours, minutes, seconds = (0, parts[0], 0) if len(parts) == 1 else (0, *parts) if len(parts) == 2 else parts
    return hours * 3600 + minutes * 60 + seconds


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one run gets, or several that are trained as one pack.

    Attributes:
      nodes: machines.
      tasks_per_node: processes on each, which train the run together; 0 for one, which uses all GPUs of its node.
      mesh: devices of all processes by axis, as for training.run; empty for all along data.
      gpus: GPUs of each node, 0 for none.
      cpus: CPU cores of each process; on a CPU the number of threads, which decides the last bits.
      memory: of each node, as Slurm writes it (16G); empty for the cluster's default.
      time: limit of one attempt, as Slurm writes it (minutes, 4:00:00, 1-12).
      pack: runs of one shape as one program: auto, off, or the most of a pack (launchers/packs.py).
      params_above: these resources are for runs with more parameters than this.
    """

    nodes: Annotated[int, Allowed(1, 100_000)] = 1
    tasks_per_node: Annotated[int, Allowed(0, 10_000)] = 0
    mesh: str = ""
    gpus: Annotated[int, Allowed(0, 10_000)] = 0
    cpus: Annotated[int, Allowed(1, 10_000)] = 1
    memory: str = ""
    time: str = "4:00:00"
    pack: str = "auto"
    params_above: Annotated[float, Allowed(0, 1e13)] = 0.0

    @property
    def tasks(self) -> int:
        return self.tasks_per_node or 1

    @property
    def trains_alone(self) -> bool:
        """Whether several processes or a mesh serve each run: packs are for one process that has all of them."""
        return self.nodes * self.tasks > 1 or bool(self.mesh)

    def __post_init__(self) -> None:
        bounds.check(self)
        if self.mesh and not MESH.fullmatch(self.mesh):
            raise BadInput(f"mesh={self.mesh!r}: must be devices by axis, such as data=2,fsdp=8")
        seconds_of(self.time)
        parse_pack(self.pack, "pack")
        if self.memory and not re.fullmatch(r"[0-9]{1,15}[KMGT]?", self.memory):
            raise BadInput(f"memory={self.memory!r}: must be a whole number with K, M, G or T, such as 16G")


@dataclasses.dataclass(frozen=True)
class SlurmOptions:
    """Everything about a cluster that is not about a run; keys of the site file.

    Attributes:
      partition, account: as for sbatch; empty for the cluster's defaults.
      throttle: runs, or packs, of one resource shape at the same time; 0 for no limit.
      signal_seconds: a run is told to save this long before its time limit.
      most_restarts: a run that was stopped this often is given up on until it is submitted again.
      platform: JAX platform where there are GPUs: cuda, rocm; never a silent fall to the CPU.
      python: interpreter on the nodes; empty for the one that submits.
      setup: shell lines before the run, such as "module load cuda"; trusted, they run as they are.
      container: words before the interpreter, such as ["apptainer", "exec", "--nv", "image.sif"].
      options: further sbatch options, such as "--qos=normal".
      checkpoint_seconds: least time between checkpoints.
      resources: by size, the last entry whose params_above is below the run's parameters counts.
    """

    partition: str = ""
    account: str = ""
    throttle: Annotated[int, Allowed(0, 1_000_000)] = 0
    signal_seconds: Annotated[int, Allowed(0, 1_000_000)] = 120
    most_restarts: Annotated[int, Allowed(0, 1_000_000)] = 500
    platform: str = "cuda"
    python: str = ""
    setup: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    checkpoint_seconds: Annotated[float, Allowed(1e-3, 1e9)] = 60.0
    resources: tuple[Resources, ...] = (Resources(),)

    def __post_init__(self) -> None:
        bounds.check(self)
        if not PLAIN_WORD.fullmatch(self.platform):
            raise BadInput(
                f"platform={self.platform!r}: must be the name of a JAX platform, such as cuda or rocm"
            )
        for key in ("partition", "account"):
            value = getattr(self, key)
            if value and not (OPTION_VALUE.fullmatch(value) and not value.startswith("-")):
                raise BadInput(f"{key}={value!r}: must be one word of plain characters")
        if self.python.startswith("-"):
            raise BadInput(f"python={self.python!r}: must be an interpreter, not an option")
        for option in self.options:
            if not (OPTION_VALUE.fullmatch(option) and option.startswith("-")):
                raise BadInput(
                    f"options={option!r}: must be one sbatch option without spaces, such as --qos=normal"
                )
        for line in (*self.setup, *self.container, self.python):
            if any(character in line for character in "\0\r\n"):
                raise BadInput(f"{line!r}: must be one line")
        for shape in self.resources:
            least = self.signal_seconds + LEAST_SECONDS_BEYOND_SIGNAL
            if seconds_of(shape.time) < least:
                raise BadInput(
                    f"time={shape.time}: must be at least {least} seconds: a run is told to save {self.signal_seconds} "
                    "seconds (signal_seconds) before the limit, and Slurm may do so a minute early"
                )

    def shape_for(self, params: int) -> Resources:
        """The resources of a run with this many parameters."""
        fitting = [shape for shape in self.resources if params > shape.params_above]
        return max(fitting, key=lambda shape: shape.params_above)


def slurm_options(site: Mapping[str, Any], flags: Mapping[str, Any]) -> SlurmOptions:
    """Options from a site file's keys, flags that are given winning over it.

    Keys of `Resources` may stand at the top level; `[[resources]]` tables with params_above refine them by size.

    Raises:
      BadInput: an unknown or wrong-typed key.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    shape_keys = {field.name for field in dataclasses.fields(Resources)} - {"params_above"}
    tables = site.get("resources", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BadInput("resources: must be [[resources]] tables, each with params_above")
    top = {key: value for key, value in site.items() if key != "resources"}
    base = {key: top.pop(key) for key in sorted(shape_keys & top.keys())}
    forced = {key: given.pop(key) for key in sorted(shape_keys & given.keys())}
    shapes = [from_keys(Resources, {**base, **table, **forced}) for table in [{}, *tables]]
    if len({shape.params_above for shape in shapes}) < len(shapes):
        raise BadInput("resources: every table needs its own params_above, above 0")
    asked = [shape for shape in shapes if parse_pack(shape.pack) not in ("auto", 1)]
    if asked and all(shape.trains_alone for shape in shapes):
        alone = (
            f"mesh={asked[0].mesh}" if asked[0].mesh else f"{asked[0].nodes * asked[0].tasks} processes a run"
        )
        raise BadInput(f"pack={asked[0].pack}: {alone} is for runs that train alone; must be auto or off")
    return from_keys(SlurmOptions, {**top, **given}, resources=tuple(shapes))
