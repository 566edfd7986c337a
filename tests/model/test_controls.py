"""What is done to scores before a token is drawn, against NumPy and against exact distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from core.errors import BadInput
from model.decode.controls import Controls
from model.decode.draw import draw, penalized, warped


def softmax(scores):
    shifted = np.exp(scores - scores.max())
    return shifted / shifted.sum()


def kept_by_numpy(logits, controls):
    """The set of tokens that are left of one row, by the definitions."""
    scores = np.asarray(logits, np.float64) / (controls.temperature or 1)
    left = set(range(len(scores)))
    if controls.top_k:
        least = sorted(scores, reverse=True)[min(controls.top_k, len(scores)) - 1]
        left = {token for token in left if scores[token] >= least}
    if controls.top_p < 1:
        order = sorted(left, key=lambda token: -scores[token])
        shares = softmax(scores[order])
        count = int(np.searchsorted(np.cumsum(shares), controls.top_p)) + 1
        left = set(order[:count])
    if controls.min_p:
        order = sorted(left)
        shares = softmax(scores[order])
        left = {
            token for token, share in zip(order, shares, strict=True) if share >= controls.min_p * shares.max()
        }
    return left


@pytest.mark.parametrize(
    "controls",
    [
        Controls(temperature=0.7),
        Controls(top_k=1),
        Controls(top_k=5),
        Controls(top_k=1000),
        Controls(top_p=0.3),
        Controls(top_p=0.9),
        Controls(top_p=1e-9),
        Controls(min_p=0.2),
        Controls(min_p=1.0),
        Controls(temperature=2.0, top_k=20, top_p=0.8, min_p=0.05),
        Controls(temperature=0.3, top_k=7, top_p=0.99),
    ],
    ids=str,
)
def test_what_is_left_is_what_the_definitions_leave(controls):
    logits_BV = np.random.default_rng(0).normal(0, 2, (64, 50)).astype(np.float32)
    found = np.asarray(warped(jnp.asarray(logits_BV), controls.used, controls.values))
    for row, left in zip(logits_BV, found, strict=True):
        assert set(np.flatnonzero(np.isfinite(left))) == kept_by_numpy(row, controls)
        tokens = np.flatnonzero(np.isfinite(left))
        np.testing.assert_allclose(left[tokens], row[tokens] / controls.temperature, rtol=1e-6)


def test_penalties_are_what_their_definitions_say():
    generator = np.random.default_rng(0)
    logits_BV = generator.normal(0, 2, (32, 20)).astype(np.float32)
    counts_BV, prompt_BV = generator.poisson(0.5, (2, 32, 20))
    controls = Controls(frequency_penalty=0.7, presence_penalty=-0.4, repetition_penalty=1.4)
    found = np.asarray(
        penalized(jnp.asarray(logits_BV), counts_BV, counts_BV + prompt_BV > 0, controls.used, controls.values)
    )
    for row, token in np.ndindex(logits_BV.shape):
        score, count = float(logits_BV[row, token]), counts_BV[row, token]
        if count + prompt_BV[row, token]:
            score = score / 1.4 if score > 0 else score * 1.4
        score = score - 0.7 * count - (-0.4 if count else 0)
        assert found[row, token] == pytest.approx(score, abs=1e-5)


def test_tokens_that_tie_with_the_last_of_top_k_stay():
    controls = Controls(top_k=2)
    left = warped(jnp.array([[3.0, 1.0, 2.0, 2.0, 0.0]]), controls.used, controls.values)
    assert np.isfinite(np.asarray(left)[0]).tolist() == [True, False, True, True, False]


def drawn(logits, controls, count):
    keys = jax.random.split(jax.random.key(1), count)
    logits_BV = jnp.tile(jnp.asarray(logits, jnp.float32), (count, 1))
    nothing = jnp.zeros_like(logits_BV, jnp.int32)
    return draw(logits_BV, nothing, nothing > 0, keys, controls.used, controls.values)


@pytest.mark.parametrize(
    "controls", [Controls(), Controls(temperature=0.5), Controls(temperature=3.0), Controls(top_k=3)], ids=str
)
def test_a_hundred_thousand_draws_have_the_distribution(controls):
    shares = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    found = drawn(np.log(shares), controls, 100_000)
    expected = shares ** (1 / controls.temperature)
    expected[controls.top_k or 5 :] = 0
    expected /= expected.sum()
    counts = np.bincount(np.asarray(found["token"]), minlength=5)
    assert counts[expected == 0].sum() == 0
    present = expected > 0
    assert scipy.stats.chisquare(counts[present], 100_000 * expected[present]).pvalue > 1e-4
    np.testing.assert_allclose(found["probability"], expected[found["token"]], rtol=1e-5)
    np.testing.assert_allclose(found["logprob"], np.log(shares)[found["token"]], atol=1e-5)
    assert set(np.asarray(found["kept"]).tolist()) == {int(present.sum())}
    np.testing.assert_allclose(found["removed"], shares[~present].sum(), atol=1e-6)


def test_entropy_rises_with_temperature():
    counts = [
        np.bincount(drawn([2.0, 1.0, 0.0], Controls(temperature=t), 20_000)["token"]) for t in (0.3, 1.0, 3.0)
    ]
    entropies = [scipy.stats.entropy(one) for one in counts]
    assert entropies == sorted(entropies) and entropies[2] - entropies[0] > 0.3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"temperature": -1.0}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0.0}, "top_p=0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"top_k": -1}, "top_k=-1"),
        ({"min_p": 2.0}, "min_p=2"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0"),
        ({"penalty_counts": "some"}, "penalty_counts='some'"),
    ],
)
def test_a_control_out_of_its_range_is_refused(settings, told):
    with pytest.raises(BadInput) as refused:
        Controls(**settings)
    assert str(refused.value).startswith(told) and "must" in str(refused.value)
