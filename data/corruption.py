"""What an objective hides of a window: masked tokens, spans behind sentinels. NumPy on the host.

Every choice is a function of (seed, position of the window in the order of the data) alone. A restart, a pack, another
number of processes and another place in the batch therefore hide the same tokens, and no random state is saved: the
generator (Philox, Salmon et al. 2011) gives any position its numbers without those before it.
"""

from typing import NamedTuple

import numpy as np

_NUMBERS_OF_A_STEP = 4  # that Philox makes of one count
_PURPOSE = 0x6D61_736B  # keeps these numbers apart from any other use of the seed


def uniforms(seed: int, first: int, rows: int, count: int) -> np.ndarray:
    """`count` uniform numbers in [0, 1) for each of the positions first, first + 1, ...; float64 (rows, count)."""
    steps = -(-count // _NUMBERS_OF_A_STEP)
    generator = np.random.Philox(key=[seed, _PURPOSE])
    generator.advance(first * steps)
    raw = generator.random_raw(rows * steps * _NUMBERS_OF_A_STEP).reshape(rows, -1)[:, :count]
    return (raw >> np.uint64(11)) * 2.0**-53


def masked_count(length: int, share: float) -> int:
    """Tokens of a window that are predicted: the share, rounded, at least one (Devlin et al. 2019)."""
    return min(length, max(1, round(length * share)))


class Masked(NamedTuple):
    """Windows with hidden tokens, all int32: what is read (B, T), which positions n are predicted and what stood there
    (B, n)."""

    tokens: np.ndarray
    positions: np.ndarray
    targets: np.ndarray


def masked(
    tokens_BT: np.ndarray,
    seed: int,
    first: int,
    *,
    count: int,
    mask: int,
    known: int,
    random: float,
    kept: float,
) -> Masked:
    """`count` positions of every window, uniformly without replacement; most read as the mask token
    (Devlin et al. 2019, arXiv 1810.04805, section 3.1).

    Args:
      first: position of the first window in the order of the data.
      mask: id of the mask token.
      known: ids from 0 that a random token is drawn from, uniformly.
      random, kept: shares of the chosen that read as a random token, and as themselves.
    """
    rows, length = tokens_BT.shape
    numbers = uniforms(seed, first, rows, length + 2 * count)
    order, fate, draw = np.split(numbers, [length, length + count], axis=1)
    positions = _chosen(order, count)
    targets = np.take_along_axis(tokens_BT, positions, axis=1)
    shown = np.where(
        fate < kept, targets, np.where(fate < kept + random, (draw * known).astype(np.int64), mask)
    )
    tokens = tokens_BT.copy()
    np.put_along_axis(tokens, positions, shown.astype(tokens.dtype), axis=1)
    return Masked(tokens.astype(np.int32), positions.astype(np.int32), targets.astype(np.int32))


class SpanLengths(NamedTuple):
    """Of a window: hidden tokens and the spans that they form.

    The encoder reads `source` tokens (those that are left, and a sentinel for each span), the decoder predicts
    `target` (the hidden ones, and after each span the next sentinel).
    """

    noise: int
    spans: int
    source: int
    target: int


def span_lengths(length: int, share: float, mean: float) -> SpanLengths:
    """The same for every window of T tokens (Raffel et al. 2020, arXiv 1910.10683, section 3.1.4).

    Raises:
      ValueError: no room for a span with a token before it.
    """
    if length < 2:
        raise ValueError(f"a window of {length} token has no room for a span")
    noise = min(length - 1, max(1, round(length * share)))
    spans = min(noise, length - noise, max(1, round(noise / mean)))
    return SpanLengths(noise, spans, length - noise + spans, noise + spans)


def _chosen(numbers: np.ndarray, count: int) -> np.ndarray:
    """`count` of the columns of each row, uniformly without replacement; ascending int64 (B, count)."""
    return np.sort(np.argsort(numbers, axis=1, kind="stable")[:, :count], axis=1)


def _parts(cuts: np.ndarray, total: int) -> np.ndarray:
    """The lengths of the parts of `total` things that are cut after these ones; int64 (B, cuts + 1)."""
    ends = np.concatenate([cuts + 1, np.full((len(cuts), 1), total)], axis=1)
    return np.diff(ends, axis=1, prepend=0)


class Spans(NamedTuple):
    """Windows with spans behind sentinels, int32: `source` (B, source), `target` (B, target + 1) with the first
    sentinel, which the decoder begins with."""

    source: np.ndarray
    target: np.ndarray


def spans(tokens_BT: np.ndarray, seed: int, first: int, lengths: SpanLengths, last_id: int) -> Spans:
    """Every window as what is left of it and what was taken out.

    A window is text, span, text, span, ...: both kinds are cut into as many parts, all ways equally likely. Span i
    reads as sentinel `last_id` - i; the decoder's text is each span behind its sentinel, and one sentinel more.
    """
    rows, length = tokens_BT.shape
    noise, count = lengths.noise, lengths.spans
    numbers = uniforms(seed, first, rows, length - 2)
    hidden = _parts(_chosen(numbers[:, : noise - 1], count - 1), noise)
    left = _parts(_chosen(numbers[:, noise - 1 :], count - 1), length - noise)
    begins = np.cumsum(left + hidden, axis=1) - hidden  # of every span
    position = np.arange(length)
    number = (position >= begins[:, :, None]).sum(axis=1) - 1  # of the last span that has begun; -1 before any
    offset = position - np.take_along_axis(begins, np.maximum(number, 0), axis=1)
    is_hidden = (number >= 0) & (offset < np.take_along_axis(hidden, np.maximum(number, 0), axis=1))
    sentinels = np.broadcast_to(last_id - np.arange(count + 1), (rows, count + 1))
    row = np.arange(rows)[:, None]
    # A kept token moves left by the hidden ones before it and right by the sentinels before it.
    source = np.empty((rows, lengths.source), np.int32)
    kept_before = np.cumsum(~is_hidden, axis=1) - 1
    at = np.where(is_hidden, 0, kept_before + number + 1)
    source[row, np.cumsum(left, axis=1) + np.arange(count)] = sentinels[:, :-1]
    keep_row, keep_position = np.nonzero(~is_hidden)
    source[keep_row, at[keep_row, keep_position]] = tokens_BT[keep_row, keep_position]
    target = np.empty((rows, lengths.target + 1), np.int32)
    starts = np.cumsum(hidden, axis=1) - hidden + np.arange(count)
    target[row, starts] = sentinels[:, :-1]
    target[:, -1] = sentinels[:, -1]
    hidden_row, hidden_position = np.nonzero(is_hidden)
    target_at = np.take_along_axis(starts, np.maximum(number, 0), axis=1) + 1 + offset
    target[hidden_row, target_at[hidden_row, hidden_position]] = tokens_BT[hidden_row, hidden_position]
    return Spans(source, target)
