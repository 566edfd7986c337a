"""Training under maximal update: against a float64 AdamW with the published multipliers, against the other form of the
same parametrization, over a mesh, and through trunk, branch, microbatches and restart."""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from core.codec import to_json
from core.files import read_json_lines, write_json
from data.config import DataConfig
from model.config import ModelConfig
from model.initialize import init
from model.sharding import make_mesh
from tests.support.small import ROOT, cache_folder, write_corpus
from training.objectives import next_token
from training.program import Program
from training.spec import OptimConfig, RunSpec
from training.state import hyperparameters
from training.step import make_initialization, make_train_step

pytestmark = pytest.mark.slow

# Twice the base in width, depth and head width.
CONFIG = ModelConfig(
    vocabulary=32, width=32, depth=2, heads=2, kv_heads=2, activation="gelu", tied=False, scan=False,
    parametrization="mup", base_width=16, base_depth=1, base_head_width=8,
)  # fmt: skip
HALF = 1 / 2**0.5
# Without LLVM's optimizations: the same operations, compiled in a third of the time.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
STEPS = {"embedding": 1.0, "head": 1.0, "final_norm": 1.0, "matrix": 0.5 * HALF, "gain": HALF}
EPSILONS = {"embedding": 0.5, "head": 0.5, "final_norm": 0.5, "matrix": 0.5 * HALF, "gain": 0.5 * HALF}


def group(path) -> str:
    """The row of the tables for a leaf."""
    name = path[-1].key
    if len(path) == 1:
        return name
    return "gain" if name.endswith("_norm") else "matrix"


def by_group(params, numbers):
    return jax.tree_util.tree_map_with_path(lambda path, _: numbers[group(path)], params)


def batches(count: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 32, (8, 17)).astype(np.int32) for _ in range(count)]


def run_steps(config, optim, count, shape=(1, 1, 1)):
    """Parameters at the start and after `count` steps, and the losses."""
    mesh = make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    initialize, _ = make_initialization(config, mesh)
    step = make_train_step(Program(config, decay_all=optim.decay_all), mesh)
    hyper = {**hyperparameters(optim), "learning_rate": optim.learning_rate}
    losses = []
    with jax.set_mesh(mesh):
        state = initialize(np.uint32(3))
        first = jax.tree.map(np.asarray, state.params)
        for batch in batches(count):
            state, metrics = step(state, batch, hyper)
            losses.append(float(metrics["loss"]))
    return first, jax.tree.map(np.asarray, state.params), losses


def test_steps_equal_a_float64_adamw_with_the_published_multipliers():
    # Epsilon is of the gradients' own size and decay is strong, so that a lost multiplier of either shows.
    optim = OptimConfig(learning_rate=1e-2, epsilon=1e-3, weight_decay=0.02, decay="independent", clip_norm=0.0)
    first, last, _ = run_steps(CONFIG, optim, 4)
    gradient = quick_jit(jax.grad(lambda p, b: next_token.loss(CONFIG, p, b, {"z_loss": 0.0})[0]))
    paths, tree = jax.tree_util.tree_flatten_with_path(first)
    groups = [group(path) for path, _ in paths]
    params = [np.asarray(leaf, np.float64) for _, leaf in paths]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in params]
    for number, batch in enumerate(batches(4), start=1):
        grads = gradient(jax.tree.unflatten(tree, [p.astype(np.float32) for p in params]), batch)
        for index, (g, name) in enumerate(zip(jax.tree.leaves(grads), groups, strict=True)):
            g = np.asarray(g, np.float64)
            m, v = moments[index]
            m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
            moments[index] = m, v
            hat = (m / (1 - 0.9**number)) / (np.sqrt(v / (1 - 0.95**number)) + 1e-3 * EPSILONS[name])
            kept = 1 - (0.02 if name in ("matrix", "head") else 0.0)  # the peak does not enter
            params[index] = kept * params[index] - 1e-2 * STEPS[name] * hat
    for name, mine, theirs in zip(groups, params, jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-3, atol=2e-5, err_msg=name)


