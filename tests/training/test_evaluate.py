"""Every score of a task against an independent computation on models whose probabilities are known."""

import dataclasses
import itertools
import math
import os
import random
import subprocess
import sys
from typing import ClassVar

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from data.tasks.protocol import Item, Task
from data.tasks.registry import families, load
from data.tokenizers import ByteTokenizer
from model.config import ModelConfig
from model.initialize import init
from model.sharding import make_mesh
from tests.support.small import ROOT
from training.evaluate import score as evaluate
from training.evaluate.score import (
    METRICS,
    choice_scores,
    edit_distance,
    prepare_task,
    score_items,
    score_tasks,
    summarize,
)

LETTERS = "abcd"


class Bigram:
    """A model that knows the last byte only: P(next | last) is a table drawn at random. Its answers in float64."""

    def __init__(self, seed: int = 0, sharpness: float = 1.0):
        chance = np.random.default_rng(seed)
        self.table_VV = np.full((256, 256), 1e-9)
        own = [0, 10, *map(ord, LETTERS), ord(">")]
        self.table_VV[np.ix_(own, own)] = chance.dirichlet(np.full(len(own), 1 / sharpness), len(own))
        self.table_VV /= self.table_VV.sum(1, keepdims=True)

    def __call__(self, tokens_BS, positions_B1, options_BK):
        logp_BTV = np.log(self.table_VV[tokens_BS[:, :-1]])
        nll_BT = -np.take_along_axis(logp_BTV, tokens_BS[:, 1:, None], axis=2)[..., 0]
        last_B = np.take_along_axis(tokens_BS, np.maximum(positions_B1 - 1, 0), axis=1)[:, 0]
        options_BK = np.take_along_axis(np.log(self.table_VV[last_B]), options_BK, axis=1)
        return nll_BT, logp_BTV.argmax(-1), options_BK

    def probability(self, prompt: str, answer: str) -> float:
        """By the chain rule, a product over the characters."""
        text = "\0" + prompt + answer
        start = len(prompt)
        return math.prod(
            self.table_VV[ord(text[place]), ord(text[place + 1])] for place in range(start, len(text) - 1)
        )

    def greedy(self, prompt: str, length: int) -> str:
        """`length` most likely characters, one after the other, each from what was written before."""
        text = "\0" + prompt
        for _ in range(length):
            text += chr(int(self.table_VV[ord(text[-1])].argmax()))
        return text[-length:]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strings(Task):
    """Random short prompts and answers, with as many wrong answers as asked for."""

    wrong: int = 3
    longest: int = 3
    family: ClassVar[str] = "strings"

    @property
    def guess(self) -> float:
        return 0.25

    def draw(self, chance: random.Random) -> Item:
        def word(most: int) -> str:
            return "".join(chance.choices(LETTERS, k=chance.randrange(1, most + 1)))

        answers: list[str] = []
        while len(answers) < 1 + self.wrong:
            answer = word(self.longest) + ("\n" if self.longest > 1 else "")
            if answer not in answers:
                answers.append(answer)
        return Item(word(20), answers[0], tuple(answers[1:]))


def edits(left: str, right: str) -> int:
    """Levenshtein's distance by its recursive definition."""
    if not left or not right:
        return len(left) + len(right)
    same = left[-1] == right[-1]
    return min(
        edits(left[:-1], right) + 1, edits(left, right[:-1]) + 1, edits(left[:-1], right[:-1]) + (not same)
    )


def score(tasks, model, count=60, context=64, **keywords):
    prepared = [prepare_task(task, count, ByteTokenizer(), context) for task in tasks]
    scores = score_items(prepared, model, context=context, vocabulary=256, **keywords)
    return prepared, scores


