"""`python launch.py sample RUN --prompt TEXT`: what a trained model writes."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from core.bounds import INT32, Allowed
from core.cli import parse
from core.errors import EXIT_COMPLETE
from core.numbers import short_bytes
from model.decode.controls import (
    NAMES,
    Controls,
    Counted,
    MinP,
    MostTokens,
    Penalty,
    Repetition,
    Samples,
    Temperature,
    TopK,
    TopP,
)  # fmt: skip
from training.processes.start import configure_jax

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.config import ModelConfig
    from training.generate import Sample

ABOUT = """Write text with a trained run.

python launch.py sample runs/quickstart/RUN --prompt "def main("
python launch.py sample RUN --prompt A B --samples 3 --temperature 0.8 --top-p 0.95
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line."""

    run: Positional[Path]
    """runs/<sweep>/<run>"""
    prompt: tuple[str, ...] = ("",)
    """what the model goes on from; several are written on together"""
    max_tokens: MostTokens = 128
    """of each text"""
    temperature: Temperature = Controls.temperature
    """above 1 more even, below 1 more certain"""
    top_k: TopK = Controls.top_k
    """draw among the k likeliest"""
    top_p: TopP = Controls.top_p
    """among the fewest that hold this probability"""
    min_p: MinP = Controls.min_p
    """among those at least this share as likely as the likeliest"""
    stop: tuple[str, ...] = ()
    """texts that end the answer and are left out"""
    frequency_penalty: Penalty = Controls.frequency_penalty
    """taken off a token's score each time it was there"""
    presence_penalty: Penalty = Controls.presence_penalty
    """taken off a token's score once it was there"""
    repetition_penalty: Repetition = Controls.repetition_penalty
    """divides scores of tokens of prompt and answer; 1 is none"""
    penalty_counts: Counted = Controls.penalty_counts
    """where frequency and presence are counted: what was generated (as OpenAI and vLLM), or the prompt too"""
    seed: Annotated[int, Allowed(0, INT32)] = 0
    """the same gives the same text"""
    samples: Samples = 1
    """texts of each prompt"""
    tokens: Annotated[int, Allowed(0, 1 << 62)] | None = None
    """of the checkpoint; else the last"""
    verbose: bool = False
    """each token with its probability, and what the controls removed"""
    json: bool = False
    """one JSON object a text"""
    cache: Path = Path("cache")
    """corpora, tokens, compiled programs"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what follows each prompt."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse(Arguments, given, "python launch.py sample", about=ABOUT)
    configure_jax(options.cache)
    from training.load import load  # here: JAX loads slowly, and a bad flag is refused before

    model = load(options.run, tokens=options.tokens, cache=options.cache)
    names = ("max_tokens", "stop", "seed", "samples", *NAMES)
    written = model.sample(options.prompt, **{name: getattr(options, name) for name in names})
    longest = max(len(model.tokens(prompt)) for prompt in options.prompt) + options.max_tokens
    if longest > model.spec.data.sequence_length:
        sys.stderr.write(
            f"note: up to {longest} positions; the model was trained on {model.spec.data.sequence_length}\n"
        )
    if options.verbose:
        texts, room = _kept(model.config, longest - options.max_tokens, options.max_tokens)
        sys.stderr.write(f"note: {texts} texts at once keep {short_bytes(room)} of keys and values\n")
    several = len(written) > 1
    for number, sample in enumerate(written):
        if options.json:
            sys.stdout.write(json.dumps(_as_json(sample)) + "\n")
            continue
        if several:
            sys.stdout.write(f"{'' if number == 0 else chr(10)}--- {number + 1} of {len(written)}\n")
        sys.stdout.write(f"{sample.prompt}{sample.text}\n")
        if options.verbose:
            sys.stdout.writelines(
                f"{line}\n" for line in table(sample, model.tokenizer.decode, model.config.vocabulary)
            )
    return EXIT_COMPLETE


def _kept(config: "ModelConfig", longest: int, most: int) -> tuple[int, int]:
    """Texts that are computed together, and the bytes of what they keep."""
    from model.decode.program import positions
    from model.decode.size import cache_bytes, rows_at_once

    capacity = positions(longest, most)
    texts = rows_at_once(config, capacity)
    return texts, cache_bytes(config, texts, capacity)


def _as_json(sample: "Sample") -> dict[str, object]:
    one = sample.generated
    return {
        "prompt": sample.prompt,
        "text": sample.text,
        "ended": one.ended,
        "tokens": one.tokens.tolist(),
        "logprobs": [round(float(value), 6) for value in one.logprobs],
    }


def table(sample: "Sample", decode: "Callable[[Sequence[int]], str]", vocabulary: int) -> list[str]:
    """One line a token: its text, the network's own probability, that after the controls, how many tokens these left
    and removed, and what probability the network gave to the removed."""
    import numpy as np

    one = sample.generated
    lines = [f"{'token':>16} {'model':>8} {'drawn':>8} {'left':>8} {'removed':>8} {'their share':>11}"]
    for token, logprob, probability, kept, share in zip(
        one.tokens.tolist(), one.logprobs, one.probabilities, one.kept.tolist(), one.removed, strict=True
    ):
        text = repr(decode([token]))[1:-1]
        lines.append(
            f"{text[:16]:>16} {np.exp(logprob):8.4f} {probability:8.4f} {kept:8d} {vocabulary - kept:8d} {share:11.4f}"
        )
    whys = {"end": "the end token", "stop": "a stop text", "length": "the most tokens"}
    return [*lines, f"ended by {whys[one.ended]}"]
