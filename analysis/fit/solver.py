"""Many small fits at once: damped Newton with exact Hessians, in lanes that are refilled as they converge.

A vmapped Newton of 60 lines with automatic derivatives reaches the same optimum to 16 digits in 4 times the seconds
(12.4 against 2.8 for 600 starts on the Epoch table, and 33 against 14 to compile): speed is what this file is for.

A job is one fit: a start, a resample, a value at which a parameter is held. A compiled program advances a fixed number
of lanes a few iterations; the host takes out the jobs that are done and puts the next ones in, so that no lane waits
for the slowest. Steps solve ((1 - d) H + d G) s = -g for the parameters that are free within their bounds, with H the
exact Hessian and G the reweighted Gauss-Newton matrix: Newton's method at damping d near zero, iteratively reweighted
least squares at one, and beyond one (d G alone) a short descent step in the scale of the problem.

Every decision is relative (to the objective, to the curvature), so neither the units of a parameter nor a constant in
front of the objective moves the result.
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from analysis.fit.derivatives import derivatives_of
from analysis.laws.base import Law

INNER_ITERATIONS = 6  # between two visits of the host
LANE_ROWS = 16384  # lanes x rows of one compiled program: the working set stays in the cache
GRADIENT_DONE = 1e-11  # cosine between residuals and Jacobian columns at which a lane has converged
EXACT = 1e-27  # mean squared residual that rounding alone leaves
ANNEALING = 4.0  # factor between two values of delta
# Compiles in 2.0 instead of 2.5 processor seconds; runs as fast and gives the same bits (Epoch table).
QUICK_TO_COMPILE = {"xla_backend_optimization_level": 1}
DAMPING_LADDER = (0.0, 1e-4, 1e-2, 0.1, 0.3, 0.6, 1.0)


@contextlib.contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Float64 arithmetic on the host's processor, for this thread and this block only."""
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield


@dataclass(frozen=True)
class Problem:
    """Fits of one law to one table. Lanes may differ in observations, weights, bounds and delta.

    Attributes:
      law, space: what is fitted, and where residuals are taken.
      features: centred columns, each of length R (see `Law.features`).
      observed: observations in `space`, shape (R,) or (J, R) for J jobs.
      weights: row weights, shape (R,) or (J, R).
      asymmetry: what an over-predicted row weighs beside an under-predicted one.
    """

    law: Law
    space: str
    features: Mapping[str, np.ndarray]
    observed: np.ndarray
    weights: np.ndarray
    asymmetry: float = 1.0


@dataclass(frozen=True)
class Box:
    """Bounds, shape (P,) or (J, P), and the Huber delta, a number or shape (J,), that jobs are solved within."""

    lower: np.ndarray
    upper: np.ndarray
    delta: float | np.ndarray

    @property
    def free(self) -> np.ndarray:
        return self.lower < self.upper


@dataclass(frozen=True)
class Solutions:
    """Where J jobs ended. `cosine` is the scale-free gradient norm over free parameters, `hessian`, `gauss` as in
    analysis/fit/derivatives.py; `converged` means that the cosine is at rounding level for the problem."""

    point: np.ndarray
    objective: np.ndarray
    cosine: np.ndarray
    hessian: np.ndarray
    gauss: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray


def solve(
    problem: Problem,
    starts: np.ndarray,
    box: Box,
    *,
    anneal: bool = True,
    max_iterations: int = 300,
) -> Solutions:
    """Minimize the Huber objective from each start, shape (J, P), within the box.

    With `anneal` a lane begins with least squares and lowers delta as it settles: far fewer iterations, and a path
    past local minima that a small delta makes. Without, it minimizes the objective as it is from the first step.
    """
    jobs, size = starts.shape
    delta = np.broadcast_to(np.asarray(box.delta, dtype=np.float64), (jobs,))
    lower, upper = (np.broadcast_to(bound, (jobs, size)) for bound in (box.lower, box.upper))
    queue = _Queue(problem, starts, lower, upper, delta, anneal, max_iterations)
    queue.work()
    out = queue.out
    total = np.sum(problem.weights, axis=-1)
    return Solutions(converged=(out["cosine"] <= 1e-6) | (out["objective"] <= EXACT * total), **out)