@pytest.mark.parametrize("longest", [1, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_are_those_of_the_chain_rule(seed, longest):
    task, model = Strings(longest=longest, wrong=3 if longest > 1 else 2), Bigram(seed, sharpness=3.0)
    prepared, (scores,) = score([task], model)
    items = task.items(60)
    for index, item in enumerate(items):
        answers = [item.target, *item.distractors]
        p = [model.probability(item.prompt, answer) for answer in answers]
        assert scores.nll[index] == pytest.approx(-math.log(p[0]), rel=1e-12)
        assert scores.exact_match[index] == (model.greedy(item.prompt, len(item.target)) == item.target)
        assert scores.choice_accuracy[index] == (max(p) == p[0])
        share = [value / sum(p) for value in p]
        assert scores.brier[index] == pytest.approx(
            sum((value - (number == 0)) ** 2 for number, value in enumerate(share)), rel=1e-9
        )
        text = item.prompt + item.target
        hits = [
            model.greedy(text[:place], 1) == text[place]
            for place in range(len(text) - len(item.target), len(text))
        ]
        assert scores.token_accuracy[index] == pytest.approx(sum(hits) / len(hits))
        assert scores.target_tokens[index] == len(item.target)
        forced = "".join(
            model.greedy(text[:place], 1) for place in range(len(text) - len(item.target), len(text))
        )
        assert scores.edit_distance[index] == edits(forced, item.target) / len(item.target)
    assert 0 < scores.choice_accuracy.mean() < 1
    summary = summarize(prepared[0], scores)
    assert set(summary) == set(METRICS)
    n = len(items)
    exact = scores.exact_match.mean()
    assert summary["exact_match"].stderr == pytest.approx(math.sqrt(exact * (1 - exact) / (n - 1)))
    tokens = sum(len(item.target) for item in items)
    nats = -sum(math.log(model.probability(item.prompt, item.target)) for item in items)
    assert summary["nll_per_token"].value == pytest.approx(nats / tokens)
    chances = [model.probability(item.prompt, item.target) for item in items]
    assert summary["probability"].value == pytest.approx(sum(chances) / n)
    for name in ("choice_accuracy", "token_accuracy", "edit_distance", "brier"):
        assert summary[name].value == pytest.approx(sum(getattr(scores, name)) / n)
    assert summary["choice_chance"].value == pytest.approx(1 / (1 + task.wrong))
    assert (summary["chance"].value, summary["chance"].n) == (0.25, n)


def test_a_greedy_match_is_seen_among_many_problems():
    """So that the comparison above is one of both outcomes, for answers of one token and of several."""
    for longest in (1, 4):
        tasks = [Strings(longest=longest, wrong=2)]
        rates = [score(tasks, Bigram(seed, sharpness=3.0))[1][0].exact_match.mean() for seed in range(8)]
        assert 0 < sum(rates) < 8


def test_probability_is_the_rate_of_exact_matches_of_samples():
    task, model = Strings(longest=2), Bigram(3, sharpness=3.0)
    _, (scores,) = score([task], model, count=20)
    chance = np.random.default_rng(0)
    samples, hits = 400, 0
    for item in task.items(20):
        for _ in range(samples):
            text = "\0" + item.prompt
            for _ in item.target:
                text += chr(chance.choice(256, p=model.table_VV[ord(text[-1])]))
            hits += text == "\0" + item.prompt + item.target
    mean = np.exp(-scores.nll).mean()
    assert hits / samples / 20 == pytest.approx(mean, abs=4 * math.sqrt(mean / samples / 20))


def test_a_model_that_knows_nothing_scores_at_chance():
    class Uniform(Bigram):
        def __init__(self):
            self.table_VV = np.full((256, 256), 1 / 256)

    _, (one, several) = score([Strings(longest=1, wrong=3), Strings(longest=3, wrong=1)], Uniform())
    assert one.choice_accuracy.mean() == pytest.approx(1 / 4)  # ties are shared out
    assert one.brier == pytest.approx(np.full(60, 0.75**2 + 3 * 0.25**2))
    assert several.nll == pytest.approx(several.target_tokens * math.log(256))


def test_mixed_tasks_in_one_batch_score_as_each_alone():
    model = Bigram(4, sharpness=4.0)
    tasks = [Strings(longest=1, wrong=2), Strings(longest=5, wrong=2), Strings(longest=2, wrong=4)]
    _, together = score(tasks, model)
    for task, mixed in zip(tasks, together, strict=True):
        _, (alone,) = score([task], model)
        for field in dataclasses.fields(mixed):
            np.testing.assert_array_equal(getattr(mixed, field.name), getattr(alone, field.name))


def test_padding_and_batch_size_change_nothing(monkeypatch):
    model = Bigram(5, sharpness=4.0)
    _, (usual,) = score([Strings(longest=4)], model)
    monkeypatch.setattr(evaluate, "BATCH_TOKENS", 200)
    monkeypatch.setattr(evaluate, "SMALLEST_LENGTH", 4)
    _, (small,) = score([Strings(longest=4)], model, context=50)
    np.testing.assert_array_equal(usual.nll, small.nll)
    np.testing.assert_array_equal(usual.brier, small.brier)


def test_more_single_token_choices_than_a_sequence_carries_cost_one_each_and_score_the_same(monkeypatch):
    monkeypatch.setattr(evaluate, "OPTIONS", 8)
    model = Bigram(6, sharpness=4.0)
    item = Item("ab>", "a", tuple("bcd>"))
    many = dataclasses.replace(item, distractors=(*item.distractors, *"efghijk"))
    scored = []
    for one in (item, many):

        class Fixed(Strings):
            def items(self, count, seed=0, one=one):
                return [one] * count

        prepared, (scores,) = score([Fixed()], model, count=2)
        assert len(prepared[0].problems[0]) == (1 if one is item else 12)
        scored.append(scores)
    assert scored[0].choice_accuracy[0] == scored[1].choice_accuracy[0]
    p = [model.probability(many.prompt, answer) for answer in (many.target, *many.distractors)]
    expected = (1 - p[0] / sum(p)) ** 2 + sum((value / sum(p)) ** 2 for value in p[1:])
    assert scored[1].brier[0] == pytest.approx(expected, rel=1e-9)


def test_items_without_choices_have_no_choice_scores():
    class Bare(Strings):
        def draw(self, chance):
            return dataclasses.replace(super().draw(chance), distractors=())

    prepared, (scores,) = score([Bare()], Bigram())
    assert np.isnan(scores.choice_accuracy).all()
    assert set(METRICS) - set(summarize(prepared[0], scores)) == {
        "choice_accuracy", "choice_accuracy_norm", "choice_chance", "brier"
    }  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.text("ab", max_size=7), st.text("ab", max_size=7))
def test_edit_distance_is_the_shortest_path_of_edits(left, right):
    """Against the recursive definition."""
    if len(left) * len(right) > 30:
        left, right = left[:5], right[:5]
    assert edit_distance([*map(ord, left)], [*map(ord, right)]) == edits(left, right)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-300, 0), min_size=2, max_size=6))
