"""Which process of how many this one is, and where they meet: from arguments, or from what Slurm says."""

import dataclasses
import re
from collections.abc import Mapping

from core.errors import BadInput

# The port of a Slurm step follows from its job, as in JAX's own detection: 4,096 ports at the end of the range.
FIRST_PORT, PORTS = 61_440, 4_096

ADDRESS = re.compile(r"[^\s:]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5}")


@dataclasses.dataclass(frozen=True)
class Membership:
    """The place of one process among those that train a run together.

    Attributes:
      coordinator: HOST:PORT at which process 0 listens; empty where JAX finds out all of this (TPU metadata).
      count: number of processes.
      index: of this process, from 0.
      devices: ordinals of the accelerators that this process uses; None for all that it sees.
    """

    coordinator: str
    count: int
    index: int
    devices: tuple[int, ...] | None = None


def from_arguments(coordinator: str | None, processes: int | None, index: int | None) -> Membership | None:
    """The membership that --coordinator, --processes and --process-index name; None where none of them is given.

    Raises:
      BadInput: some are given and others not, or a value is impossible.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process-index": index}
    if all(value is None for value in given.values()):
        return None
    if coordinator is None or processes is None or index is None:
        missing = [name for name, value in given.items() if value is None]
        raise BadInput(f"{', '.join(missing)}: --coordinator, --processes and --process-index go together")
    if processes < 1:
        raise BadInput(f"--processes={processes}: must be at least 1")
    if not 0 <= index < processes:
        raise BadInput(f"--process-index={index}: must be from 0 to --processes - 1 = {processes - 1}")
    return Membership(_checked(coordinator, "--coordinator"), processes, index)


def from_environment(environment: Mapping[str, str]) -> Membership:
    """The membership of a task of `srun`, or one for JAX to find out on a TPU host.

    Process 0 of a Slurm step listens on the step's first host, at a port that follows from the job's number, or
    where JAX_COORDINATOR_ADDRESS says. Tasks that share a host and see several GPUs take equal shares of them; a task
    alone on its host takes all (JAX's own detection gives every task one device).

    Raises:
      BadInput: neither a step of Slurm nor a TPU host.
    """
    count = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS"))
    if count is not None and {"SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_JOB_ID"} <= environment.keys():
        port = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % PORTS
        return Membership(
            _checked(
                environment.get("JAX_COORDINATOR_ADDRESS")
                or f"{first_host(environment['SLURM_STEP_NODELIST'])}:{port}",
                "JAX_COORDINATOR_ADDRESS",
            ),
            int(count),
            int(environment["SLURM_PROCID"]),
            _devices_of_task(environment),
        )
    if any(name.startswith(("TPU_WORKER", "TPU_PROCESS", "MEGASCALE_")) for name in environment):
        return Membership("", 0, 0)
    raise BadInput(
        "--distributed: this process is neither a task of srun (SLURM_STEP_NODELIST, SLURM_PROCID) nor on a TPU host "
        "(TPU_WORKER_ID); elsewhere give --coordinator HOST:PORT --processes N --process-index I"
    )


def _checked(address: str, name: str) -> str:
    if not ADDRESS.fullmatch(address) or not 1 <= int(address.rpartition(":")[2]) <= 65_535:
        raise BadInput(f"{name}={address}: must be HOST:PORT, the port from 1 to 65535")
    return address


def first_host(nodes: str) -> str:
    """The first of Slurm's hosts: a1 from a1,b2; a07 from a[07-09,12],b2; a1-x from a[1-3]-x."""
    first = re.match(r"([^,\[]*)(?:\[([^,\]-]+)[^\]]*\]([^,]*))?", nodes)
    assert first is not None  # every part may be empty
    return "".join(part or "" for part in first.groups())


def _devices_of_task(environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """This task's share of the GPUs that all tasks of its host see; None where it has the host or its GPUs alone."""
    tasks = int(re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0])  # type: ignore[index]
    visible = [item for item in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if item]
    if tasks == 1 or len(visible) < 2:
        return None
    share = len(visible) // tasks
    if not share:
        raise BadInput(
            f"SLURM_STEP_TASKS_PER_NODE={tasks}: more tasks than the {len(visible)} GPUs that each of them sees; "
            "at most one task a GPU"
        )
    first = int(environment.get("SLURM_LOCALID", "0")) * share
    return tuple(range(first, first + share))
