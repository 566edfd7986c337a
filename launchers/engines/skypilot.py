"""SkyPilot managed jobs: one file for each trunk with its branches, and for each other run. Written, not sent.

A task trains one run, or one pack; packs that share trunks lie in one file.
A file of several tasks is a pipeline: SkyPilot runs them one after the other, so branches find their trunk's
checkpoint. A preempted task, and one that ends with 75, is started again and resumes.
"""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from core import bounds
from core.bounds import INT32, Allowed
from core.errors import EXIT_STOPPED, BadInput
from core.files import write_atomic
from launchers.manifests import Pack, families, fill_in, job_name, run_command
from launchers.packs import form_packs, measured_sizes, parse_pack
from launchers.site import from_table
from launchers.submit import Request, written_only
from training.spec import RunSpec


@dataclasses.dataclass(frozen=True)
class SkyPilotOptions:
    """The table [skypilot] of the site file.

    Attributes:
      bucket: where sweeps are kept, as s3://name or gs://name; mounted with a local cache (MOUNT_CACHED), because logs
        are appended to, which an object store cannot do.
      accelerators: as SkyPilot writes them, H100:8; empty for a CPU.
      cpus: as SkyPilot writes them, 4+; where there is no accelerator.
      use_spot: cheaper machines that may be taken away.
      max_restarts_on_errors: restarts after exit 1; after 75 there is no limit.
      setup: shell lines that install the project's requirements.
      cache: folder of corpora and compiled programs on the machine.
      pack: runs of one shape as one program and one task: auto, off, or the most of a pack.
    """

    bucket: str = ""
    accelerators: str = ""
    cpus: str = "4+"
    use_spot: bool = True
    max_restarts_on_errors: Annotated[int, Allowed(0, INT32)] = 1
    setup: tuple[str, ...] = ("pip install --quiet -r requirements.txt",)
    cache: str = "/tmp/scaling-cache"
    pack: str = "auto"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(s3|gs|r2|cos|azure)://[A-Za-z0-9][A-Za-z0-9._/-]*", self.bucket):
            raise BadInput(
                f"skypilot.bucket={self.bucket!r}: must name the store of the sweeps, such as s3://my-runs"
            )
        bounds.check(self, "skypilot.")
        parse_pack(self.pack, "skypilot.pack")

    @property
    def devices(self) -> int:
        """Accelerators of a task: 8 of H100:8."""
        count = self.accelerators.partition(":")[2] or "1"
        return int(count) if self.accelerators and count.isdecimal() else int(bool(self.accelerators))


def run_lines(pack: Pack, sweep: str, options: SkyPilotOptions) -> str:
    """The shell lines of a task that trains one run or one pack."""
    directories = [f"/sweeps/{sweep}/{spec.run_id}" for spec in pack]
    platform = [] if options.accelerators else ["export JAX_PLATFORMS=cpu"]
    command = shlex.join(run_command("python", f"/sweeps/{sweep}", options.cache, pack))
    return "\n".join([*platform, f"mkdir -p {shlex.join(directories)}", f"exec {command}"])


def manifest(family: Sequence[Pack], sweep: str, options: SkyPilotOptions) -> str:
    """One YAML file: a task, or a pipeline of a trunk and its branches."""
    return fill_in(
        "skypilot.yaml",
        file_name=file_name(family),
        tasks=[
            {"name": job_name(pack).replace(".", "-"), "run": run_lines(pack, sweep, options)}
            for pack in family
        ],
        options=options,
        exit_stopped=EXIT_STOPPED,
    )


def file_name(family: Sequence[Pack]) -> str:
    first = family[0]
    name = first[0].parent if first[0].is_branch and len(first) == 1 else job_name(first)
    return f"{name}.yaml"


def write(
    folder: Path, sweep: str, specs: Sequence[RunSpec], options: SkyPilotOptions, measurements: Path
) -> list[Path]:
    """Write every manifest of a sweep into `folder`; returns their paths.

    Args:
      measurements: cache folder that may hold measured sizes of packs.
    """
    sizes = measured_sizes(specs, parse_pack(options.pack, "skypilot.pack"), options.devices, measurements)
    paths = []
    for family in families(form_packs(specs, sizes)):
        paths.append(folder / file_name(family))
        write_atomic(paths[-1], manifest(family, sweep, options))
    return paths


def submit(request: Request) -> str:
    """Write the files of a sweep."""

    def write_below(folder: Path) -> list[Path]:
        options = from_table(SkyPilotOptions, request.table("skypilot"), "skypilot")
        return write(folder, request.directory.name, request.specs, options, request.cache)

    return written_only(request, "skypilot", write_below)
