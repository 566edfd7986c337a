"""A model asked about texts: the chain rule, long texts in windows, stop texts, and what is refused or told."""

import itertools
import math

import pytest

from core.errors import BadInput
from tests.support.table_model import TableModel
from training.evaluate import windows


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_an_answer_is_as_likely_as_the_chain_rule_says(batch):
    table = TableModel(1, likely="a?")
    model = table.text_model(batch=batch)
    pairs = [("ab", " c"), ("", "x"), ("naïve", "é"), ("a", "?"), ("b", "?!")]
    answers = model.loglikelihood([([0, *model.encode(one)], model.encode(other)) for one, other in pairs])
    for (before, after), (found, greedy) in zip(pairs, answers, strict=True):
        assert found == pytest.approx(table.log_probability(before, after), rel=1e-12)
        last = (b"\0" + before.encode())[-1]
        assert greedy == (bytes(table.greedy(last, len(after.encode()))) == after.encode())
    assert answers[3][1] and not answers[2][1]


@pytest.mark.parametrize(("length", "context"), list(itertools.product(range(14), (1, 2, 3, 4, 13))))
def test_windows_predict_every_token_once_with_as_much_context_as_fits(length, context):
    text = [0, *range(1, length + 1)]
    predicted = []
    cut = list(windows.rolling(text[1:], 0, context))
    for window in cut:
        assert 2 <= len(window.tokens) <= context + 1 and window.start >= 1
        first = int(window.tokens[0])
        assert window.tokens.tolist() == text[first : first + len(window.tokens)]
        predicted += window.tokens[window.start :].tolist()
    assert predicted == text[1:]
    assert len(cut) == -(-length // context)
    if length > context:
        assert len(cut[-1].tokens) == context + 1  # the last one has a full context too


def test_a_long_text_is_the_sum_of_its_windows_and_of_a_uniform_model_eight_bits_a_byte():
    text = "naïve — " * 40
    model = TableModel(uniform=True).text_model(context=16)
    (nats, nothing) = model.rolling([text, ""])
    assert -nats / math.log(2) / len(text.encode()) == pytest.approx(8.0, rel=1e-14)
    assert nothing == 0.0
    table = TableModel(2)  # which sees one byte back, so that windows change nothing
    assert table.text_model(context=16).rolling([text])[0] == pytest.approx(table.log_probability("", text))


def test_a_prompt_that_is_too_long_loses_its_first_tokens_and_this_is_told():
    model = TableModel(3).text_model(context=8)
    sequence = windows.continuation(list(range(20)), [50, 51], 8)
    assert sequence.tokens.tolist() == [*range(13, 20), 50, 51] and sequence.start == 7
    model.loglikelihood([([0, *b"a long prompt"], list(b"ab")), ([0], list(b"ab"))])
    assert model.told == {"prompts lost their first tokens: longer than data.sequence_length=8": 1}
    for answer in ([], [1] * 9):
        with pytest.raises(BadInput, match=r"must have from 1 to data\.sequence_length=8"):
            windows.continuation([0], answer, 8)


def test_an_answer_ends_before_its_first_stop_text():
    model = TableModel(likely="=1122;;;3;").text_model()
    kwargs = {"until": [";", "2"], "max_gen_toks": 6}
    assert model.generate([("1+2=", kwargs), ("3", {**kwargs, "until": "4"}), ("", {**kwargs, "until": []})])[
        :2
    ] == ["1", ";;;;;;"]
    (free,) = model.generate([("=", {"until": "", "do_sample": False, "temperature": 0.7, "max_gen_toks": 3})])
    assert free == "12;"  # greedy in spite of the temperature, and no stop text


def test_answers_that_do_not_fit_are_shorter_and_this_is_told():
    model = TableModel(4).text_model(context=16)
    lengths = [len(model.generate([("a", kwargs)])[0].encode()) for kwargs in ({}, {"max_gen_toks": 256})]
    assert lengths[0] <= 3 * 8 and lengths[1] <= 3 * 12
    assert model.told == {"answers have at most 12 tokens, not 256: the context has 16": 1}
    assert windows.room(None, 16) == 8 and windows.room(5, 16) == 5 and windows.room(256, 1) == 1
    assert windows.prompt(list(range(30)), 16, 12).tolist() == [26, 27, 28, 29]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_beams": 4}, "generation_kwargs.num_beams=4: is not supported; known are until, do_sample"),
        ({"max_gen_toks": "many"}, "generation_kwargs.max_gen_toks='many': must be a number"),
        ({"max_gen_toks": 0}, "generation_kwargs.max_gen_toks=0: must be at least 1"),
        ({"until": [3]}, r"generation_kwargs.until=\[3\]: must be texts"),
        ({"do_sample": True, "temperature": -1.0}, "temperature=-1"),
        ({"do_sample": True, "top_k": 2.5}, "top_k"),
    ],
)
def test_generation_settings_that_cannot_be_honoured_are_refused_by_name(kwargs, words):
    with pytest.raises(BadInput, match=words):
        TableModel().text_model().generate([("a", kwargs)])


def test_the_same_prompt_asked_twice_is_another_sample():
    model = TableModel().text_model()
    seen = []
    model.write = lambda prompts, controls, most, stops: (
        seen.extend((one.sample, controls.temperature) for one in prompts) or [[65]] * len(prompts)
    )
    model.generate([("a", {"do_sample": True, "temperature": 0.5})] * 3 + [("b", {})])
    assert seen == [(0, 0.5), (1, 0.5), (2, 0.5), (0, 0.0)]
