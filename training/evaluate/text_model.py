"""A model that is asked about texts: how likely an answer is, how likely a whole text, and what it writes.

What lm-evaluation-harness asks of a model, without the harness: batches, windows over long texts, stop texts, answers
that are greedy or drawn.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from core.errors import BadInput
from data.tokenizers import Tokenizer
from model.decode.controls import Controls
from model.decode.generate import Decoding, Prompt, generate
from model.decode.stops import before_stop, stop_texts
from model.mesh_shape import batch_parts
from training.evaluate import windows
from training.evaluate.score import Answer, ScoredSequence, make_task_step, score_sequences
from training.load import Trained

# (prompts, controls, most tokens, stop texts) -> the tokens of each answer
Write = Callable[[Sequence[Prompt], Controls, int, Sequence[str]], list[Sequence[int]]]

LENGTHS = (
    "max_gen_toks",
    "max_new_tokens",
    "max_tokens",
    "max_completion_tokens",
)  # one meaning, by precedence
DRAWN = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclasses.dataclass
class TextModel:
    """A model with its tokenizer.

    Attributes:
      context: T, inputs that it was trained on.
      vocabulary: V, rows of its head.
      answer: its scores of sequences. write: its answers.
      shards: devices that a batch is cut over. batch: sequences computed at once; else by memory.
      told: what a reader of its scores should know, with how often it was so.
    """

    tokenizer: Tokenizer
    context: int
    vocabulary: int
    answer: Answer
    write: Write
    shards: int = 1
    batch: int | None = None
    told: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @classmethod
    def of(cls, model: Trained, batch: int | None = None) -> "TextModel":
        """Of a trained run."""
        mesh, config = model.mesh, model.config
        step = make_task_step(config, mesh)

        def answer(*arrays: Any) -> Any:
            with jax.set_mesh(mesh):
                return step(model.params, *arrays)

        def write(
            prompts: Sequence[Prompt], controls: Controls, most: int, stops: Sequence[str]
        ) -> list[Sequence[int]]:
            tokenizer = model.tokenizer
            with jax.set_mesh(mesh):
                how = Decoding(
                    controls,
                    most,
                    end=tokenizer.separator,
                    known=tokenizer.vocabulary,
                    stops=stop_texts(stops, tokenizer.decode),
                )
                written = generate(config, model.params, prompts, how, batch=batch)
            return [one.tokens.tolist() for one in written]

        shards = batch_parts(tuple(mesh.shape.values()))
        context = model.spec.data.sequence_length
        return cls(model.tokenizer, context, config.vocabulary, answer, write, shards, batch)

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, nothing before them."""
        return self.tokenizer.encode([text])[0].tolist()

    def loglikelihood(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        """Log-probability in nats of each answer given the tokens before it, and whether greedy decoding writes it."""
        sequences = []
        for before, after in pairs:
            sequences.append(windows.continuation(before, after, self.context))
            if len(sequences[-1].tokens) < len(before) + len(after):
                self.told[
                    f"prompts lost their first tokens: longer than data.sequence_length={self.context}"
                ] += 1
        results = self._scored(sequences)
        return [
            (-float(nll.sum()), bool((likeliest == one.tokens[one.start :]).all()))
            for one, (nll, likeliest, _) in zip(sequences, results, strict=True)
        ]

    def rolling(self, texts: Sequence[str]) -> list[float]:
        """Log-probability in nats of each whole text, as a document of its own; every token predicted once."""
        separator = self.tokenizer.separator
        cut = [list(windows.rolling(self.encode(text), separator, self.context)) for text in texts]
        results = iter(self._scored([window for own in cut for window in own]))
        return [-float(sum(next(results)[0].sum() for _ in own)) for own in cut]

    def generate(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """What follows each prompt, up to its first stop text, given the `generation_kwargs` of a definition.

        Raises:
          BadInput: a key or value of them that cannot be honoured.
        """
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, (_, kwargs) in enumerate(asked):
            groups.setdefault(self._settings(kwargs), []).append(number)
        texts: list[str] = [""] * len(asked)
        for (controls, most, stops), members in groups.items():
            times: collections.Counter[str] = collections.Counter()
            prompts = []
            for number in members:
                text = asked[number][0]
                whole = [self.tokenizer.separator, *self.encode(text)]
                kept = windows.prompt(whole, self.context, most)
                if len(kept) < len(whole):
                    self.told[f"prompts lost their first tokens: longer than {self.context - most}"] += 1
                prompts.append(Prompt(kept, times[text]))  # one asked again is another sample
                times[text] += 1
            for number, tokens in zip(members, self.write(prompts, controls, most, stops), strict=True):
                texts[number] = before_stop(self.tokenizer.decode(tokens), stops)
        return texts

    def _settings(self, kwargs: Mapping[str, Any]) -> tuple[Controls, int, tuple[str, ...]]:
        """(controls, most tokens, stop texts); without do_sample or a temperature the likeliest token is taken."""
        given = {key: value for key, value in kwargs.items() if value is not None}
        until = given.pop("until", None) or []
        stops = (until,) if isinstance(until, str) else tuple(until)
        lengths = [given.pop(key) for key in LENGTHS if key in given]
        draws = given.pop("do_sample", bool(given.get("temperature")))
        drawn = {key: given.pop(key) for key in DRAWN if key in given}
        if given:
            key = min(given)
            allowed = ", ".join(("until", "do_sample", *DRAWN, *LENGTHS))
            raise BadInput(f"generation_kwargs.{key}={given[key]!r}: is not supported; known are {allowed}")
        numbers = {**drawn, **({"max_gen_toks": lengths[0]} if lengths else {})}
        for key, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BadInput(f"generation_kwargs.{key}={value!r}: must be a number")
            if key in ("top_k", "max_gen_toks") and value != int(value):
                raise BadInput(f"generation_kwargs.{key}={value!r}: must be a whole number")
        stops = tuple(stop for stop in stops if stop != "")  # the harness passes over them too
        if not all(isinstance(stop, str) for stop in stops):
            raise BadInput(f"generation_kwargs.until={until!r}: must be texts")
        if lengths and not lengths[0] >= 1:
            raise BadInput(f"generation_kwargs.max_gen_toks={lengths[0]}: must be at least 1")
        asked = int(lengths[0]) if lengths else None
        most = windows.room(asked, self.context)
        if asked is not None and most < asked:
            self.told[f"answers have at most {most} tokens, not {asked}: the context has {self.context}"] += 1
        if not draws:
            drawn = {key: drawn[key] for key in ("repetition_penalty",) if key in drawn} | {"temperature": 0.0}
        return Controls(**drawn), most, stops

    def _scored(self, sequences: Sequence[ScoredSequence]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return score_sequences(sequences, self.answer, self.context, self.vocabulary, self.shards, self.batch)
