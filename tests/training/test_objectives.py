"""What masked, span and prefix hide, predict and refuse."""

import collections
import dataclasses

import jax
import numpy as np
import optax
import pytest

from core.errors import BadInput
from data import corruption
from data.config import DataConfig
from data.tasks.registry import load as task_of
from data.tokenizers import ByteTokenizer
from model.config import ModelConfig
from model.initialize import init
from model.sharding import make_mesh
from model.transformer import Transformer
from training import objectives
from training.evaluate.score import prepare_task, score_tasks
from training.objectives import masked
from training.program import Program
from training.spec import OptimConfig, RunSpec
from training.state import hyperparameters, initial_state
from training.step import mean, train_step_function

ENCODER = ModelConfig(vocabulary=272, architecture="encoder", depth=1, scan=False)
BOTH = dataclasses.replace(ENCODER, architecture="encoder_decoder")
DATA = DataConfig(sequence_length=64)
TEXT = np.random.default_rng(0).integers(0, 256, (400, 65)).astype(np.int32)


def test_a_window_is_hidden_the_same_way_wherever_it_is_read():
    whole = corruption.uniforms(3, 0, 9, 7)
    assert (corruption.uniforms(3, 5, 4, 7) == whole[5:]).all()
    assert not (corruption.uniforms(4, 0, 9, 7) == whole).any()
    assert abs(corruption.uniforms(0, 0, 1000, 100).mean() - 0.5) < 5 * np.sqrt(1 / 12 / 1e5)


def test_masked_tokens_have_the_stated_shares():
    found = corruption.masked(TEXT[:, 1:], 0, 0, count=10, mask=256, known=256, random=0.1, kept=0.1)
    shown = np.take_along_axis(found.tokens, found.positions, axis=1)
    n = shown.size
    # A random token is the same as the one that stood there once in 256.
    for share, expected in ((shown == 256, 0.8), (shown == found.targets, 0.1 + 0.1 / 256)):
        assert abs(share.mean() - expected) < 5 * np.sqrt(expected * (1 - expected) / n)
    counts = np.bincount(found.positions.ravel(), minlength=64)
    assert ((counts - n / 64) ** 2 / (n / 64)).sum() < 64 + 6 * np.sqrt(2 * 64)  # chi-squared, 6 sigma
    untouched = np.ones_like(TEXT[:, 1:], bool)
    np.put_along_axis(untouched, found.positions, False, axis=1)
    assert (found.tokens[untouched] == TEXT[:, 1:][untouched]).all()
    assert (np.take_along_axis(TEXT[:, 1:], found.positions, axis=1) == found.targets).all()


