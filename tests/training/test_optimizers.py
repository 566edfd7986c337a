"""Each shipped optimizer: its steps against float64 NumPy, what it is tuned by, and what it refuses."""

import dataclasses

import jax
import numpy as np
import pytest

from core import discover
from core.codec import with_settings
from core.errors import BadInput
from model.config import ModelConfig
from model.parameters import layout, leaves
from model.sharding import make_mesh
from tests.support.dropped import assert_trains_resumes_and_packs, train_everywhere, write_copy
from training import optimizers
from training.objectives import next_token
from training.optimizers import decay_mask, muon
from training.program import Program
from training.spec import HERE, OptimConfig, RunSpec
from training.state import hyperparameters, optimizer
from training.step import make_initialization, make_train_step

CONFIG = ModelConfig(vocabulary=32, width=16, depth=2, heads=2, kv_heads=1, tied=False, scan=False)
SETTINGS = {
    "adamw": {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6},
    "lion": {"beta1": 0.8, "momentum": 0.97},
    "muon": {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6, "momentum": 0.9},
    "schedule_free": {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-6},
    "sgd": {"momentum": 0.8},
}
NAMES = sorted(SETTINGS)
RATES = [0.002, 0.004, 0.01, 0.01, 0.01, 0.01, 0.008, 0.006, 0.004, 0.002]
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024


def optim_of(name: str, **changes: float) -> OptimConfig:
    return OptimConfig(
        name=name, **{"learning_rate": 0.01, "weight_decay": 0.3, "clip_norm": 0.5, **SETTINGS[name], **changes}
    )


def orthogonalized(matrix: np.ndarray) -> np.ndarray:
    """Five steps of Newton and Schulz on one matrix."""
    a, b, c = NEWTON_SCHULZ
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Reference:
    """One parameter in float64: what is evaluated is `x`; the gradient is taken at `point`."""

    def __init__(self, x: np.ndarray, optim: OptimConfig, decays: bool, orthogonal: bool):
        self.x, self.z, self.optim, self.decays, self.orthogonal = x, x.copy(), optim, decays, orthogonal
        self.m, self.v, self.t = np.zeros_like(x), np.zeros_like(x), 0
        self.largest = self.total = 0.0

    @property
    def point(self) -> np.ndarray:
        if self.optim.name != "schedule_free":
            return self.x
        return (1 - self.optim.beta1) * self.z + self.optim.beta1 * self.x

    def adam(self, g: np.ndarray, beta1: float) -> np.ndarray:
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = self.optim.beta2 * self.v + (1 - self.optim.beta2) * g * g
        hat_v = self.v / (1 - self.optim.beta2**self.t)
        return self.m / (1 - beta1**self.t) / (np.sqrt(hat_v) + self.optim.epsilon)

    def direction(self, g: np.ndarray) -> np.ndarray:
        name, momentum = self.optim.name, self.optim.momentum
        if name == "sgd":
            self.m = momentum * self.m + g
            return self.m
        if name == "lion":
            sign = np.sign(self.optim.beta1 * self.m + (1 - self.optim.beta1) * g)
            self.m = momentum * self.m + (1 - momentum) * g
            return sign
        if name == "schedule_free":
            return self.adam(g, 0.0)
        if name == "muon" and self.orthogonal:
            self.m = momentum * self.m + (1 - momentum) * g
            ahead = momentum * self.m / (1 - momentum ** (self.t + 1))
            hat = ahead + (1 - momentum) * g / (1 - momentum**self.t)
            scale = 0.2 * np.sqrt(max(g.shape[-2:]))
            return np.stack([scale * orthogonalized(layer) for layer in hat])
        return self.adam(g, self.optim.beta1)

    def step(self, g: np.ndarray, rate: float) -> None:
        self.t += 1
        at = self.point
        moved = rate * (self.direction(g) + (self.optim.weight_decay * at if self.decays else 0.0))
        if self.optim.name != "schedule_free":
            self.x = self.x - moved
            return
        self.z = self.z - moved
        self.largest = max(self.largest, rate)
        self.total += self.largest**2
        share = self.largest**2 / self.total
        self.x = (1 - share) * self.x + share * self.z


@pytest.fixture(scope="module")
def mesh():
    return make_mesh((1, 1, 1), jax.devices()[:1])


