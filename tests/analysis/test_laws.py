"""Every law recovers a truth that it made itself; both kinds of derivative agree with finite differences."""

import jax.numpy as jnp
import numpy as np
import pytest

from analysis.fit.derivatives import forward_derivatives, power_sum_derivatives
from analysis.fit.fit import fit_law, predict_law
from analysis.fit.solver import float64_on_cpu
from analysis.laws import LAWS, get_law
from analysis.laws.base import Law
from core.errors import BadInput

TRUTHS = {
    "chinchilla": (1.8, 480, 2100, 0.35, 0.37),
    "kaplan": (8.8e13, 5.4e13, 0.076, 0.095),
    "power_params": (20, 0.12),
    "power_params_floor": (1.7, 400, 0.34),
    "power_tokens": (30, 0.1),
    "power_tokens_floor": (1.5, 900, 0.3),
    "power_flops": (100, 0.08),
    "power_flops_floor": (1.6, 1500, 0.16),
    "overtrained": (1.8, 200, 360, 0.137),
    "data_constrained": (1.87, 520, 1480, 0.35, 0.36, 15.4, 5.3),
    "width_depth": (1.5, 8, 3, 300, 900, 0.6, 0.9, 0.33, 0.31),
    "bnsl1": (0.8, 40, 0.07, 0.2, 1e20, 0.3),
    "bnsl2": (0.5, 30, 0.06, 0.25, 1e19, 0.2, -0.15, 1e21, 0.2),
    "bnsl3": (0.4, 30, 0.06, 0.25, 3e18, 0.1, -0.2, 2e20, 0.1, 0.3, 6e21, 0.1),
    "error_from_loss": (0.857, 2.2, 0.71),
    "accuracy_from_bits": (-0.73, 0.77, 6.0, 0.99),
}


def inputs(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    powers = {
        "params": (7, 10), "tokens": (9, 12), "flops": (17, 23), "unique_tokens": (8, 10), "width": (2, 4),
        "depth": (0.6, 2), "tokens_per_param": (0.7, 2.7),
    }  # fmt: skip
    columns = {name: 10 ** rng.uniform(*ends, rows) for name, ends in powers.items()}
    return {**columns, "loss": rng.uniform(2, 6, rows), "bits_per_byte": rng.uniform(0.3, 2, rows)}


def truth_table(law: Law, rows: int = 120) -> dict[str, np.ndarray]:
    columns = {name: inputs(rows)[name] for name in law.inputs}
    return {**columns, law.target: predict_law(law, np.array([TRUTHS[law.name]]), columns)[0]}


def test_every_law_has_a_truth():
    assert set(TRUTHS) == set(LAWS)
    for law in LAWS.values():
        assert "20" in law.source
        assert law.text


@pytest.mark.parametrize("name", sorted(set(TRUTHS) - {"data_constrained", "bnsl2", "bnsl3"}))
def test_recovers_its_own_truth(name):
    law = get_law(name)
    fit = fit_law(law, truth_table(law), profile=False)
    np.testing.assert_allclose(list(fit.parameters.values()), TRUTHS[name], rtol=1e-8)


@pytest.mark.parametrize("name", ["data_constrained", "bnsl2", "bnsl3"])
def test_large_laws_return_to_their_truth(name):
    """From starts spread a factor around the truth, so that a test of seven to twelve parameters stays short."""
    law = get_law(name)
    rng = np.random.default_rng(0)
    centre = law.to_internal(np.array(TRUTHS[name]))
    starts = law.to_natural(centre + rng.normal(0, 0.1, (24, centre.size)))
    fit = fit_law(law, truth_table(law), robust="l2", starts=starts, profile=False)
    np.testing.assert_allclose(list(fit.parameters.values()), TRUTHS[name], rtol=1e-6)


@pytest.mark.parametrize("name", ["chinchilla", "width_depth", "overtrained"])
@pytest.mark.parametrize("space", ["log", "linear"])
def test_closed_forms_equal_automatic_derivatives(name, space):
    law = get_law(name)
    table = truth_table(law, 32)
    rng = np.random.default_rng(1)
    design = {key: values - values.mean() for key, values in law.design(table).items()}
    theta = rng.normal(0, 0.3, (4, len(law.parameters)))
    y, weights, delta = (
        rng.normal(0.5, 0.5, (4, 32)),
        rng.uniform(0.5, 2, (4, 32)),
        np.array([0.1, 1.0, 10.0, np.inf]),
    )
    with float64_on_cpu():
        arguments = (
            jnp.asarray(theta),
            {k: jnp.asarray(v) for k, v in design.items()},
            y,
            weights,
            jnp.asarray(delta),
        )
        closed = power_sum_derivatives(law, space)(*arguments)
        automatic = forward_derivatives(law, space)(*arguments)
        shifted = theta + 1e-6 * np.eye(1, theta.shape[1])
        moved = power_sum_derivatives(law, space)(jnp.asarray(shifted), *arguments[1:])
    for one, other in zip(closed, automatic, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-9, atol=1e-9)
    numeric = (np.asarray(moved[0]) - np.asarray(closed[0])) / 1e-6
    np.testing.assert_allclose(numeric, np.asarray(closed[1])[:, 0], rtol=1e-3, atol=1e-3)


def test_unknown_law_is_named():
    with pytest.raises(BadInput, match=r"chinchila.*chinchilla"):
        get_law("chinchila")
