"""What a loss is worth on a task: accuracy or error against a loss of the same models.

    python -m analysis.loss_to_accuracy TABLE --source loss_c4 --target err_avg --law error_from_loss --out task.json
    python -m analysis.loss_to_accuracy losses.csv tasks.csv --source bpb --target accuracy --at 0.9

Laws: accuracy_from_bits (Bhagia et al. 2024, arXiv 2412.04403), a sigmoid, and error_from_loss (Gadre et al. 2024,
arXiv 2403.08540), an exponential. `analysis.downstream LOSS_FIT task.json` chains it with a law of the loss.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from analysis.laws import get_law
from analysis.pairs import Matched, PairFlags, report_pairs
from core import cli


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.loss_to_accuracy")


def command(
    table: Path,
    other: Path | None = None,
    /,
    *,
    source: str = "loss",
    target: str = "accuracy",
    law: Literal["accuracy_from_bits", "error_from_loss"] = "accuracy_from_bits",
    how: Matched = PairFlags(),  # noqa: B008 (frozen)
) -> None:
    """What a loss is worth on a task.

    Args:
      table: with the loss, and with the accuracy or error where there is no second table
      other: table with the accuracy or error
      source: column of the loss, or of bits per byte of the right answer
      target: column of the accuracy or error, from 0 to 1
      law: the accuracy as a sigmoid, or the error as an exponential of the loss
    """
    report_pairs(get_law(law), table, other, source, target, how)


if __name__ == "__main__":
    main()
