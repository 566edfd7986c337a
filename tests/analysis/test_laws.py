"""Every law recovers a truth that it made itself; both kinds of derivative agree with finite differences."""

import jax.numpy as jnp
import numpy as np
import pytest

from analysis.fit.derivatives import forward_derivatives, power_sum_derivatives
from analysis.fit.fit import fit_law
from analysis.fit.prediction import predict_law
from analysis.fit.solver import float64_on_cpu
from analysis.laws import LAWS, get_law
from analysis.laws.base import Law
from core.errors import BadInput

pytestmark = pytest.mark.slow

LARGE = 6  # a law with more parameters, and no closed form, is started near its truth


def planted(law: Law) -> np.ndarray:
    return np.array([law.planted[name] for name in law.names])


def inputs(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    powers = {
        "params": (7, 10), "tokens": (9, 12), "flops": (17, 23), "unique_tokens": (8, 10), "width": (2, 4),
        "depth": (0.6, 2), "tokens_per_param": (0.7, 2.7),
    }  # fmt: skip
    columns = {name: 10 ** rng.uniform(*ends, rows) for name, ends in powers.items()}
    columns |= {"loss": rng.uniform(2, 6, rows), "bits_per_byte": rng.uniform(0.3, 2, rows)}
    columns |= {"source_loss": rng.uniform(1.5, 5, rows), "lr_fallen": rng.uniform(0, 0.4, rows)}
    more = {
        "batch": (5, 6.5),
        "experts": (0, 2.7),
        "active_params": (7, 9),
        "total_params": (9, 10.5),
        "lr_sum": (-2, 1),
    }
    return columns | {name: 10 ** rng.uniform(*ends, rows) for name, ends in more.items()}


def truth_table(law: Law, rows: int = 120) -> dict[str, np.ndarray]:
    known, rng = inputs(rows), np.random.default_rng(1)
    columns = {name: known[name] if name in known else 10 ** rng.uniform(0, 3, rows) for name in law.inputs}
    return {**columns, law.target: predict_law(law, planted(law), columns)[0]}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_law_has_a_source_a_formula_and_a_truth(law):
    assert "20" in law.source
    assert law.text
    assert set(law.planted) == set(law.names)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_recovers_its_own_truth(law):
    """From its own starts; a large law from a factor around the truth, so that its test stays short."""
    if law.terms or len(law.names) <= LARGE:
        fit = fit_law(law, truth_table(law), profile=False)
        np.testing.assert_allclose(list(fit.parameters.values()), planted(law), rtol=1e-8)
        return
    centre = law.to_internal(planted(law))
    starts = law.to_natural(centre + np.random.default_rng(0).normal(0, 0.1, (24, centre.size)))
    fit = fit_law(law, truth_table(law), robust="l2", starts=starts, profile=False)
    np.testing.assert_allclose(list(fit.parameters.values()), planted(law), rtol=1e-6)


@pytest.mark.parametrize("name", ["chinchilla", "width_depth", "overtrained"])
@pytest.mark.parametrize("space", ["log", "linear"])
def test_closed_forms_equal_automatic_derivatives(name, space):
    law = get_law(name)
    table = truth_table(law, 32)
    rng = np.random.default_rng(1)
    features = {key: values - values.mean() for key, values in law.features(table).items()}
    point = rng.normal(0, 0.3, (4, len(law.parameters)))
    y, weights, delta = (
        rng.normal(0.5, 0.5, (4, 32)),
        rng.uniform(0.5, 2, (4, 32)),
        np.array([0.1, 1.0, 10.0, np.inf]),
    )
    with float64_on_cpu():
        arguments = (
            jnp.asarray(point),
            {k: jnp.asarray(v) for k, v in features.items()},
            y,
            weights,
            jnp.asarray(delta),
        )
        closed = power_sum_derivatives(law, space)(*arguments)
        automatic = forward_derivatives(law, space)(*arguments)
        shifted = point + 1e-6 * np.eye(1, point.shape[1])
        moved = power_sum_derivatives(law, space)(jnp.asarray(shifted), *arguments[1:])
    for one, other in zip(closed, automatic, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-9, atol=1e-9)
    numeric = (np.asarray(moved[0]) - np.asarray(closed[0])) / 1e-6
    np.testing.assert_allclose(numeric, np.asarray(closed[1])[:, 0], rtol=1e-3, atol=1e-3)


def test_unknown_law_is_named():
    with pytest.raises(BadInput, match=r"chinchila.*chinchilla"):
        get_law("chinchila")
