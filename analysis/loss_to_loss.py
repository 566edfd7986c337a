"""The loss on one corpus from the loss on another, over the same models or the same sizes.

    python -m analysis.loss_to_loss TABLE --source loss_c4 --target loss_wiki --out link.json
    python -m analysis.loss_to_loss c4.csv wiki.csv --fix E_0=1.8 --fix E_1=1.6 --at 2.2

Brandfonbrener et al. 2024 (arXiv 2411.12925): L_1 = K (L_0 - E_0)^kappa + E_1 (analysis/laws/loss_to_loss.py). Two
tables are matched by size and data: train to train. One table with two columns: train to test, or test to test. The
floors are fitted; the paper takes them from a law of each corpus, as `--fix` does. `analysis.downstream LOSS_FIT
link.json` chains this law with a law of the source loss.
"""

from collections.abc import Sequence
from pathlib import Path

from analysis.laws import get_law
from analysis.pairs import Matched, PairFlags, report_pairs
from core import cli


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(command, arguments, "python -m analysis.loss_to_loss")


def command(
    table: Path,
    other: Path | None = None,
    /,
    *,
    source: str = "loss",
    target: str = "loss",
    how: Matched = PairFlags(),  # noqa: B008 (frozen)
) -> None:
    """The loss on one corpus from the loss on another.

    Args:
      table: with the source loss, and with the target loss where there is no second table
      other: table with the target loss
      source: column of the loss that is known
      target: column of the loss that is predicted
    """
    report_pairs(get_law("loss_to_loss"), table, other, source, target, how)


if __name__ == "__main__":
    main()