# AdamW's are in test_step.py too.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name == "adamw" else ()) for name in NAMES]
)
def test_ten_steps_equal_float64_numpy(mesh, name):
    optim = optim_of(name)
    gradient = jax.jit(jax.grad(lambda p, b: next_token.loss(CONFIG, p, b, {"z_loss": 0.0})[0]))
    step = make_train_step(Program(CONFIG, optimizer=name), mesh)
    generator = np.random.default_rng(0)
    with jax.set_mesh(mesh):
        state = make_initialization(CONFIG, mesh, name)[0](np.uint32(3))
        arrays, tree = jax.tree.flatten(state.params)
        decays, groups = jax.tree.leaves(decay_mask(CONFIG, False)), jax.tree.leaves(muon.groups(CONFIG))
        ours = [
            Reference(np.asarray(array, np.float64), optim, decay, group == "muon")
            for array, decay, group in zip(arrays, decays, groups, strict=True)
        ]
        for rate in RATES:
            batch = generator.integers(0, 32, (8, 17)).astype(np.int32)
            at = jax.tree.unflatten(tree, [own.point.astype(np.float32) for own in ours])
            grads = [np.asarray(g, np.float64) for g in jax.tree.leaves(gradient(at, batch))]
            scale = min(1.0, optim.clip_norm / np.sqrt(sum(float((g**2).sum()) for g in grads)))
            for own, g in zip(ours, grads, strict=True):
                own.step(g * scale, rate)
            state, _ = step(state, batch, {**hyperparameters(optim), "learning_rate": rate})
    if name == "lion":  # a gradient near 0 may have either sign: most coordinates agree, and none moves further
        apart = np.concatenate(
            [
                np.abs(np.asarray(theirs, np.float64) - own.x).ravel()
                for own, theirs in zip(ours, jax.tree.leaves(state.params), strict=True)
            ]
        )
        assert np.mean(apart < 1e-4) > 0.99 and apart.max() < 2.1 * sum(RATES)
        return
    for own, theirs in zip(ours, jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(np.asarray(theirs), own.x, rtol=2e-3, atol=3e-4)


def test_every_optimizer_of_the_folder_is_held_to_numpy():
    assert set(SETTINGS) == set(discover.names(HERE / "optimizers"))


def test_muon_takes_the_matrices_of_blocks_layer_by_layer_and_nothing_else():
    optim = OptimConfig(name="muon", weight_decay=0.0, clip_norm=0.0)
    config = dataclasses.replace(CONFIG, width=32, depth=3)
    generator = np.random.default_rng(1)
    grads = jax.tree.map(
        lambda leaf: generator.normal(size=leaf.shape).astype(np.float32),
        layout(config),
        is_leaf=lambda node: hasattr(node, "axes"),
    )
    transformation = optimizer(optim, config)
    updates, _ = transformation.update(grads, transformation.init(grads), grads)
    taken = set()
    for name, update in updates["blocks"].items():
        if not name.endswith("norm"):
            taken.add(name)
            scale = 0.2 * np.sqrt(max(update.shape[1:]))
            values = np.linalg.svd(np.asarray(update) / scale, compute_uv=False)
            # About 0.7 to 1.2 (Jordan et al. 2024); without dimension numbers they are 4 and more here.
            assert values.shape[0] == 3 and values.min() > 0.5 and values.max() < 1.25
        else:
            np.testing.assert_allclose(np.abs(update), 1, rtol=1e-3)  # the first step of Adam is a sign
    assert taken == {"query", "key", "value", "attention_output", "up", "down", "gate"}
    for name in ("embedding", "head", "final_norm"):
        np.testing.assert_allclose(np.abs(updates[name]), 1, rtol=1e-3)


def test_a_muon_step_has_the_root_mean_square_of_one_of_adamw():
    """So that AdamW's learning rate carries over (Liu et al. 2025, arXiv 2502.16982, section 2.2)."""
    for rows, columns in ((64, 64), (64, 176), (176, 64)):
        matrix = np.random.default_rng(0).normal(size=(rows, columns))
        update = 0.2 * np.sqrt(max(rows, columns)) * orthogonalized(matrix)
        assert 0.15 < np.sqrt(np.mean(update**2)) < 0.25


def test_schedule_free_evaluates_the_average_of_its_points():
    """On a line with slope 1 every step of Adam is 1, so z falls by the rate, and x is the mean of all z."""
    optim = OptimConfig(name="schedule_free", weight_decay=0.0, clip_norm=0.0, epsilon=1e-30, beta2=0.0)
    config = dataclasses.replace(CONFIG, depth=1)
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32),
        layout(config),
        is_leaf=lambda node: hasattr(node, "axes"),
    )
    hyper = {**hyperparameters(optim), "learning_rate": 0.25}
    transformation = optimizers.load("schedule_free").transformation(hyper, config, False)
    state, slope = transformation.init(params), jax.tree.map(np.ones_like, params)
    for number in range(1, 9):
        updates, state = transformation.update(slope, state, params)
        params = jax.tree.map(lambda p, u: p - 0.25 * u, params, updates)
        x, z = np.asarray(params["embedding"]), np.asarray(state.z["embedding"])
        np.testing.assert_allclose(z, -0.25 * number, rtol=1e-5)
        np.testing.assert_allclose(x, -0.25 * (number + 1) / 2, rtol=1e-5)
        y = optimizers.gradient_point(optimizers.load("schedule_free"), hyper, params, state)["embedding"]
        np.testing.assert_allclose(y, 0.1 * z + 0.9 * x, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_planner_knows_how_much_state_an_optimizer_holds(name):
    optim = OptimConfig(name=name)
    state = jax.eval_shape(optimizer(optim, CONFIG).init, shapes())
    held = sum(leaf.size for leaf in jax.tree.leaves(state))
    matrices = sum(leaf.size for leaf in leaves(layout(CONFIG)["blocks"]) if leaf.is_matrix)
    others = sum(leaf.size for leaf in leaves(layout(CONFIG))) - matrices
    moments = optim.declared["MOMENTS"]
    counted = moments * others + optim.declared.get("MOMENTS_OF_MATRICES", moments) * matrices
    assert counted <= held <= counted + 10  # counters and constants beside


def shapes() -> dict:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32),
        layout(CONFIG),
        is_leaf=lambda node: hasattr(node, "axes"),
    )


