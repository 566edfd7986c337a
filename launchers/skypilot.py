"""SkyPilot managed jobs: one file for each trunk with its branches, and for each other run. Written, not sent.

A file of several tasks is a pipeline: SkyPilot runs them one after the other, so branches find their trunk's
checkpoint. A preempted task, and one that ends with 75, is started again and resumes.
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from errors import EXIT_STOPPED, BadInput
from files import write_atomic
from launchers.manifests import families, run_command, to_yaml
from training.config import RunSpec


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
    """

    bucket: str = ""
    accelerators: str = ""
    cpus: str = "4+"
    use_spot: bool = True
    max_restarts_on_errors: int = 1
    setup: tuple[str, ...] = ("pip install --quiet -r requirements.txt",)
    cache: str = "/tmp/scaling-cache"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(s3|gs|r2|cos|azure)://[A-Za-z0-9][A-Za-z0-9._/-]*", self.bucket):
            raise BadInput(
                f"skypilot.bucket={self.bucket!r}: must name the store of the sweeps, such as s3://my-runs"
            )
        if self.max_restarts_on_errors < 0:
            raise BadInput(
                f"skypilot.max_restarts_on_errors={self.max_restarts_on_errors}: must not be negative"
            )


def task(spec: RunSpec, sweep: str, options: SkyPilotOptions) -> dict[str, Any]:
    """One managed job's task that trains one run."""
    resources: dict[str, Any] = {"use_spot": options.use_spot}
    resources |= {"accelerators": options.accelerators} if options.accelerators else {"cpus": options.cpus}
    resources["job_recovery"] = {
        "max_restarts_on_errors": options.max_restarts_on_errors,
        "recover_on_exit_codes": [EXIT_STOPPED],
    }
    directory = f"/sweeps/{sweep}/{spec.run_id}"
    platform = [] if options.accelerators else ["export JAX_PLATFORMS=cpu"]
    command = shlex.join(run_command("python", directory, options.cache, spec))
    return {
        "name": spec.run_id.replace(".", "-"),
        "workdir": ".",
        "resources": resources,
        "file_mounts": {"/sweeps": {"source": options.bucket, "mode": "MOUNT_CACHED"}},
        "setup": "\n".join(options.setup),
        "run": "\n".join([*platform, f"mkdir -p {shlex.quote(directory)}", f"exec {command}"]),
    }


def manifest(family: Sequence[RunSpec], sweep: str, options: SkyPilotOptions) -> str:
    """One YAML file: a task, or a pipeline of a trunk and its branches."""
    head = (
        f"# python launch.py submit ... --backend skypilot --dry-run; send it with: "
        f"sky jobs launch {file_name(family)}\n"
    )
    tasks = [task(spec, sweep, options) for spec in family]
    documents = [{"name": f"{tasks[0]['name']}-family"}, *tasks] if len(tasks) > 1 else tasks
    return head + "---\n".join(to_yaml(document) for document in documents)


def file_name(family: Sequence[RunSpec]) -> str:
    return f"{family[0].parent or family[0].run_id}.yaml"


def write(folder: Path, sweep: str, specs: Sequence[RunSpec], options: SkyPilotOptions) -> list[Path]:
    """Write every manifest of a sweep into `folder`; returns their paths."""
    paths = []
    for family in families(specs):
        paths.append(folder / file_name(family))
        write_atomic(paths[-1], manifest(family, sweep, options))
    return paths


def skypilot_options(site: Mapping[str, Any]) -> SkyPilotOptions:
    """From the table [skypilot] of the site file."""
    from launchers.slurm_options import from_table

    return from_table(SkyPilotOptions, site.get("skypilot", {}), "skypilot")