def test_choice_scores_stay_in_range_and_do_not_depend_on_a_common_factor(log_probabilities):
    own = np.array(log_probabilities)
    accuracy, brier = choice_scores(own)
    assert 0 <= accuracy <= 1 and 0 <= brier <= 2
    assert choice_scores(own - 40)[1] == pytest.approx(brier, abs=1e-9)


def bigram_parameters(config: ModelConfig, seed: int):
    """Parameters of a transformer whose blocks write nothing: its logits depend on the last token alone."""
    params = init(config, jax.random.key(seed))
    for name in ("attention_output", "down"):
        params["blocks"][name] = params["blocks"][name] * 0
    params["embedding"] = params["embedding"] * 3
    params["head"] = params["head"] * 3
    return params


def test_a_transformer_with_known_probabilities_scores_as_its_table():
    config = ModelConfig(width=16, depth=1, heads=1, kv_heads=1, tied=False)
    params = bigram_parameters(config, 0)
    embedding, head = (np.asarray(params[name], np.float64) for name in ("embedding", "head"))
    rms = np.sqrt((embedding**2).mean(1, keepdims=True) + config.norm_epsilon)
    logits_VV = embedding / rms @ head.T
    known = Bigram()
    known.table_VV = np.exp(logits_VV - logits_VV.max(1, keepdims=True))
    known.table_VV /= known.table_VV.sum(1, keepdims=True)
    names = ("copying:length=3", "associative-recall:pairs=3", "listops:depth=1", "bigram:symbols=5,length=4")
    prepared = [prepare_task(load(name), 40, ByteTokenizer(), 64) for name in names]
    expected = score_items(prepared, known, context=64, vocabulary=256)
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        found = score_tasks(prepared, config, mesh, params, 64)
    for task, own, other in zip(prepared, expected, found, strict=True):
        summary = summarize(task, other)
        for metric, value in summarize(task, own).items():
            assert summary[metric].value == pytest.approx(value.value, rel=2e-5, abs=1e-6), metric
            assert summary[metric].n == value.n


