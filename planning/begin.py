"""Before the first run of a sweep: what was asked for and what it is to teach are written beside its runs.

The report says what came. With --dry-run both are shown and nothing is written.
"""

from core.errors import BadInput
from core.files import write_json
from core.rundir import SweepDirectory
from experiments.command import AskedSweep
from launchers.asked import put_down
from launchers.local.command import RunFlags
from planning.flags import PlanFlags


def show_as_run(study: AskedSweep, flags: RunFlags) -> int:
    """The plan of what `run` would train with these flags; returns the exit status."""
    from planning.plan import show  # NumPy

    alike = ("workers", "cores_per_worker", "pack", "mesh", "budget_flops")
    return show(study, PlanFlags(**{name: getattr(flags, name) for name in alike}))


def write_down(study: AskedSweep) -> None:
    """Write runs/<sweep>/sweep.json and plan/expected.json. Raises as `put_down`."""
    put_down(study.directory, study.asked)
    write_expected(study)


def write_expected(study: AskedSweep) -> None:
    """Write runs/<sweep>/plan/expected.json, once for each set of runs, while none of them has finished.

    Training does not depend on it: where it cannot be computed or written, there is none.
    """
    sweep, names = SweepDirectory(study.directory), sorted(spec.run_id for spec in study.specs)
    if sweep.read_expected().get("runs") == names or any(sweep.run(name).result.exists() for name in names):
        return
    # NumPy, and the sweeps that exist: a sweep that goes on is spared both
    from planning.plan import expectation

    try:
        found = expectation(study.specs, PlanFlags(), study.directory.parent)
        if found:
            write_json(sweep.expected, {"runs": names, **found})
    except (BadInput, ArithmeticError, ValueError, OSError):
        return
