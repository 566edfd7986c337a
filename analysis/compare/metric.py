"""What is compared: a loss, or what a task leaves to be done, the lower the better and above zero."""

import dataclasses

from core.errors import BadInput
from core.records import BITS_PER_BYTE, LOSS

ALIASES = {"loss": LOSS, "bits_per_byte": BITS_PER_BYTE}
# By the last part of the name.
BETTER_HIGHER = (
    "exact_match",
    "choice_accuracy",
    "token_accuracy",
    "probability",
    "accuracy",
    "acc",
    "acc_norm",
    "acc_bytes",
    "acc_mutual_info",
    "choice_accuracy_norm",
    "f1",
    "mcc",
    "bleu",
    "chrf",
)
BETTER_LOWER = (
    "loss",
    "bits_per_byte",
    "edit_distance",
    "nll",
    "nll_per_token",
    "brier",
    "perplexity",
    "word_perplexity",
    "byte_perplexity",
    "brier_score",
    "ter",
)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number of a run's end.

    Attributes:
      name: in result.json.
      noun: in sentences.
      per_token: whether it is in nats per token, which no two tokenizers share.
      share: whether one less it is compared, such as the error for an accuracy.
    """

    name: str
    noun: str
    per_token: bool
    share: bool

    @classmethod
    def of(cls, asked: str) -> "Metric":
        """By its name on the command line.

        Raises:
          BadInput: a metric of which it is not known which way is better.
        """
        name = ALIASES.get(asked, asked)
        last = name.rpartition("/")[2].partition(",")[0]  # the harness writes METRIC,FILTER
        if last not in (*BETTER_HIGHER, *BETTER_LOWER):
            allowed = ", ".join((*ALIASES, *BETTER_LOWER[2:], *BETTER_HIGHER))
            raise BadInput(
                f"--metric {asked}: ends in {last}, of which lower or higher is not known to be better; {allowed}"
            )
        share = last in BETTER_HIGHER
        noun = "loss" if name == LOSS else "bits per byte" if name == BITS_PER_BYTE else name
        return cls(name, f"error in {name}" if share else noun, last in ("loss", "nll", "nll_per_token"), share)

    @property
    def column(self) -> str:
        """Of a table that has it under its own name."""
        return "loss" if self.name == LOSS else self.name.removeprefix("val/")

    @property
    def label(self) -> str:
        """Of an axis."""
        if self.name == LOSS:
            return "validation loss (nats per token)"
        return "held-out bits per byte" if self.name == BITS_PER_BYTE else self.noun

    def lowered(self, value: float, where: str) -> float:
        """The value, or one less it, positive.

        Raises:
          BadInput: it is zero, or less.
        """
        left = 1.0 - value if self.share else value
        if not left > 0:
            what = "leaves no error" if self.share else "is not positive"
            raise BadInput(f"{where}: {self.name} {value:g} {what}; frontiers are laws of positive numbers")
        return left
