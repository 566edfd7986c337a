"""Objective, gradient and Hessian of many fits at once, on one table.

Every function here takes a batch of lanes, one lane a fit: point_LP (centred or internal parameters, as the features
are), observed_LR, row weights w_LR, delta_L. It gives the Huber objective F_L, its gradient g_LP, its exact
(generalized) Hessian H_LPP, the Gauss-Newton matrix G_LPP of iteratively reweighted least squares, which majorizes the
data part of H, and the scale S_LP that |g| cannot exceed: the norm of the rows' slopes times that of each Jacobian
column. Axes: L lanes, R rows, P parameters, K terms, C columns and a constant, M monomials, Q pairs of terms.

The derivatives of a sum of powers have a closed form in matrix products, 2.6 times faster than automatic ones: the
exponent of term k is linear in the parameters, and with shares s_k = term_k / sum the gradient of log sum is the
sum of s_k times that exponent's gradient. Any other law is differentiated automatically, rows before lanes so that the
sums over rows run as vector instructions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from analysis.laws.base import Law

Derivatives = Callable[..., tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]]


def huber_rows(
    residual: jax.Array, weight: jax.Array, delta: jax.Array, asymmetry: float = 1.0
) -> tuple[jax.Array, ...]:
    """Per row: the weighted Huber value, its first derivative, its second, and the reweighting factor.

    Residuals are predicted less observed here; a positive one weighs `asymmetry` times.
    """
    if asymmetry != 1.0:
        weight = weight * jnp.where(residual > 0, asymmetry, 1.0)
    size = jnp.abs(residual)
    inner = jnp.minimum(size, delta)
    value = weight * inner * (size - inner / 2)
    slope = weight * jnp.clip(residual, -delta, delta)
    curvature = jnp.where(size <= delta, weight, 0.0)
    # delta / max(|r|, delta) without inf / inf where delta is infinite (least squares)
    reweight = weight * jnp.where(size <= delta, 1.0, delta / jnp.where(size <= delta, 1.0, size))
    return value, slope, curvature, reweight


def derivatives_of(law: Law, space: str, asymmetry: float = 1.0) -> Derivatives:
    """The fastest exact derivatives that the law allows, for residuals in `space`."""
    return (power_sum_derivatives if law.terms else forward_derivatives)(law, space, asymmetry)


def forward_derivatives(law: Law, space: str, asymmetry: float = 1.0) -> Derivatives:
    """Derivatives by differentiating the law's formula: forward for slopes, forward over reverse for curvature."""
    size = len(law.parameters)

    def evaluate(point_LP, features, observed_LR, w_LR, delta_L):
        rows = {key: values[:, None] for key, values in features.items()}
        point = tuple(point_LP.T)
        ones = jnp.ones_like(point[0])

        def model(*point):
            value = law.evaluate(point, rows)
            return jnp.exp(value) if law.logarithmic and space == "linear" else value

        def direction(position):
            return tuple(ones if other == position else 0.0 * ones for other in range(size))

        def slope_along(position):
            return lambda *point: jax.jvp(model, point, direction(position))[1]

        value_RL, slope_RL, curvature_RL, reweight_RL = huber_rows(
            model(*point) - observed_LR.T, w_LR.T, delta_L, asymmetry
        )
        jacobian = [slope_along(position)(*point) for position in range(size)]
        gradient = [jnp.sum(slope_RL * column, axis=0) for column in jacobian]
        hessian = [[gradient[0]] * size for _ in range(size)]
        gauss = [[gradient[0]] * size for _ in range(size)]

        # curvature of the model itself: forward over reverse, on a sum in which lanes do not meet
        def pulled(*point):
            return jnp.sum(slope_RL * model(*point))

        gradient_of = jax.grad(pulled, argnums=tuple(range(size)))
        curved = [jax.jvp(gradient_of, point, direction(position))[1] for position in range(size)]
        for i in range(size):
            for j in range(i, size):
                product = jacobian[i] * jacobian[j]
                hessian[i][j] = hessian[j][i] = curved[j][i] + jnp.sum(curvature_RL * product, axis=0)
                gauss[i][j] = gauss[j][i] = jnp.sum(reweight_RL * product, axis=0)
        matrix = lambda entries: jnp.stack([jnp.stack(row, axis=-1) for row in entries], axis=-2)  # noqa: E731
        # slopes carry their weight once: with w in both factors the product would carry it twice
        slopes = jnp.sum(slope_RL**2 / jnp.where(w_LR.T > 0, w_LR.T, 1.0), axis=0)
        squares = [jnp.sum(w_LR.T * column**2, axis=0) for column in jacobian]
        scale = jnp.sqrt(slopes[:, None] * jnp.stack(squares, axis=-1))
        return (
            jnp.sum(value_RL, axis=0), jnp.stack(gradient, axis=-1), matrix(hessian), matrix(gauss), scale
        )  # fmt: skip

    return evaluate


