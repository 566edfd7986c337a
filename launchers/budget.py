"""What a command would train, and the refusal to train more than the user said."""

from collections.abc import Sequence
from pathlib import Path

from core.errors import BadInput
from core.rundir import RunDirectory, SweepDirectory
from launchers.elsewhere import finished_elsewhere
from training.cost import training_flops
from training.spec import RunSpec


def left_to_train(
    specs: Sequence[RunSpec], directory: Path
) -> tuple[list[RunSpec], dict[str, list[RunDirectory]]]:
    """The runs that are complete neither in runs/<sweep> nor in another sweep, and those of other sweeps by run_id."""
    sweep = SweepDirectory(directory)
    missing = [spec for spec in specs if not sweep.run(spec.run_id).is_complete()]
    elsewhere = finished_elsewhere(directory, missing)
    return [spec for spec in missing if spec.run_id not in elsewhere], elsewhere


def refuse_above(specs: Sequence[RunSpec], directory: Path, most: float | None) -> None:
    """Raises BadInput where what is left to train costs more FLOPs (`exact`) than `most`; None allows all."""
    if most is not None:
        refuse_sum(left_to_train(specs, directory)[0], most)


def refuse_sum(todo: Sequence[RunSpec], most: float) -> None:
    """The same for runs that are known to be left."""
    total = sum(map(training_flops, todo))
    if total > most:
        raise BadInput(
            f"--budget-flops={most:g}: the {len(todo)} runs that are left to train cost {total:.4g} FLOPs (exact); "
            "must be at least that, or ask for less"
        )