def test_spans_have_the_stated_lengths_and_lose_nothing():
    lengths = corruption.span_lengths(64, 0.15, 3.0)
    assert lengths == (10, 3, 57, 13)
    found = corruption.spans(TEXT[:, 1:], 0, 0, lengths, 271)
    seen = collections.Counter()
    for text, source, target in zip(TEXT[:, 1:], found.source, found.target, strict=True):
        spans = np.split(target, np.flatnonzero(target > 255))[1:]
        assert [span[0] for span in spans] == [271, 270, 269, 268] and len(spans[-1]) == 1
        seen[tuple(len(span) - 1 for span in spans[:-1])] += 1
        whole = [spans[271 - token][1:].tolist() if token > 255 else [token] for token in source]
        assert np.concatenate(whole).tolist() == text.tolist()
    # All 36 ways of cutting 10 tokens into 3 spans are equally likely: chi-squared, 35 degrees of freedom.
    assert len(seen) == 36
    assert sum((count - 400 / 36) ** 2 / (400 / 36) for count in seen.values()) < 35 + 6 * np.sqrt(70)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "masked"}, "objective=masked: cannot train model.architecture=decoder; must be encoder"),
        ({"model": ENCODER}, "objective=next_token: cannot train model.architecture=encoder; must be .*decoder"),
        ({"objective": "span", "model": ENCODER}, "objective=span: .*must be encoder_decoder"),
        ({"mask_share": 0.3}, "mask_share=0.3: objective=next_token has no such setting; it reads none"),
        ({"objective": "prefix", "model": BOTH, "source_weight": 1.0}, "source_weight=1: the encoder of"),
        ({"objective": "masked", "model": ENCODER, "mask_random": 0.95}, "mask_random=0.95: .*above 1"),
        ({"objective": "span", "model": BOTH, "tasks": ("copying",)}, "objective=span .*not scored on tasks"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(changes, words):
    with pytest.raises(BadInput, match=words) as caught:
        RunSpec(**changes)
    assert "\n" not in str(caught.value)


def test_sums_over_weights_do_not_depend_on_how_a_batch_is_cut():
    model = ModelConfig(vocabulary=32, width=16, depth=1, heads=1, kv_heads=1, scan=False)
    chance, params = np.random.default_rng(0), init(model, jax.random.key(0))
    tokens = chance.integers(0, 32, (4, 9)).astype(np.int32)
    weights = np.zeros((4, 8), np.float32)
    weights[0], weights[1, 3], weights[2, 5:] = 1, 0.25, 0.5  # and nothing in the last
    batch = {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "weights": weights}
    logits = np.asarray(Transformer(model, params)(tokens[:, :-1]), np.float64)
    nll = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    norms = []
    for parts in (1, 2, 4):
        program = Program(model, objective="prefix", microbatches=parts)
        state = initial_state(model, OptimConfig(), 0)
        state = dataclasses.replace(state, params=params)
        hyper = {**hyperparameters(OptimConfig(), "prefix"), "learning_rate": 1e-3}
        _, metrics = jax.jit(train_step_function(program))(state, batch, hyper)
        assert metrics.keys() == {"loss", "grad_norm"}
        assert metrics["loss"] == pytest.approx((nll * weights).sum() / weights.sum(), rel=1e-5)
        norms.append(float(metrics["grad_norm"]))
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)
    nothing, _ = mean({"loss": jax.numpy.zeros(()), "weight": jax.numpy.zeros(())}, {}, 1)
    assert nothing["loss"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["auxiliary", "bias"])