def test_one_compilation_for_each_padded_length(monkeypatch):
    config = ModelConfig(width=8, depth=1, heads=1, kv_heads=1)
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    params = init(config, jax.random.key(0))
    traced, plain = [], evaluate.with_kernels

    def counted(model, shape_BT):
        traced.append(shape_BT)
        return plain(model, shape_BT)

    monkeypatch.setattr(evaluate, "with_kernels", counted)
    with jax.set_mesh(mesh):
        for names in (("copying", "sorting"), ("reversal",), ("copying:length=20", "listops")):
            tasks = [prepare_task(load(name), 20, ByteTokenizer(), 64) for name in names]
            score_tasks(tasks, config, mesh, params, 64)
    assert len(traced) == len(set(traced)) > 1
    assert {length for _, length in traced} <= set(evaluate.lengths(64)) == {16, 24, 32, 48, 64}


def test_a_mesh_of_four_devices_scores_as_one():
    code = """
import jax, numpy as np
from data.tasks.registry import load
from data.tokenizers import ByteTokenizer
from model.config import ModelConfig
from model.initialize import init
from model.sharding import make_mesh, parameter_shardings
from training.evaluate.score import prepare_task, score_tasks

config = ModelConfig(width=16, depth=1, heads=2, kv_heads=2, head_width=8)
params = init(config, jax.random.key(0))
tasks = [prepare_task(load(name), 30, ByteTokenizer(), 32) for name in ("copying", "associative-recall:pairs=3")]
found = []
for shape in ((1, 1, 1), (2, 2, 1)):
    mesh = make_mesh(shape, jax.devices()[:shape[0] * shape[1]])
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, parameter_shardings(config, mesh))
        found.append(score_tasks(tasks, config, mesh, placed, 32))
for one, four in zip(*found):
    for name in ("exact_match", "nll", "brier", "edit_distance", "choice_accuracy"):
        np.testing.assert_allclose(getattr(four, name), getattr(one, name), rtol=1e-5, atol=1e-5)
print("same")
"""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "same\n", done.stderr


def test_a_problem_longer_than_the_context_is_refused():
    with pytest.raises(BadInput, match=r"task copying:length=20: problem 0 has 47 tokens .*sequence_length=32"):
        prepare_task(load("copying:length=20"), 5, ByteTokenizer(), 32)
    task = Strings()
    longest = max(
        len("\0" + item.prompt + answer) - 1
        for item in task.items(50)
        for answer in (item.target, *item.distractors)
    )
    prepare_task(task, 50, ByteTokenizer(), longest)
    with pytest.raises(BadInput, match=f"sequence_length={longest - 1}"):
        prepare_task(task, 50, ByteTokenizer(), longest - 1)


def test_every_family_fits_in_a_context_of_128_bytes():
    for name in families():
        prepared = prepare_task(load(name), 20, ByteTokenizer(), 128)
        assert len(prepared.problems) == 20


def test_the_fingerprint_tells_items_apart():
    prints = [
        prepare_task(load(name), count, ByteTokenizer(), 64).fingerprint
        for name, count in itertools.product(("copying", "sorting"), (5, 6))
    ]
    assert len(set(prints)) == 4
