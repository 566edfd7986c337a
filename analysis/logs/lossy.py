"""Runs whose tokenizer loses text: their bits per byte are too low, since a model is not charged for what is lost."""

from collections.abc import Sequence

from analysis.logs.load_run import Run, at, number
from core.numbers import percent

# Kinds that write one "unknown" for whatever they do not know. For others the run says how much of the held-out text
# decoding does not give back. Lost bytes cost 8 bits each at most, so that up to this share the bits per byte are too
# low by less than 0.001.
KINDS = ("word",)
LOST_AT_MOST = 1e-4


def lost_share(run: Run) -> float | None:
    """The share of the held-out bytes that the tokenizer does not give back; None where the run does not say."""
    return number(at(run.env, "corpus", "lost"))


def loses_text(tokenizer: str, lost: float | None) -> bool:
    """Whether bits per byte with this tokenizer are comparable with nothing."""
    return tokenizer.partition(":")[0] in KINDS or (lost or 0.0) > LOST_AT_MOST


def lossy_warning(runs: Sequence[Run]) -> list[str]:
    """The tokenizers that lose text, with how much."""
    found = {
        tokenizer: lost
        for run in runs
        if isinstance(tokenizer := at(run.spec, "data", "tokenizer"), str)
        and (lost := lost_share(run)) is not None
        and loses_text(tokenizer, lost)
    }
    return [
        f"tokenizer {tokenizer} loses {percent(lost)} of the held-out bytes: bits per byte with it are too low and are "
        "not ranked"
        for tokenizer, lost in sorted(found.items())
    ]
