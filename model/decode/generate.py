"""Batches of prompts of unequal lengths, decoded by one compiled program.

Rows of a batch are padded on the right. Each has its own position, at which its next token is written into the cache;
attention sees a row's positions up to that one alone, so what padding left behind is never read. A row's random
numbers follow from the seed, its prompt, its number among the samples of that prompt and its position, so that its
text does not depend on the batch that it is in, nor on when it was stopped and went on.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from model.config import ModelConfig
from model.decode import cache as kept
from model.decode import program
from model.decode.controls import Controls
from model.decode.program import STEPS, padded, positions
from model.decode.size import rows_at_once
from model.decode.stops import Stops
from model.parameters import Parameters

NOTHING = np.zeros(0, np.int32)


@dataclasses.dataclass
class Generated:
    """What followed one prompt.

    Attributes:
      tokens: generated, the end token left out; int32 (n,).
      logprobs: of each, as the network gives it, nats. probabilities: of each, among those that the controls left.
      kept: how many tokens the controls left to choose from, for each. removed: the probability that the network gave
        to those that they took away.
      ended: `end` (the end token), `stop` (a stop text, which the last tokens spell), or `length`.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    probabilities: np.ndarray
    kept: np.ndarray
    removed: np.ndarray
    ended: str = "length"


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One row.

    Attributes:
      tokens: that a text goes on from. sample: which of its samples it is.
      written: what was generated since, where a text that was stopped goes on; the same random numbers follow as if it
        had not been stopped.
    """

    tokens: np.ndarray
    sample: int = 0
    written: np.ndarray = dataclasses.field(default_factory=lambda: NOTHING)


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How texts go on.

    Attributes:
      most_tokens: generated for each prompt, with what was written before.
      end: the token that ends a text.
      known: tokens that there are, where the network's table has more rows.
      stops: how many of a text's new tokens there are up to what ends it, that included; None where nothing does. It is
        asked after every `STEPS` tokens.
    """

    controls: Controls
    most_tokens: int
    seed: int = 0
    end: int | None = None
    known: int | None = None
    stops: Stops | None = None

    def left(self, request: Prompt) -> int:
        """Tokens that may still be generated for a prompt."""
        return self.most_tokens - len(request.written)


def generate(
    config: ModelConfig,
    params: Parameters,
    requests: Sequence[Prompt],
    how: Decoding,
    *,
    batch: int | None = None,
) -> list[Generated]:
    """What follows each prompt, in the order asked.

    Args:
      params: on one device or on a mesh, which is set when this is called.
      batch: rows computed at once; else by memory.

    Raises:
      BadInput: the architecture cannot be decoded.
    """
    (found,) = _generate(config, params, [list(requests)], how, batch, in_pack=False)
    return found


def generate_in_pack(
    config: ModelConfig,
    params: Parameters,
    requests: Sequence[Sequence[Prompt]],
    how: Decoding,
    *,
    batch: int | None = None,
) -> list[list[Generated]]:
    """What follows each member's prompts: several networks of one shape in one program.

    Args:
      params: with a leading member axis M. requests: of each member, M lists.
      batch: rows of a member computed at once.

    Raises:
      BadInput: the architecture cannot be decoded.
    """
    return _generate(config, params, [list(own) for own in requests], how, batch, in_pack=True)


def _generate(
    config: ModelConfig, params: Parameters, requests: list[list[Prompt]], how: Decoding, batch: int | None,
    *, in_pack: bool,
) -> list[list[Generated]]:  # fmt: skip
    kept.refuse_unlike_decoder(config)
    kept.check(config.architecture)
    everyone = [one for own in requests for one in own]
    longest = max((len(one.tokens) + len(one.written) for one in everyone), default=1)
    most = max((how.left(one) for one in everyone), default=0)
    width = padded(longest)
    capacity = positions(longest, most)
    rows = batch or rows_at_once(config, capacity, len(requests))
    done: list[list[Generated]] = [[] for _ in requests]
    for start in range(0, max(map(len, requests), default=0), rows):
        parts = [own[start : start + rows] for own in requests]
        filler = next(one for part in parts for one in part)
        filled = [part + [filler] * (rows - len(part)) for part in parts]
        for part, whole, found in zip(
            parts, _batch(config, params, filled, how, (width, capacity), in_pack), done, strict=True
        ):
            found += whole[: len(part)]
    return done


def _batch(
    config: ModelConfig, params: Parameters, requests: list[list[Prompt]], how: Decoding, room: tuple[int, int],
    in_pack: bool,
) -> list[list[Generated]]:  # fmt: skip
    """As many rows of every member. Args: room: positions of the prompts, and of whole texts."""
    rows = len(requests[0])
    everyone = [one for own in requests for one in own]
    used, values = how.controls.used, how.controls.values
    if how.known is not None and how.known < config.vocabulary:
        used, values = used | {"known"}, values | {"known": how.known}
    words = np.array([zlib.crc32(np.asarray(one.tokens, "<i4").tobytes()) for one in everyone], np.uint32)
    samples = np.array([one.sample for one in everyone], np.uint32)
    batch = program.rows_of(
        how.seed, [one.tokens for one in everyone], [one.written for one in everyone], words, samples, room[0]
    )
    if in_pack:
        batch = jax.tree.map(lambda array: array.reshape(-1, rows, *array.shape[1:]), batch)
    state = program.start(config, room[1], in_pack)(params, batch)
    advance = program.advance(config, used, in_pack)
    drawn: list[dict[str, np.ndarray]] = []
    going = {number for number, one in enumerate(everyone) if how.left(one) > 0}
    while going:
        state, new = advance(params, state, values)
        drawn.append({name: _by_row(value) for name, value in new.items()})
        going = {number for number in going if _goes_on(drawn, number, how.left(everyone[number]), how)}
    joined = {name: np.concatenate([one[name] for one in drawn]) for name in drawn[0]} if drawn else {}
    found = [_cut(joined, number, how.left(one), how) for number, one in enumerate(everyone)]
    return [found[first : first + rows] for first in range(0, len(found), rows)]


def _by_row(value_MSB: Any) -> np.ndarray:
    """(S, rows of all members); without members as it is."""
    array = np.asarray(value_MSB)
    return array if array.ndim == 2 else np.moveaxis(array, 1, 0).reshape(array.shape[1], -1)


def _goes_on(drawn: list[dict[str, np.ndarray]], row: int, left: int, how: Decoding) -> bool:
    if how.end is not None and how.end in drawn[-1]["token"][:, row]:
        return False
    if len(drawn) * STEPS >= left:
        return False
    return how.stops is None or how.stops(np.concatenate([one["token"][:, row] for one in drawn])) is None


def _cut(joined: dict[str, np.ndarray], row: int, most: int, how: Decoding) -> Generated:
    if most <= 0:
        none = np.zeros(0)
        return Generated(NOTHING, none, none, none, none)
    tokens = joined["token"][:most, row]
    length, why = len(tokens), "length"
    if how.end is not None and (found := np.flatnonzero(tokens == how.end)).size:
        length, why = int(found[0]), "end"
    if how.stops is not None and (stop := how.stops(tokens[:length])) is not None:
        length, why = stop, "stop"
    own = {name: array[:length, row] for name, array in joined.items()}
    return Generated(own["token"], own["logprob"], own["probability"], own["kept"], own["removed"], why)
