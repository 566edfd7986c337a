"""What is written beside a sweep's runs before the first of them: what was asked for, and what it is to teach.

The report says what came.
"""

from core.errors import BadInput
from core.files import write_json
from core.rundir import SweepDirectory
from experiments.command import AskedSweep
from launchers.asked import put_down
from planning.flags import PlanFlags


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
