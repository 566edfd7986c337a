"""Text for experiments: tools that write into it, several networks at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import BadInput
from data.tokenizers import ByteTokenizer
from model.decode import cache, program
from model.decode.controls import Controls
from tests.model.test_decode import SMALL, perturbed
from training.generate import LanguageModel, generate, generate_with_members

NEXT = {"=": "<", "<": "1", "1": "+", "+": "2", "2": ">", ">": "?", "3": ";", ";": "\0", "?": "?", "!": "<"}


@pytest.fixture
def writer(monkeypatch):
    """A network that writes <1+2> after =, and what follows is a tool's: after 3 the text ends."""
    table = np.full((256, 256), -9.0, np.float32)
    for one, following in NEXT.items():
        table[ord(one), ord(following)] = 0.0

    class Model:
        @staticmethod
        def head(x):
            return x

    def scores(config, params, cache, tokens_BS, start_B, count_B=None):
        return jnp.asarray(table)[tokens_BS], cache

    monkeypatch.setattr(cache, "hidden", lambda *arguments: (Model, *scores(*arguments)))
    monkeypatch.setattr(cache, "scores", scores)
    monkeypatch.setattr(cache, "check", lambda architecture: None)
    for cached in (program.start, program.advance):
        cached.cache_clear()
    config = dataclasses.replace(SMALL, vocabulary=256)
    yield LanguageModel(config, {}, ByteTokenizer())
    for cached in (program.start, program.advance):
        cached.cache_clear()


def test_a_tool_writes_where_it_is_called_and_the_network_reads_on(writer):
    heard = []

    def calculator(text):
        heard.append(text)
        first, second = text[text.rindex("<") + 1 : -1].split("+")
        return str(int(first) + int(second))

    (one,) = generate(writer, "x=", Controls(temperature=0), max_tokens=20, tools={">": calculator})
    assert (one.text, one.generated.ended, one.calls) == ("<1+2>3;", "end", 1) and heard == ["x=<1+2>"]
    assert one.by_network.tolist() == [True] * 5 + [False, True]
    assert bytes(one.generated.tokens.tolist()) == b"<1+2>3;" and one.generated.logprobs[5] == 0
    assert (one.generated.logprobs[one.by_network] < 0).all()
    ask = {"max_tokens": 20, "tools": {">": calculator}}
    several = generate(writer, ["x=", "3", "2=="], Controls(temperature=0), **ask)
    assert [other.text for other in several] == ["<1+2>3;", ";", "<1+2>3;"]


@pytest.mark.parametrize(
    ("answer", "text", "ended", "calls"),
    [
        ("!", "<1+2>!<1+2>!<", "length", 2),  # several calls, until the most tokens
        ("a long answer", "<1+2>a long a", "length", 1),
        (None, "<1+2>", "tool", 0),
        ("", "<1+2>????????", "length", 1),
    ],
)
def test_calls_may_repeat_end_or_fill_a_text(writer, answer, text, ended, calls):
    (one,) = generate(writer, "=", Controls(temperature=0), max_tokens=13, tools={">": lambda _: answer})
    assert (one.text, one.generated.ended, one.calls) == (text, ended, calls)
    assert len(one.generated.tokens) == len(one.by_network) <= 13


def test_a_stop_text_before_a_call_ends_the_text(writer):
    (one,) = generate(writer, "=", Controls(temperature=0), stop=["+2"], tools={">": lambda _: "3"})
    assert (one.text, one.generated.ended) == ("<1", "stop")
    with pytest.raises(BadInput, match="stop=''"):
        generate(writer, "=", tools={"": lambda _: "3"})


def test_members_write_what_each_writes_alone_tools_included():
    def measure(text):
        return f"[{len(text)}]"

    config = dataclasses.replace(SMALL, vocabulary=256)
    trees = [perturbed(config, seed) for seed in range(2)]
    packed = LanguageModel(config, jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), ByteTokenizer())
    ask = {
        "max_tokens": 24,
        "seed": 2,
        "samples": 2,
        "batch": 4,
        "tools": dict.fromkeys("abcdefghijkl", measure),
    }
    together = generate_with_members(packed, 2, ["ab", "c"], **ask)
    for params, found in zip(trees, together, strict=True):
        alone = generate(LanguageModel(config, params, ByteTokenizer()), ["ab", "c"], **ask)
        assert [one.text for one in found] == [one.text for one in alone]
        assert [one.calls for one in found] == [one.calls for one in alone]
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one.generated.logprobs, other.generated.logprobs, atol=1e-4)
    assert sum(one.calls for found in together for one in found) > 0
    assert together[0][0].text != together[1][0].text