# In make test those whose state is unlike AdamW's: other moments for matrices, and a second copy of the parameters.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("muon", "schedule_free") else pytest.mark.long)
        for name in NAMES
        if name != "adamw"
    ],
)
def test_it_learns_resumes_to_the_same_bits_and_packs(copy, name):
    rate = {"lion": 0.003, "muon": 0.01, "schedule_free": 0.01, "sgd": 0.1}[name]
    numbers = train_everywhere(copy, optim={"name": name, "learning_rate": rate, "warmup_tokens": 1024})
    # The sign of a gradient near 0 follows its last bits.
    assert_trains_resumes_and_packs(numbers, relative=1e-2 if name == "lion" else 1e-3)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return write_copy(tmp_path_factory.mktemp("optimizers"), "training/optimizers/unused.py", "")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optim.momentum": "0.9"}, ["optim.momentum=0.9", "optim.name=adamw", "beta1, beta2, epsilon"]),
        ({"optim.name": "sgd", "optim.beta1": "0.8"}, ["optim.beta1=0.8", "optim.name=sgd", "reads momentum"]),
        ({"optim.name": "lion", "optim.beta2": "0.99"}, ["optim.beta2=0.99", "it reads beta1, momentum"]),
        ({"optim.name": "lion", "optim.momentum": "1"}, ["optim.momentum=1", "float32"]),
        ({"optim.name": "schedule_free", "optim.schedule": "cosine"}, ["optim.schedule=cosine", "averages"]),
        (
            {"optim.name": "schedule_free", "optim.cooldown_tokens": "4096"},
            ["optim.cooldown_tokens=4096", "must be optim.cooldown_tokens=0"],
        ),
        *(
            (
                {"optim.name": name, "model.parametrization": "mup"},
                ["model.parametrization=mup", f"optim.name={name}", "not measured"],
            )
            for name in NAMES
            if name != "adamw"
        ),
    ],
)
def test_what_an_optimizer_does_not_read_is_refused(settings, words):
    with pytest.raises(BadInput) as caught:
        with_settings(RunSpec(), settings)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_an_own_momentum_is_another_run_and_the_default_is_none():
    runs = [
        with_settings(RunSpec(), {"optim.name": "muon", **more})
        for more in ({}, {"optim.momentum": "null"}, {"optim.momentum": "0.9"})
    ]
    assert runs[0] == runs[1] and len({run.run_id for run in runs}) == 2
    assert hyperparameters(runs[0].optim)["momentum"] == 0.95


@pytest.mark.parametrize("name", NAMES)
def test_independent_decay_removes_the_same_whatever_the_peak(name):
    for rate in (1e-3, 1e-2):
        optim = optim_of(name, learning_rate=rate, weight_decay=1e-3, decay="independent")
        assert rate * hyperparameters(optim)["weight_decay"] == pytest.approx(1e-3)