def test_training_equals_the_papers_first_form_of_the_same_parametrization():
    # Table 3 of Yang et al. has no multiplier in the network: the head starts at 1 / n of table 8's and learns at
    # 1 / n. The two are related by a symmetry under Adam: theta = a w, rate of theta = a times the rate of w.
    optim = OptimConfig(learning_rate=1e-2, epsilon=1e-30, weight_decay=0.0, clip_norm=0.0)
    first, _, losses = run_steps(CONFIG, optim, 6)
    base = {"base_width": 64, "base_depth": 2, "base_head_width": 16}
    standard = dataclasses.replace(CONFIG, parametrization="standard", **base)
    folded = {
        "attention_output": HALF,
        "down": HALF,
        "query_norm": HALF,
    }  # the branch; the scores, sqrt(8 / 16)
    blocks = {name: value * folded.get(name, 1.0) for name, value in first["blocks"].items()}
    params = {**first, "blocks": blocks, "head": first["head"] * 0.5}
    rates = {**by_group(params, {**STEPS, "head": 0.5})}
    rates["blocks"] = {name: rate * folded.get(name, 1.0) for name, rate in rates["blocks"].items()}
    adam = optax.scale_by_adam(b1=0.9, b2=0.95, eps=1e-30)
    moments = adam.init(params)
    both = quick_jit(jax.value_and_grad(lambda p, b: next_token.loss(standard, p, b, {"z_loss": 0.0})[0]))
    theirs = []
    for batch in batches(6):
        loss, grads = both(params, batch)
        theirs.append(float(loss))
        updates, moments = adam.update(grads, moments, params)
        params = jax.tree.map(lambda p, u, rate: p - 1e-2 * rate * u, params, updates, rates)
    assert losses == pytest.approx(theirs, rel=2e-4)
    assert losses[-1] < losses[0] - 0.01


def test_four_devices_train_the_curve_of_one():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.test_mup"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, four = json.loads(done.stdout.splitlines()[-1])
    assert len(one) == 5
    assert four == pytest.approx(one, rel=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trunk, its branch and the same run from scratch, each with microbatches, under mup."""
    folder = tmp_path_factory.mktemp("mup")
    corpus = write_corpus(folder / "corpus", documents=120)
    model = dataclasses.replace(CONFIG, vocabulary=256, tied=True)
    scratch = RunSpec(
        model=model,
        data=DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=2048),
        optim=OptimConfig(
            learning_rate=1e-2, weight_decay=1e-3, decay="independent", warmup_tokens=512, cooldown_tokens=1024,
            microbatch_tokens=256,
        ),
        tokens=4096,
        batch_tokens=512,
    )  # fmt: skip
    constant = dataclasses.replace(scratch.optim, schedule="constant", cooldown_tokens=0)
    trunk = dataclasses.replace(scratch, tokens=3072, optim=constant, checkpoint_marks=(3072,))
    branch = dataclasses.replace(scratch, parent=trunk.run_id, branch_at_tokens=3072)
    cache = cache_folder(folder)
    for spec in (trunk, branch, scratch):
        write_json(folder / spec.run_id / "spec.json", to_json(spec))
        command = [
            sys.executable,
            "-m",
            "training.run",
            str(folder / spec.run_id),
            "--cache",
            str(cache),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder, branch, scratch


def test_a_branch_equals_a_run_from_scratch_to_the_last_bit(trained):
    folder, branch, scratch = trained
    rows = {
        spec.run_id: {
            row["tokens"]: row["loss"] for row in read_json_lines(folder / spec.run_id / "metrics.jsonl")
        }
        for spec in (branch, scratch)
    }
    shared = rows[branch.run_id].keys() & rows[scratch.run_id].keys()
    assert shared == {3584, 4096}
    assert all(rows[branch.run_id][mark] == rows[scratch.run_id][mark] for mark in shared)
    evals = [
        json.loads((folder / spec.run_id / "result.json").read_text())["evals"] for spec in (branch, scratch)
    ]
    assert evals[0] == evals[1]


def test_the_ledger_does_not_see_the_parametrization(trained):
    folder, branch, _ = trained
    counted = json.loads((folder / branch.run_id / "ledger.json").read_text())["params"]["total"]
    tree = jax.eval_shape(lambda: init(branch.model, jax.random.key(0)))
    assert counted == sum(leaf.size for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    print(json.dumps([run_steps(CONFIG, OptimConfig(), 5, shape)[2] for shape in ((1, 1, 1), (1, 2, 2))]))
