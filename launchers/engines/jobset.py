"""Kubernetes JobSets: one a run, or one a pack, with Kueue's label, for GPUs or TPUs. Written, not sent.

One JobSet a run and never one a sweep, because a restart starts a whole JobSet again. Branches need their trunk's
checkpoint, and JobSets cannot wait for each other: trunks and plain runs lie in 1-runs/, branches in 2-branches/.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from core import bounds
from core.bounds import INT32, Allowed
from core.errors import EXIT_BAD_INPUT, EXIT_FAILED, BadInput
from core.files import write_atomic
from core.order import waves
from launchers.manifests import Pack, fill_in, run_command
from launchers.packs import form_packs, measured_sizes, parse_pack
from launchers.site import from_table
from launchers.submit import Request, written_only
from training.spec import RunSpec

DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class JobSetOptions:
    """The table [jobset] of the site file.

    Attributes:
      image: container image with the project in its working directory and its requirements installed.
      claim: persistent volume claim (ReadWriteMany) that holds sweeps and cache.
      queue: Kueue's local queue; empty for no queue.
      namespace: of the JobSets; empty for the default.
      accelerator: cpu, gpu or tpu.
      chips: GPUs or TPU chips of each node.
      node_selector: labels of the nodes, such as cloud.google.com/gke-tpu-topology = "2x4".
      max_restarts: after a preemption, a lost node or exit 75.
      grace_seconds: from SIGTERM to SIGKILL; a run, or every run of a pack, saves in it.
      pack: runs of one shape as one program and one JobSet: auto, off, or the most of a pack.
    """

    image: str = ""
    claim: str = "sweeps"
    queue: str = ""
    namespace: str = ""
    accelerator: str = "gpu"
    chips: Annotated[int, Allowed(1, INT32)] = 1
    node_selector: tuple[str, ...] = ()
    max_restarts: Annotated[int, Allowed(0, INT32)] = 100
    grace_seconds: Annotated[int, Allowed(1, INT32)] = 120
    pack: str = "auto"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", self.image):
            raise BadInput(f"jobset.image={self.image!r}: must name the container image of the project")
        for key in ("claim", "queue", "namespace"):
            value = getattr(self, key)
            if value and not DNS_LABEL.fullmatch(value):
                raise BadInput(
                    f"jobset.{key}={value!r}: must be a Kubernetes name: lower-case letters, digits, dashes"
                )
        if self.accelerator not in ("cpu", "gpu", "tpu"):
            raise BadInput(f"jobset.accelerator={self.accelerator!r}: must be cpu, gpu or tpu")
        bounds.check(self, "jobset.")
        for label in self.node_selector:
            if not re.fullmatch(r"[A-Za-z0-9./_-]+=[A-Za-z0-9._-]*", label):
                raise BadInput(f"jobset.node_selector={label!r}: must be LABEL=VALUE")
        parse_pack(self.pack, "jobset.pack")


def object_name(pack: Pack) -> str:
    """The run_id as a Kubernetes name; its hash keeps it unique. Short enough for the names of the pods below it.

    A pack is named after its first run.
    """
    readable, _, digest = pack[0].run_id.lower().replace(".", "-").replace("_", "-").rpartition("-")
    return f"{readable[:30].rstrip('-')}-{digest}" + (f"-pack{len(pack)}" if len(pack) > 1 else "")


def literal(text: str) -> str:
    """Kubernetes expands $(NAME) in commands; $$ is its way to write a dollar sign (API reference, Container)."""
    return text.replace("$", "$$")


def jobset(pack: Pack, sweep: str, options: JobSetOptions) -> str:
    """The JobSet that trains one run or one pack, as YAML."""
    command = run_command("python", f"/data/runs/{sweep}", "/data/cache", pack)
    return fill_in(
        "jobset.yaml",
        name=object_name(pack),
        runs=[f"{sweep}/{spec.run_id}" for spec in pack],
        command=[literal(word) for word in command],
        platform={"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}[options.accelerator],
        device={"cpu": "", "gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"}[options.accelerator],
        node_labels=[label.split("=", 1) for label in options.node_selector],
        options=options,
        final_exits=(EXIT_FAILED, EXIT_BAD_INPUT),
    )


def write(
    folder: Path, sweep: str, specs: Sequence[RunSpec], options: JobSetOptions, measurements: Path
) -> list[Path]:
    """Write one JobSet a run or pack; returns their paths.

    Args:
      measurements: cache folder that may hold measured sizes of packs.
    """
    devices = 0 if options.accelerator == "cpu" else options.chips
    sizes = measured_sizes(specs, parse_pack(options.pack, "jobset.pack"), devices, measurements)
    paths = []
    wave = waves(specs)
    for pack in form_packs(specs, sizes):
        place = wave[pack[0].run_id]
        stage = f"{place + 1}-{'runs' if not place else 'branches' if pack[0].is_branch else 'stages'}"
        paths.append(folder / stage / f"{object_name(pack)}.yaml")
        write_atomic(paths[-1], jobset(pack, sweep, options))
    return paths


def submit(request: Request) -> str:
    """Write the files of a sweep."""

    def write_below(folder: Path) -> list[Path]:
        options = from_table(JobSetOptions, request.table("jobset"), "jobset")
        return write(folder, request.directory.name, request.specs, options, request.cache)

    return written_only(request, "jobset", write_below)