class _Queue:
    """Jobs that wait for a lane.

    One thread works on it: compiled programs that several threads start at once share one pool of XLA's threads, and
    two threads stalled at times on a machine of two cores (the cause was not found).
    """

    def __init__(self, problem, starts, lower, upper, delta, anneal, max_iterations):
        self.problem, self.starts, self.anneal = problem, starts, anneal
        self.lower, self.upper, self.delta, self.max_iterations = lower, upper, delta, max_iterations
        self.jobs, self.size = starts.shape
        self.rows = next(iter(problem.features.values())).shape[0]
        self.padded = bucket(self.rows)
        self.lanes = int(np.clip(LANE_ROWS // self.padded, 4, 256))
        self.waiting = 0
        jobs, size = self.jobs, self.size
        self.out = {
            "point": np.zeros((jobs, size)), "objective": np.full(jobs, np.inf), "cosine": np.ones(jobs),
            "hessian": np.zeros((jobs, size, size)), "gauss": np.zeros((jobs, size, size)),
            "iterations": np.zeros(jobs, dtype=int),
        }  # fmt: skip

    def take(self, most: int) -> np.ndarray:
        """The numbers of up to `most` jobs, taken off the queue."""
        taken = np.arange(self.waiting, min(self.waiting + most, self.jobs))
        self.waiting += taken.size
        return taken

    def work(self) -> None:
        """Fill lanes from the queue, advance them, take out what is done, until none is left."""
        size, rows, padded, lanes, problem = self.size, self.rows, self.padded, self.lanes, self.problem
        features = {
            key: np.pad(values, (0, padded - rows), mode="edge") for key, values in problem.features.items()
        }
        state = _empty_state(lanes, size)
        observed_LR, w_LR = np.zeros((lanes, padded)), np.zeros((lanes, padded))
        lower, upper, delta = np.zeros((lanes, size)), np.zeros((lanes, size)), np.ones(lanes)
        owner = np.full(lanes, -1)
        with float64_on_cpu():
            advance = _advance(problem.law, problem.space, problem.asymmetry)
            device_features = {key: jnp.asarray(values) for key, values in features.items()}
            while True:
                finished = np.flatnonzero(state["done"] & (owner >= 0))
                for name in self.out:
                    self.out[name][owner[finished]] = state[name][finished]
                owner[finished] = -1
                empty = np.flatnonzero(owner < 0)
                new = self.take(empty.size)
                empty = empty[: new.size]
                if new.size:
                    owner[empty] = new
                    observed_LR[empty, :rows] = _of_jobs(problem.observed, new)
                    w_LR[empty, :rows] = _of_jobs(problem.weights, new)
                    lower[empty], upper[empty], delta[empty] = self.lower[new], self.upper[new], self.delta[new]
                    state["point"][empty] = np.clip(self.starts[new], lower[empty], upper[empty])
                    state["objective"][empty] = np.inf
                    state["delta"][empty] = np.inf if self.anneal else delta[empty]
                    state["damping"][empty] = 1e-2
                    state["iterations"][empty] = 0
                    state["done"][empty] = False
                if np.all(owner < 0):
                    return
                arguments = (
                    device_features,
                    observed_LR,
                    w_LR,
                    lower,
                    upper,
                    delta,
                    np.int64(self.max_iterations),
                )
                state = {key: np.array(value) for key, value in advance(state, *arguments).items()}


def _of_jobs(values: np.ndarray, jobs: np.ndarray) -> np.ndarray:
    """The rows of these jobs where each has its own, or those that all share."""
    return values if values.ndim == 1 else values[jobs]


def bucket(rows: int) -> int:
    """Rows of the compiled program: a power of two up to 1,024, then multiples of an eighth of one; few shapes."""
    if rows <= 1024:
        return max(16, 1 << (rows - 1).bit_length())
    step = 1 << ((rows - 1).bit_length() - 4)
    return -(-rows // step) * step


def _empty_state(lanes: int, size: int) -> dict[str, np.ndarray]:
    return {
        "point": np.zeros((lanes, size)),
        "objective": np.full(lanes, np.inf),
        "gradient": np.zeros((lanes, size)),
        "hessian": np.tile(np.eye(size), (lanes, 1, 1)),
        "gauss": np.tile(np.eye(size), (lanes, 1, 1)),
        "cosine": np.ones(lanes),
        "delta": np.ones(lanes),
        "damping": np.ones(lanes),
        "iterations": np.zeros(lanes, dtype=np.int64),
        "done": np.ones(lanes, dtype=bool),
    }


@functools.lru_cache(maxsize=64)
def _advance(law: Law, space: str, asymmetry: float = 1.0):
    """The compiled program that moves a full set of lanes by up to INNER_ITERATIONS iterations."""
    derivatives = derivatives_of(law, space, asymmetry)

    def iterate(state, features, observed_LR, w_LR, lower, upper, delta, max_iterations):
        fresh = jnp.isinf(state["objective"])
        step, damping, solvable = _step(state, lower, upper)
        step = jnp.where(fresh[:, None] | ~solvable[:, None], 0.0, step)
        quadratic = jnp.einsum("lp,lpq,lq->l", step, state["hessian"], step)
        predicted = -(jnp.sum(state["gradient"] * step, axis=1) + quadratic / 2)
        trial = jnp.clip(state["point"] + step, lower, upper)
        objective, gradient, hessian, gauss, scale = derivatives(
            trial, features, observed_LR, w_LR, state["delta"]
        )
        finite = jnp.isfinite(objective) & jnp.all(jnp.isfinite(hessian), axis=(1, 2))
        cosine = _cosine(trial, gradient, scale, lower, upper)
        lower_objective = objective < state["objective"]
        at_rounding = (objective <= state["objective"] * (1 + 1e-13)) & (cosine < state["cosine"])
        accept = finite & (fresh | (solvable & (lower_objective | at_rounding)))
        ratio = (state["objective"] - objective) / jnp.where(predicted > 0, predicted, 1.0)
        gentler = jnp.where(ratio > 0.75, damping / 10, jnp.where(ratio < 0.25, damping * 4, damping))
        new_damping = jnp.where(accept, jnp.maximum(gentler, 1e-12), jnp.maximum(damping * 8, 1e-3))
        new_damping = jnp.where(fresh, state["damping"], new_damping)
        keep = lambda new, old: jnp.where(accept.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)  # noqa: E731
        moved = {
            "point": keep(trial, state["point"]),
            "objective": keep(objective, state["objective"]),
            "gradient": keep(gradient, state["gradient"]),
            "hessian": keep(hessian, state["hessian"]),
            "gauss": keep(gauss, state["gauss"]),
            "cosine": keep(cosine, state["cosine"]),
            "damping": new_damping,
            "iterations": state["iterations"] + 1,
        }
        # annealing: once a lane nears the optimum of its present delta, it goes on at a smaller one
        slow = accept & ~fresh & ((cosine < 0.1) | (objective > 0.9 * state["objective"]))
        spread = jnp.sqrt(2 * objective / jnp.sum(w_LR, axis=1))
        smaller = jnp.where(jnp.isinf(state["delta"]), spread / 2, state["delta"] / ANNEALING)
        cool = (slow | ~accept & (new_damping > 1e3)) & (state["delta"] > delta)
        moved["delta"] = jnp.where(cool, jnp.maximum(delta, smaller), state["delta"])
        moved["objective"] = jnp.where(cool, jnp.inf, moved["objective"])
        moved["damping"] = jnp.where(cool, jnp.minimum(new_damping, 1e-2), new_damping)
        noise = ~accept & ~fresh & (predicted <= 1e-15 * state["objective"])
        done = ~cool & (
            (accept & (cosine <= GRADIENT_DONE))
            | noise
            | (accept & (objective <= EXACT * jnp.sum(w_LR, axis=1)))
            | (fresh & ~finite)
            | (new_damping > 1e15)
        ) | (moved["iterations"] >= max_iterations)
        frozen = lambda new, old: jnp.where(  # noqa: E731
            state["done"].reshape((-1,) + (1,) * (new.ndim - 1)), old, new
        )
        result = {key: frozen(moved[key], state[key]) for key in moved}
        result["done"] = state["done"] | done
        return result

    def advance(state, features, observed_LR, w_LR, lower, upper, delta, max_iterations):
        def go_on(carry):
            count, state = carry
            return (count < INNER_ITERATIONS) & ~jnp.all(state["done"])

        def body(carry):
            count, state = carry
            return count + 1, iterate(state, features, observed_LR, w_LR, lower, upper, delta, max_iterations)

        return jax.lax.while_loop(go_on, body, (0, state))[1]

    return jax.jit(advance, compiler_options=QUICK_TO_COMPILE)


def _cosine(point, gradient, scale, lower, upper):
    """The largest cosine between the rows' slopes and a Jacobian column, over parameters free to move."""
    held = _held(point, gradient, lower, upper)
    return jnp.max(jnp.where(held, 0.0, jnp.abs(gradient) / jnp.maximum(scale, 1e-300)), axis=1)


def _held(point, gradient, lower, upper):
    """Parameters at a bound that the gradient presses them against, and pinned ones."""
    return ((point <= lower) & (gradient >= 0)) | ((point >= upper) & (gradient <= 0)) | (lower >= upper)


def _step(state, lower, upper):
    """The damped Newton step within the box: solved once, then again with what would leave the box put on its wall."""
    point, gradient, hessian, gauss = (state[key] for key in ("point", "gradient", "hessian", "gauss"))
    size = point.shape[1]
    diagonal = jnp.diagonal(gauss, axis1=1, axis2=2)
    metric = (
        gauss + jnp.eye(size) * (diagonal / 20 + 1e-14 * jnp.max(diagonal, axis=1, keepdims=True))[:, None, :]
    )
    ladder = jnp.maximum(state["damping"][:, None], jnp.array(DAMPING_LADDER))
    newton = (1.0 - jnp.minimum(ladder, 1.0))[:, :, None, None]
    matrix_LKPP = newton * hessian[:, None] + ladder[:, :, None, None] * metric[:, None]
    held = _held(point, gradient, lower, upper)
    step_LKP, definite_LK = _solve_definite(
        matrix_LKPP, -gradient[:, None], held[:, None], jnp.zeros_like(point)[:, None]
    )
    rung = jnp.argmax(definite_LK, axis=1)
    take = lambda values: jnp.take_along_axis(  # noqa: E731
        values, rung.reshape((-1, 1) + (1,) * (values.ndim - 2)), axis=1
    )[:, 0]
    step, damping, matrix = take(step_LKP), take(ladder), take(matrix_LKPP)
    wall = jnp.clip(point + step, lower, upper) - point
    outside = (point + step < lower) | (point + step > upper)
    displaced = jnp.where(outside, wall, 0.0)
    second, _ = _solve_definite(matrix, -gradient, held | outside, displaced)
    step = jnp.where(jnp.any(outside, axis=1, keepdims=True), second, step)
    return jnp.clip(point + step, lower, upper) - point, damping, jnp.any(definite_LK, axis=1)


def _solve_definite(matrix, right, held, displaced):
    """Solve matrix s = right by elimination over leading axes, with s = displaced where held.

    Returns the solution and whether the free block is positive definite (no pivot at rounding level).
    """
    size = right.shape[-1]
    right = right - jnp.einsum("...pq,...q->...p", matrix, jnp.where(held, displaced, 0.0))
    free = ~held
    block = jnp.where(free[..., :, None] & free[..., None, :], matrix, jnp.eye(size))
    right = jnp.where(free, right, displaced)
    diagonal = jnp.abs(jnp.diagonal(block, axis1=-2, axis2=-1))
    definite = jnp.ones(jnp.broadcast_shapes(right.shape[:-1], matrix.shape[:-2]), dtype=bool)
    augmented = jnp.concatenate([block, jnp.broadcast_to(right, block.shape[:-1])[..., None]], axis=-1)
    for column in range(size):
        pivot = augmented[..., column, column]
        good = pivot > 1e-13 * diagonal[..., column]
        definite = definite & good
        factor = augmented[..., :, column] / jnp.where(good, pivot, 1.0)[..., None]
        # eliminate in every other row (Gauss-Jordan): no back-substitution is left to do
        factor = factor * (np.arange(size) != column)
        augmented = augmented - factor[..., :, None] * augmented[..., column, None, :]
    pivots = jnp.diagonal(augmented[..., :size], axis1=-2, axis2=-1)
    return augmented[..., size] / jnp.where(pivots == 0, 1.0, pivots), definite
