"""How fast a network writes: tokens per second with keys and values kept, and with every text computed again.

python -m bench.decode [--sizes 1M 10M --rows 1 8 --prompt 64 --tokens 192 --rounds 5]

With the cache the whole of generate() is timed, prompts, draws and the copies to the host included. Without it a token
costs a forward pass over the text so far, without padding: passes of eight lengths are timed, and their mean is a
token's cost; draws are left out. Both in one process, round by round in turn; medians over rounds.
"""

import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from bench.side import SIZES
from core import cli
from core.errors import BadInput
from core.numbers import short_bytes
from model.config import ModelConfig
from model.decode.controls import Controls
from model.decode.generate import Decoding, Prompt, generate
from model.decode.program import positions
from model.decode.size import cache_bytes
from model.initialize import init
from model.kernels.install import with_kernels
from model.ledger import ledger
from model.transformer import Transformer

LENGTHS = 8


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.decode")


def measure(
    sizes: tuple[str, ...] = ("1M", "10M"),
    rows: tuple[int, ...] = (1, 8),
    prompt: int = 64,
    tokens: int = 192,
    rounds: int = 5,
) -> None:
    """How fast a network writes, with and without keys and values kept.

    Args:
      sizes: shapes of bench
      rows: texts at once
      prompt: tokens of each prompt
      tokens: generated of each text
      rounds: of each, in turn
    """
    if unknown := sorted(set(sizes) - set(SIZES)):
        raise BadInput(f"--sizes {' '.join(unknown)}: must be some of {', '.join(SIZES)}")
    if min((*rows, prompt, tokens, rounds)) < 1:
        raise BadInput("--rows, --prompt, --tokens, --rounds: must be at least 1")
    for size in sizes:
        for count in rows:
            sys.stdout.write(_line(size, SIZES[size], count, prompt, tokens, rounds) + "\n")
            sys.stdout.flush()


def _line(size: str, config: ModelConfig, rows: int, prompt: int, tokens: int, rounds: int) -> str:
    params = init(config, jax.random.key(0))
    generator = np.random.default_rng(0)
    whole_BT = generator.integers(0, config.vocabulary, (rows, prompt + tokens)).astype(np.int32)
    requests = [Prompt(row[:prompt]) for row in whole_BT]
    passes = [
        functools.partial(_forward(config), params, whole_BT[:, :length])
        for length in np.linspace(prompt, prompt + tokens - 1, LENGTHS).astype(int)
    ]

    def cached() -> Any:
        return generate(config, params, requests, Decoding(Controls(), tokens), batch=rows)

    def again() -> Any:
        return [jax.block_until_ready(one()) for one in passes]

    seconds: dict[str, list[float]] = {"cached": [], "again": []}
    for number in range(rounds + 1):
        for name, work, share in (("cached", cached, 1 / tokens), ("again", again, 1 / LENGTHS)):
            if (taken := _seconds(work)) and number:  # the first compiles
                seconds[name].append(taken * share)
    rates = {name: rows / statistics.median(values) for name, values in seconds.items()}
    ratio = statistics.median(b / a for a, b in zip(seconds["cached"], seconds["again"], strict=True))
    kept = cache_bytes(config, rows, positions(prompt, tokens))
    total = ledger(config, prompt + tokens)["params"]["total"]
    return (
        f"{size} ({total:,} parameters), {rows} texts of {prompt} + {tokens} tokens: {rates['cached']:,.0f} tokens/s "
        f"cached, {rates['again']:,.0f} computed again, factor {ratio:.1f}; {short_bytes(kept)} kept"
    )


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _forward(config: ModelConfig) -> Callable[..., jax.Array]:
    """Compiled: the next token's scores after each text, (B, V)."""

    def forward(params: Any, tokens_BT: jax.Array) -> jax.Array:
        return with_kernels(Transformer(config, params), tokens_BT.shape)(tokens_BT)[:, -1]

    return jax.jit(forward)


if __name__ == "__main__":
    main()