def power_sum_derivatives(law: Law, space: str, asymmetry: float = 1.0) -> Derivatives:
    """Closed-form derivatives of a sum of powers: a few matrix products between rows and monomials of the logs."""
    size, count = len(law.parameters), len(law.terms)
    columns = tuple(dict.fromkeys(column for term in law.terms for column, _, _ in term.powers))
    # derivative of the exponent of term k by each parameter, as a multiple of column c (of 1 for the constant, c = 0)
    linear_KCP = np.zeros((count, 1 + len(columns), size))
    for k, term in enumerate(law.terms):
        linear_KCP[k, 0, law.index(term.coefficient)] = 1.0
        for column, exponent_name, factor in term.powers:
            linear_KCP[k, 1 + columns.index(column), law.index(exponent_name)] += factor
    pairs = [(k, m) for k in range(count) for m in range(k, count)]
    # outer[k, m] maps sums of monomials x_c x_d to the P x P block of the pair, both orders of an unequal pair
    outer_QMPP = np.array(
        [
            _outer(linear_KCP[k], linear_KCP[m])
            if k == m
            else _outer(linear_KCP[k], linear_KCP[m]) + _outer(linear_KCP[m], linear_KCP[k])
            for k, m in pairs
        ]
    )
    diagonal_KMPP = np.array([_outer(linear, linear) for linear in linear_KCP])
    # pairs of terms that enter one Jacobian column together, and their share of its squares
    diagonals_QMP = np.einsum("qmpp->qmp", outer_QMPP)
    used = [q for q in range(len(pairs)) if np.any(diagonals_QMP[q])]
    column_pairs, column_QMP = [pairs[q] for q in used], diagonals_QMP[used]
    one_and_columns = 1 + len(columns)

    def evaluate(point_LP, features, observed_LR, w_LR, delta_L):
        x_CR = jnp.stack([jnp.ones(observed_LR.shape[1]), *(features[f"log_{column}"] for column in columns)])
        x_MR = (x_CR[:, None] * x_CR[None, :]).reshape(one_and_columns**2, -1)
        exponent_KLC = jnp.einsum("kcp,lp->klc", linear_KCP, point_LP)
        terms = []
        for k in range(count):
            total = exponent_KLC[k, :, 0, None]
            for c in range(1, one_and_columns):
                if np.any(linear_KCP[k, c]):
                    total = total + exponent_KLC[k, :, c, None] * x_CR[c]
            terms.append(jnp.exp(total))
        value_LR = sum(terms[1:], terms[0])
        shares = [term / value_LR for term in terms]
        model_LR = jnp.log(value_LR) if space == "log" else value_LR
        rows = huber_rows(model_LR - observed_LR, w_LR, delta_L[:, None], asymmetry)
        loss_LR, slope_LR, curvature_LR, reweight_LR = rows
        if space == "log":
            first_LR, data_LR = slope_LR, curvature_LR - slope_LR
        else:
            first_LR, data_LR = slope_LR * value_LR, curvature_LR * value_LR**2
            reweight_LR = reweight_LR * value_LR**2
        firsts = [first_LR * share for share in shares]
        weighted = [data_LR * share for share in shares], [reweight_LR * share for share in shares]
        # squares of a Jacobian column: the column of one term, or of several that share an exponent
        plain_LR = w_LR if space == "log" else w_LR * value_LR**2
        plain = [plain_LR * share for share in shares]
        stacked = [
            *firsts,
            *(weights[k] * shares[m] for weights in weighted for k, m in pairs),
            *(plain[k] * shares[m] for k, m in column_pairs),
        ]
        sums_QLM = jnp.stack(stacked) @ x_MR.T
        first_KLM, data_QLM, gauss_QLM, plain_QLM = jnp.split(
            sums_QLM, [count, count + len(pairs), count + 2 * len(pairs)]
        )
        gradient = jnp.einsum("klc,kcp->lp", first_KLM[:, :, :one_and_columns], linear_KCP)
        hessian = jnp.einsum("klm,kmpq->lpq", first_KLM, diagonal_KMPP)
        hessian = hessian + jnp.einsum("qlm,qmij->lij", data_QLM, outer_QMPP)
        gauss = jnp.einsum("qlm,qmij->lij", gauss_QLM, outer_QMPP)
        slopes = jnp.sum(slope_LR**2 / jnp.where(w_LR > 0, w_LR, 1.0), axis=1)
        scale = jnp.sqrt(slopes[:, None] * jnp.einsum("qlm,qmp->lp", plain_QLM, column_QMP))
        return jnp.sum(loss_LR, axis=1), gradient, hessian, gauss, scale

    return evaluate


def _outer(left_CP: np.ndarray, right_CP: np.ndarray) -> np.ndarray:
    """Coefficients of monomials x_c x_d in (left' x)(right' x)^T, shape (C * C, P, P)."""
    size = left_CP.shape[1]
    return np.einsum("cp,dq->cdpq", left_CP, right_CP).reshape(-1, size, size)
