"""Which tokens a model reads to score texts longer than its context, and where an answer ends. Pure functions.

The windows are those of lm-evaluation-harness, so that its numbers and ours mean the same: a continuation keeps as much
of its context as fits, and a long text is cut so that each token is predicted once.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from core.errors import BadInput
from training.evaluate.score import ScoredSequence


def continuation(before: Sequence[int], after: Sequence[int], context: int) -> ScoredSequence:
    """`after` to be predicted given `before`, whose first tokens are left out where the two are longer than T + 1.

    Args:
      before: at least one token.
      after: at most T tokens.
      context: T, inputs that a model reads.

    Raises:
      BadInput: no token to predict, or more than T.
    """
    if not 0 < len(after) <= context:
        raise BadInput(f"an answer has {len(after)} tokens: must have from 1 to data.sequence_length={context}")
    dropped = max(0, len(before) + len(after) - context - 1)
    kept = np.asarray([*before[dropped:], *after], np.int32)
    return ScoredSequence(kept, len(kept) - len(after))


def rolling(tokens: Sequence[int], first: int, context: int) -> Iterator[ScoredSequence]:
    """Windows over a text that predict each token once; the last one keeps a full context where there is one.

    Args:
      first: what stands before the text, the end token of a document.
      context: T, inputs of a window.
    """
    text = [first, *tokens]
    for start in range(0, len(tokens), context):
        end = min(start + context, len(tokens))
        begin = max(0, end - context)
        yield ScoredSequence(np.asarray(text[begin : end + 1], np.int32), start + 1 - begin)


def prompt(tokens: Sequence[int], context: int, most_tokens: int) -> np.ndarray:
    """The last tokens of a prompt that leave room for `most_tokens` in a context of T."""
    return np.asarray(tokens[-max(1, context - most_tokens) :], np.int32)


def room(asked: int | None, context: int) -> int:
    """Tokens of an answer: as many as are asked for, at most three quarters of the context; else half of it."""
    return max(1, min(asked, 3 * context // 4) if asked else context // 2)