def test_experts_are_balanced_under_prefix_as_under_next_token(balance):
    """With every target's weight 1 the two are one loss, penalties and what blocks log and move among it."""
    model = ModelConfig(
        vocabulary=32, width=16, depth=1, heads=1, kv_heads=1, scan=False, architecture="mixture_of_experts",
        experts=4, balance=balance, router_z_loss=1e-2,
    )  # fmt: skip
    tokens = np.random.default_rng(0).integers(0, 32, (4, 9)).astype(np.int32)
    weighted = {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "weights": np.ones((4, 8), np.float32)}
    found = []
    for objective, batch in (("next_token", tokens), ("prefix", weighted)):
        step = jax.jit(train_step_function(Program(model, objective=objective)))
        hyper = {**hyperparameters(OptimConfig(), objective), "learning_rate": 1e-2}
        found.append(step(initial_state(model, OptimConfig(), 0), batch, hyper))
    (state, metrics), (other, weighed) = found
    assert metrics.keys() == weighed.keys() > {"loss", "grad_norm"}
    for name in metrics:
        assert float(weighed[name]) == pytest.approx(float(metrics[name]), rel=1e-5, abs=1e-7), name
    for mine, its in zip(jax.tree.leaves(state.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(its, mine, atol=2e-5)


def test_prefix_scores_the_same_tokens_with_either_network():
    decoder = RunSpec(data=DATA, objective="prefix", source_share=0.25, source_weight=1.0)
    both = dataclasses.replace(decoder, model=BOTH, source_weight=0.0)
    batch, weights = objectives.held_out_batch(decoder, TEXT, np.ones((400, 64), np.float32), 0)
    pair, all_weights = objectives.held_out_batch(both, TEXT, np.ones((400, 64), np.float32), 0)
    assert (batch["targets"][:, 16:] == pair["targets"]).all() and all_weights.all()
    assert (weights == (np.arange(64) >= 16)).all()
    assert (np.concatenate([pair["source"], pair["tokens"]], axis=1) == batch["tokens"]).all()
    assert objectives.example(decoder, TEXT)["weights"].all()


@pytest.mark.slow
def test_one_hidden_token_is_predicted_as_a_bigram_source_gives_it():
    """Brute force: the chain's probability of every value of the hidden token between the two beside it."""
    chance, states, length = np.random.default_rng(0), 4, 6
    moves = chance.dirichlet(np.full(states, 0.5), states)
    config = ModelConfig(
        vocabulary=states + 1, width=32, depth=1, heads=2, kv_heads=2, scan=False, architecture="encoder"
    )

    def windows(rows):
        tokens = np.empty((rows, length), np.int64)
        tokens[:, 0] = chance.integers(0, states, rows)
        for t in range(1, length):
            tokens[:, t] = (chance.random(rows)[:, None] > moves[tokens[:, t - 1]].cumsum(1)).sum(1)
        return np.minimum(tokens, states - 1)

    def hidden(rows, seed):
        count = corruption.masked_count(length, 1 / length)
        assert count == 1
        return corruption.masked(windows(rows), seed, 0, count=1, mask=states, known=states, random=0, kept=0)

    params = init(config, jax.random.key(0))
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, 600))
    moments = adam.init(params)

    @jax.jit
    def step(params, moments, batch):
        grads = jax.grad(lambda params: masked.loss(config, params, batch, {"z_loss": 0.0})[0])(params)
        updates, moments = adam.update(grads, moments)
        return optax.apply_updates(params, updates), moments

    for seed in range(600):
        params, moments = step(params, moments, hidden(256, seed)._asdict())
    test = hidden(4000, 10_000)
    rows, at = np.arange(4000), test.positions[:, 0]
    before = np.where((at > 0)[:, None], moves[test.tokens[rows, np.maximum(at - 1, 0)] % states], 1 / states)
    after = np.where(
        (at < length - 1)[:, None], moves[:, test.tokens[rows, np.minimum(at + 1, length - 1)] % states].T, 1
    )
    exact = before * after
    exact = -np.log(exact[rows, test.targets[:, 0]] / exact.sum(1))
    found = np.asarray(masked.held_out_nats(config, params, test._asdict()))[:, 0]
    assert found.mean() == pytest.approx(exact.mean(), abs=0.03)
    assert np.sqrt(np.mean((np.exp(-found) - np.exp(-exact)) ** 2)) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("config", [ENCODER, BOTH], ids=lambda config: config.architecture)
def test_tasks_are_scored_by_one_token_hidden_at_a_time_or_from_the_source(config):
    config = dataclasses.replace(config, width=16, heads=1, kv_heads=1)
    params, mesh = init(config, jax.random.key(1)), make_mesh((1, 1, 1), jax.devices()[:1])
    task = prepare_task(task_of("copying"), 4, ByteTokenizer(), 64)
    with jax.set_mesh(mesh):
        (scores,) = score_tasks([task], config, mesh, params, 64)
    for number, problem in enumerate(task.problems):
        tokens, start = problem[0].tokens, problem[0].start
        total = 0.0
        for index in range(start, len(tokens)):
            if config.architecture == "encoder":
                read = tokens.copy()
                read[index] = config.vocabulary - 1
                logits = Transformer(config, params)(read[None])[0, index]
            else:
                read, source = tokens[None, start - 1 : -1], tokens[None, : start - 1]
                logits = Transformer(config, params)(read, source)[0, index - start]
            total -= float(jax.nn.log_softmax(logits)[tokens[index]])
        assert scores.nll[number] == pytest.approx(total, rel=1e-4)
