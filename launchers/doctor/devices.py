"""Whether this machine's accelerators are those that runs train on."""

import os
import platform
from pathlib import Path

from core.errors import BadInput
from core.rundir import SweepDirectory
from launchers.doctor.finding import Finding
from launchers.local.devices import listed_gpus, require_cuda


def findings(sweep: Path) -> list[Finding]:
    """GPUs that JAX does not use, and runs of this machine that trained on its processor beside them."""
    gpus = listed_gpus()
    if not gpus:
        return []
    found = []
    if not os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        try:
            require_cuda(gpus)
        except BadInput as error:
            found.append(Finding(".", str(error), "until then nothing trains here"))
    count = f"{len(gpus)} GPU{'s' * (len(gpus) > 1)}"
    for path in sorted(sweep.iterdir()):
        run = SweepDirectory(sweep).run(path.name)
        try:
            attempt = run.read_environment()["attempts"][-1]
            on_processor = attempt["platform"] == "cpu" and attempt["host"] == platform.node()
        except (BadInput, OSError, LookupError, TypeError):
            continue  # named by its own check
        if on_processor:
            found.append(
                Finding(
                    run.name,
                    f"trained on the processor of this machine, which has {count}",
                    "leave it so where that was meant (JAX_PLATFORMS=cpu)",
                )
            )
    return found
