"""bigram:LETTERS: text of order 1, where the last letter tells all that can be known of the next: a control.

Every letter is followed by another with probabilities of one table, drawn once for each LETTERS. Documents are
independent chains of 2,000 letters without a line end.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.errors import BadInput
from data.documents import Texts
from data.source import Source, build

FORM = "bigram:LETTERS"
DOMAINS = ("all",)
LENGTH, DOCUMENTS = 2_000, 2_000
MOST = 26


def table(letters: int) -> np.ndarray:
    """Probability of each letter (columns) after each (rows): a softmax of normal numbers of deviation 1.5."""
    scores = 1.5 * np.random.default_rng(letters).normal(size=(letters, letters))
    weights = np.exp(scores)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


class Chains(Texts):
    """Documents, all drawn at once, a position after the other."""

    def __init__(self, letters: int) -> None:
        super().__init__(f"bigram:{letters}")
        self.letters = letters

    def payloads(self) -> Iterator[tuple[str, bytes]]:
        generator = np.random.default_rng([self.letters, 1])
        edges = np.cumsum(table(self.letters), axis=1)
        chains = np.empty((DOCUMENTS, LENGTH), np.uint8)
        chains[:, 0] = generator.integers(0, self.letters, DOCUMENTS)
        for position in range(1, LENGTH):
            drawn = generator.random(DOCUMENTS)[:, None]
            following = (drawn > edges[chains[:, position - 1]]).sum(axis=1)
            chains[:, position] = np.minimum(following, self.letters - 1)
        for number, chain in enumerate(chains):
            yield f"chain {number}", (chain + ord("a")).tobytes()


def signature(rest: str, domain: str) -> list[str]:
    """LETTERS, checked.

    Raises:
      BadInput: it is no whole number in range.
    """
    if not (rest.isdecimal() and 2 <= int(rest) <= MOST):
        raise BadInput(f"data.corpus='bigram:{rest}': LETTERS must be a whole number from 2 to {MOST}")
    return [rest]


def locate(rest: str, domain: str, folder: Path, workers: int | None) -> Source:
    """The documents as a data set, built where it is not in `folder`."""
    return build(folder, "bigram", lambda: Chains(int(rest)), description=f"chains of {rest} letters")
