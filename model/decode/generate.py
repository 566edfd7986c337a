"""Batches of prompts of unequal lengths, decoded by one compiled program.

Rows of a batch are padded on the right. Each has its own position, at which its next token is written into the cache;
attention sees a row's positions up to that one alone, so what padding left behind is never read. A row's random
numbers follow from the seed, its prompt, its number among the samples of that prompt and its position, so that its
text does not depend on the batch that it is in.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from model.config import ModelConfig
from model.decode import cache as kept
from model.decode.controls import Controls
from model.decode.draw import draw
from model.decode.size import cache_bytes
from model.kernels.device import products_as
from model.parameters import Parameters

Stops = Callable[[np.ndarray], int | None]

STEPS = 16  # tokens a row between two looks at what was generated
SHORTEST = 16
ROWS = 8  # of a batch that is no larger; always as many, so that one program serves all
MOST_BYTES = 2**30  # keys and values of a batch


@dataclasses.dataclass
class Generated:
    """What followed one prompt.

    Attributes:
      tokens: generated, the end token left out; int32 (n,).
      logprobs: of each, as the network gives it, nats. probabilities: of each, among those that the controls left.
      kept: how many tokens the controls left to choose from, for each.
      ended: `end` (the end token), `stop` (a stop text, which the last tokens spell), or `length`.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    probabilities: np.ndarray
    kept: np.ndarray
    ended: str = "length"


@dataclasses.dataclass(frozen=True)
class Prompt:
    """One row: the tokens that a text goes on from, and which of its samples it is."""

    tokens: np.ndarray
    sample: int = 0


