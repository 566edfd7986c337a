"""What a loss is worth on a task: accuracy or error against a loss of the same models.

    python -m analysis.loss_to_accuracy TABLE --source loss_c4 --target err_avg --law error_from_loss --out task.json
    python -m analysis.loss_to_accuracy losses.csv tasks.csv --source bpb --target accuracy --at 0.9

Laws: accuracy_from_bits (Bhagia et al. 2024, arXiv 2412.04403), a sigmoid, and error_from_loss (Gadre et al. 2024,
arXiv 2403.08540), an exponential. `analysis.downstream LOSS_FIT task.json` chains it with a law of the loss.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from analysis.fit.objectives import Robust
from analysis.laws import get_law
from analysis.logs.flags import Flags, TableFlags
from analysis.pairs import MATCHED_BY, pairs_of, report_pairs
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
    match: tuple[str, ...] = MATCHED_BY,
    robust: Robust = "l2",
    bootstrap: int = 0,
    level: float = 0.95,
    seed: int = 0,
    fix: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=VALUE")] = (),
    at: float | None = None,
    reading: Flags = TableFlags(),  # noqa: B008 (frozen)
    out: Path | None = None,
) -> None:
    """What a loss is worth on a task.

    Args:
      table: with the loss, and with the accuracy or error where there is no second table
      other: table with the accuracy or error
      source: column of the loss, or of bits per byte of the right answer
      target: column of the accuracy or error, from 0 to 1
      law: the accuracy as a sigmoid, or the error as an exponential of the loss
      match: columns that say which rows of two tables belong together
      robust: Huber, absolute or squared residuals
      bootstrap: resamples; without, asymptotic and profile intervals
      level: of the intervals
      seed: of starts and resamples
      fix: hold a parameter at a value, such as the chance level
      at: loss of a run to come
      out: write the fit here
    """
    pairs = pairs_of(table, other, source, target, match, reading.reading())
    options = {
        "robust": robust, "bootstrap": bootstrap, "level": level, "seed": seed, "fixed": cli.numbers(fix, "--fix")
    }  # fmt: skip
    report_pairs(get_law(law), pairs, options, (source, target), at, out)


if __name__ == "__main__":
    main()
