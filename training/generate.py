"""Text from a network and its tokenizer: the door for experiments, which sample while they train or measure.

from training.generate import LanguageModel, generate

texts = generate(LanguageModel(config, params, tokenizer), ["1+2=", "3+4="], Controls(), max_tokens=8, samples=4)
reward = [float(one.text == answer) for one, answer in zip(texts, answers)]

A tool writes into the text where the network calls it, and the network reads on:

generate(network, prompts, max_tokens=64, tools={"<out>": lambda text: calculator(text) + "</out>"})
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core import bounds
from core.errors import BadInput
from data.tokenizers import Tokenizer
from model.config import ModelConfig
from model.decode.controls import Controls, MostTokens, Samples
from model.decode.generate import Decoding, Generated, Prompt, generate_in_pack
from model.decode.generate import generate as generate_tokens
from model.decode.stops import before_stop, first_stop, stop_texts
from training.objectives import Params

Tool = Callable[[str], str | None]
"""From prompt and text up to its call, that included, to what is written behind it; None ends the text."""


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """What writes: a network's shape, its parameters (of a pack with a leading member axis), and its tokenizer."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer

    def tokens(self, text: str) -> np.ndarray:
        """What the network reads of a text that begins a document: the end token of the one before, and the text's."""
        return np.concatenate([[self.tokenizer.separator], self.tokenizer.encode([text])[0]]).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One text that a network wrote.

    Attributes:
      prompt: what it went on from.
      text: what followed, up to a stop text or the end token.
      generated: its tokens with their probabilities.
      by_network: which of them the network drew, bool (n,); the others are a tool's, whose log-probability stands as 0.
      calls: of tools.
    """

    prompt: str
    text: str
    generated: Generated
    by_network: np.ndarray
    calls: int = 0


@dataclasses.dataclass
class _Row:
    """A text on its way: the parts that are finished, and how it goes on."""

    prompt: str
    tokens: np.ndarray
    sample: int
    parts: list[tuple[Generated, bool]] = dataclasses.field(default_factory=list)
    text: str = ""
    ended: str = ""

    @property
    def request(self) -> Prompt:
        written = [one.tokens for one, _ in self.parts]
        return Prompt(
            self.tokens, self.sample, np.concatenate([*written, np.zeros(0, np.int32)]).astype(np.int32)
        )

    @property
    def done(self) -> Sample:
        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(one, name) for one, _ in self.parts])

        names = ("tokens", "logprobs", "probabilities", "kept", "removed")
        whole = Generated(**{name: joined(name) for name in names}, ended=self.ended)
        own = np.concatenate([np.full(len(one.tokens), by_network) for one, by_network in self.parts])
        return Sample(self.prompt, self.text, whole, own, sum(not by_network for _, by_network in self.parts))


def generate(
    network: LanguageModel,
    prompts: str | Sequence[str],
    controls: Controls | None = None,
    *,
    max_tokens: MostTokens = 128,
    stop: Sequence[str] = (),
    tools: Mapping[str, Tool] | None = None,
    seed: int = 0,
    samples: Samples = 1,
    batch: int | None = None,
) -> list[Sample]:
    """What a network writes after each prompt; all samples of the first prompt first.

    Args:
      max_tokens: of each text, with what tools wrote.
      stop: texts that end one; they are left out.
      tools: by the text that calls each. Where a network writes it, the tool's answer is written behind, and the
        network goes on after it. A call that begins in what a tool wrote is none.
      seed: the same seed gives a prompt the same texts, alone or among others.
      samples: texts of each prompt.
      batch: texts computed at once; else by memory.

    Raises:
      BadInput: a control out of its range, more text than positions can be counted, or an empty stop text or call.
    """
    asked = _Asked(controls or Controls(), max_tokens, tuple(stop), dict(tools or {}), seed, samples, batch)
    (found,) = _generate(network, 0, prompts, asked)
    return found


def generate_with_members(
    network: LanguageModel,
    members: int,
    prompts: str | Sequence[str],
    controls: Controls | None = None,
    *,
    max_tokens: MostTokens = 128,
    stop: Sequence[str] = (),
    tools: Mapping[str, Tool] | None = None,
    seed: int = 0,
    samples: Samples = 1,
    batch: int | None = None,
) -> list[list[Sample]]:
    """As `generate`, of every network of a pack at once: its parameters have a leading axis of `members`."""
    asked = _Asked(controls or Controls(), max_tokens, tuple(stop), dict(tools or {}), seed, samples, batch)
    return _generate(network, members, prompts, asked)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """How texts go on, as `generate` has it."""

    controls: Controls
    max_tokens: int
    stop: tuple[str, ...]
    tools: dict[str, Tool]
    seed: int
    samples: int
    batch: int | None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "samples"):
            bounds.refuse(name, getattr(self, name), bounds.ranges(generate)[name])
        if "" in (*self.stop, *self.tools):
            raise BadInput("stop='': a stop text must have a character")

    def decoding(self, tokenizer: Tokenizer) -> Decoding:
        return Decoding(
            self.controls,
            self.max_tokens,
            self.seed,
            end=tokenizer.separator,
            known=tokenizer.vocabulary,
            stops=stop_texts((*self.stop, *self.tools), tokenizer.decode),
        )


def _generate(
    network: LanguageModel, members: int, prompts: str | Sequence[str], asked: _Asked
) -> list[list[Sample]]:
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    rows = [
        [_Row(text, network.tokens(text), number) for text in texts for number in range(asked.samples)]
        for _ in range(members or 1)
    ]
    how = asked.decoding(network.tokenizer)
    while going := [[row for row in own if not row.ended] for own in rows]:
        if not any(going):
            break
        requests = [[row.request for row in own] for own in going]
        if members:
            found = generate_in_pack(network.config, network.params, requests, how, batch=asked.batch)
        else:
            found = [generate_tokens(network.config, network.params, requests[0], how, batch=asked.batch)]
        for own, new in zip(going, found, strict=True):
            for row, part in zip(own, new, strict=True):
                _go_on(row, part, network.tokenizer, asked)
    return [[row.done for row in own] for own in rows]


def _go_on(row: _Row, part: Generated, tokenizer: Tokenizer, asked: _Asked) -> None:
    """Add what the network wrote, and what a tool answers to it."""
    row.parts.append((part, True))
    text = tokenizer.decode(part.tokens.tolist())
    called = first_stop(text, (*asked.stop, *asked.tools)) if part.ended == "stop" else None
    if called is None or called not in asked.tools:
        row.text, row.ended = row.text + before_stop(text, asked.stop), part.ended
        return
    answer = asked.tools[called](row.prompt + row.text + text[: text.index(called) + len(called)])
    row.text += text
    if answer is None:
        row.ended = "tool"
        return
    left = asked.max_tokens - len(row.request.written)
    tokens = tokenizer.encode([answer])[0].astype(np.int32)[:left]
    row.parts.append((_of_tool(tokens), False))
    row.text += tokenizer.decode(tokens.tolist())
    if len(tokens) == left:
        row.ended = "length"


def _of_tool(tokens: np.ndarray) -> Generated:
    """What a tool wrote: certain, and of no probability of the network's."""
    zeros, ones = np.zeros(len(tokens), np.float32), np.ones(len(tokens), np.float32)
    return Generated(tokens, zeros, ones, np.ones(len(tokens), np.int32), zeros, "tool")


def controls_of(settings: Mapping[str, Any]) -> Controls:
    """Controls by name.

    Raises:
      BadInput: there is none of a name, or it is out of its range.
    """
    names = [field.name for field in dataclasses.fields(Controls)]
    if unknown := sorted(set(settings) - set(names)):
        raise BadInput(f"{unknown[0]}: no such control; there are {', '.join(sorted(names))}")
    return Controls(**settings)