def generate(
    config: ModelConfig,
    params: Parameters,
    requests: Sequence[Prompt],
    controls: Controls,
    *,
    most_tokens: int,
    seed: int = 0,
    end: int | None = None,
    known: int | None = None,
    stops: Stops | None = None,
    batch: int | None = None,
) -> list[Generated]:
    """What follows each prompt, in the order asked.

    Args:
      params: on one device or on a mesh, which is set when this is called.
      most_tokens: generated for each.
      end: the token that ends a text.
      known: tokens that there are, where the network's table has more rows.
      stops: how many of a text's tokens there are up to what ends it, that included; None where nothing does. It is
        asked after every `STEPS` tokens.
      batch: rows computed at once; else by memory.
    """
    kept.refuse_unlike_decoder(config)
    kept.check(config.architecture)
    longest = max((len(one.tokens) for one in requests), default=1)
    width = _padded(longest)
    capacity = width + -(-most_tokens // STEPS) * STEPS
    rows = batch or max(1, min(ROWS, MOST_BYTES // cache_bytes(config, 1, capacity)))
    done: list[Generated] = []
    for start in range(0, len(requests), rows):
        done += _batch(
            config, params, list(requests[start : start + rows]), controls, rows, width, capacity, most_tokens, seed,
            end, known, stops,
        )  # fmt: skip
    return done


def _padded(length: int) -> int:
    """The width that prompts are padded to: a power of two."""
    return max(SHORTEST, 1 << (length - 1).bit_length())


def _batch(
    config: ModelConfig, params: Parameters, requests: list[Prompt], controls: Controls, rows: int, width: int,
    capacity: int, most_tokens: int, seed: int, end: int | None, known: int | None, stops: Stops | None,
) -> list[Generated]:  # fmt: skip
    asked = len(requests)
    requests = requests + [requests[0]] * (rows - asked)
    lengths_B = np.array([len(one.tokens) for one in requests], np.int32)
    prompts_BP = np.zeros((rows, width), np.int32)
    for row, one in enumerate(requests):
        prompts_BP[row, : len(one.tokens)] = one.tokens
    words = np.array([zlib.crc32(np.asarray(one.tokens, "<i4").tobytes()) for one in requests], np.uint32)
    samples = np.array([one.sample for one in requests], np.uint32)
    used, values = controls.used, controls.values
    if known is not None and known < config.vocabulary:
        used, values = used | {"known"}, values | {"known": known}
    state = _start(config, capacity)(params, prompts_BP, lengths_B, _keys(seed, words, samples))
    advance = _steps(config, used)
    parts: list[dict[str, np.ndarray]] = []
    open_rows = set(range(asked))
    while open_rows and len(parts) * STEPS < most_tokens:
        state, drawn = advance(params, state, values)
        parts.append({name: np.asarray(value) for name, value in drawn.items()})
        open_rows = {row for row in open_rows if not _has_ended(parts, row, end, stops)}
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return [_cut(joined, row, most_tokens, end, stops) for row in range(asked)]


def _has_ended(parts: list[dict[str, np.ndarray]], row: int, end: int | None, stops: Stops | None) -> bool:
    if end is not None and end in parts[-1]["token"][:, row]:
        return True
    return stops is not None and stops(np.concatenate([part["token"][:, row] for part in parts])) is not None


def _cut(joined: dict[str, np.ndarray], row: int, most: int, end: int | None, stops: Stops | None) -> Generated:
    tokens = joined["token"][:most, row]
    length, why = len(tokens), "length"
    if end is not None and (found := np.flatnonzero(tokens == end)).size:
        length, why = int(found[0]), "end"
    if stops is not None and (stop := stops(tokens[:length])) is not None:
        length, why = stop, "stop"
    token, logprob, probability, kept_ = (
        joined[name][:length, row] for name in ("token", "logprob", "probability", "kept")
    )
    return Generated(token, logprob, probability, kept_, why)


def _keys(seed: int, words: np.ndarray, samples: np.ndarray) -> jax.Array:
    def key(word: jax.Array, sample: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), word), sample)

    return jax.vmap(key)(jnp.asarray(words), jnp.asarray(samples))


@functools.lru_cache(maxsize=32)
def _start(config: ModelConfig, capacity: int) -> Callable[..., dict[str, Any]]:
    """Compiled `(params, prompts_BP, lengths_B, keys_B) -> state` after the prompts."""

    def start(params: Parameters, prompts_BP: Any, lengths_B: Any, keys_B: Any) -> dict[str, Any]:
        rows, width = prompts_BP.shape
        cache = kept.empty(config, rows, capacity)
        with products_as(config):
            model, x_BPD, cache = kept.hidden(config, params, cache, prompts_BP, jnp.zeros(rows, jnp.int32))
            last_B1D = jnp.take_along_axis(x_BPD, lengths_B[:, None, None] - 1, axis=1)
            logits_BV = model.head(last_B1D)[:, 0]
        given_BP = jnp.arange(width) < lengths_B[:, None]

        def counts(tokens_P: Any, given_P: Any) -> Any:
            return jnp.zeros(config.vocabulary, jnp.int32).at[tokens_P].add(given_P)

        return {
            "cache": cache,
            "logits": logits_BV,
            "position": lengths_B,
            "keys": keys_B,
            "number": jnp.zeros((), jnp.int32),
            "prompt": jax.vmap(counts)(prompts_BP, given_BP.astype(jnp.int32)),
            "generated": jnp.zeros((rows, config.vocabulary), jnp.int32),
        }

    return jax.jit(start)


@functools.lru_cache(maxsize=64)
def _steps(config: ModelConfig, used: frozenset[str]) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """Compiled `(params, state, values) -> (state, what was drawn, (STEPS, B) each)`; the state's memory is reused."""

    def step(params: Parameters, values: dict[str, Any], state: dict[str, Any], _: None) -> Any:
        keys_B = jax.vmap(jax.random.fold_in, (0, None))(state["keys"], state["number"])
        generated_BV, prompt_BV = state["generated"], state["prompt"]
        counts_BV = generated_BV + prompt_BV if "penalty_counts" in used else generated_BV
        drawn = draw(state["logits"], counts_BV, generated_BV + prompt_BV > 0, keys_B, used, values)
        token_B = drawn["token"]
        logits_B1V, cache = kept.scores(config, params, state["cache"], token_B[:, None], state["position"])
        following = {
            **state,
            "cache": cache,
            "logits": logits_B1V[:, 0],
            "position": state["position"] + 1,
            "number": state["number"] + 1,
            "generated": generated_BV.at[jnp.arange(len(token_B)), token_B].add(1),
        }
        return following, drawn

    def steps(params: Parameters, state: dict[str, Any], values: dict[str, Any]) -> Any:
        return jax.lax.scan(functools.partial(step, params, values), state, None, length=STEPS)

    return jax.jit(steps, donate_argnums=1)


def stop_texts(texts: Sequence[str], decode: Callable[[Sequence[int]], str]) -> Stops | None:
    """A `stops` of `generate`, where there is a text: as many tokens as it takes to spell the first of `texts`.

    They are looked for in the text, not among tokens: a stop may begin or end within a token.
    """

    def stops(tokens: np.ndarray) -> int | None:
        def spelled(count: int) -> bool:
            text = decode(tokens[:count].tolist())
            return any(stop in text for stop in texts)

        if not spelled(len(tokens)):
            return None
        return next(count for count in range(1, len(tokens) + 1) if spelled(count))

    return stops if texts else None


def before_stop(text: str, texts: Sequence[str]) -> str:
    """The text up to the first of `texts`."""
    return text[: min((text.index(stop) for stop in texts if stop in text), default=len(text))]
