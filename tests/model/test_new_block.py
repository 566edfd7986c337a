"""A new architecture is one new file of model/blocks/: it is counted, planned, cut over a mesh and trained."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from core.errors import BadInput
from model.config import ModelConfig
from tests.support.dropped import HALF_WRITTEN
from tests.support.small import ROOT, cache_folder, write_corpus

pytestmark = pytest.mark.slow

# Attention and feed-forward side by side (Chowdhery et al. 2022, arXiv 2204.02311, section 2), and a branch of two
# matrices along an axis that no other file knows.
PARALLEL = '''
"""Attention, feed-forward and a narrow branch side by side, behind one normalization."""

import jax
from flax import nnx

from model.blocks.decoder import attention_parameters, feed_forward_parameters
from model.parameters import gain, matrix
from model.transformer import Attention, FeedForward, Norm


def parameters(config):
    return {
        "norm": gain(config, "width"),
        "narrow": matrix(config, "width", ("narrow", 8)),
        "wide": matrix(config, ("narrow", 8), "width"),
        **attention_parameters(config),
        **feed_forward_parameters(config),
    }


def block():
    return Parallel


class Parallel(nnx.Module):
    def __init__(self, config, params):
        self.norm = Norm(params["norm"], config.norm_epsilon)
        self.attention, self.feed_forward = Attention(config, params), FeedForward(config, params)
        self.narrow, self.wide = nnx.Param(params["narrow"]), nnx.Param(params["wide"])

    def __call__(self, x_BTD):
        normed_BTD = self.norm(x_BTD)
        narrow_BTD = jax.nn.relu(normed_BTD @ self.narrow[...]) @ self.wide[...]
        return x_BTD + self.attention(normed_BTD) + self.feed_forward(normed_BTD) + narrow_BTD
'''

COUNTED = """
import dataclasses, json
import jax, numpy as np
from model import sharding
from model.config import ModelConfig
from model.initialize import init
from model.kernels.install import with_kernels
from model.ledger import ledger
from model.transformer import Transformer
from planning.memory_form import estimate_bytes
from training.spec import RunSpec
from training.optimizers import decay_mask

def counts(config):
    return ledger(config, 32)["params"]["total"], ledger(config, 32)["flops_per_token"]["exact"]

decoder = ModelConfig(width=64, depth=3, scan=False)
parallel = dataclasses.replace(decoder, architecture="parallel")
for config in (decoder, dataclasses.replace(decoder, parametrization="mup")):
    params = init(dataclasses.replace(config, architecture="parallel"), jax.random.key(0))
tokens = np.random.default_rng(0).integers(0, 256, (4, 33)).astype(np.int32)

def loss(params):
    model = with_kernels(Transformer(parallel, params), (4, 32))
    return model.head.objective(model.hidden(tokens[:, :-1]), tokens[:, 1:], 0.0)[0]

step = jax.value_and_grad(loss)
alone = jax.jit(step)(params)
mesh = sharding.make_mesh((1, 2, 2))
with jax.set_mesh(mesh):
    places = sharding.parameter_shardings(parallel, mesh)
    cut = jax.jit(step, in_shardings=(places,), out_shardings=(None, places))(jax.device_put(params, places))
errors = jax.tree.map(lambda a, b: float(np.linalg.norm(a - b) / np.linalg.norm(a)), alone, jax.device_get(cut))
narrow = cut[1]["blocks"]["narrow"]
print(json.dumps({
    "decoder": counts(decoder),
    "parallel": counts(parallel),
    "state": [estimate_bytes(RunSpec(model=config)).state for config in (decoder, parallel)],
    "decays": {name: bool(value) for name, value in decay_mask(parallel, False)["blocks"].items()},
    "error": max(jax.tree.leaves(errors)),
    "held": narrow.addressable_shards[0].data.size / narrow.size,
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project with one file more."""
    copy = tmp_path_factory.mktemp("project") / "copy"
    for room in (
        "core",
        "experiments",
        "launchers",
        "planning",
        "training",
        "model",
        "data",
        "analysis",
        "bench",
    ):
        shutil.copytree(ROOT / room, copy / room, ignore=HALF_WRITTEN)
    shutil.copy(ROOT / "launch.py", copy)
    (copy / "model/blocks/parallel.py").write_text(PARALLEL)
    return copy


def said(copy, *command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_matrices_are_counted_decayed_and_cut(copy):
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    found = json.loads(said(copy, "-c", COUNTED, XLA_FLAGS=flags))
    # Each of 3 layers: one gain of 64 numbers less, two matrices of 64 x 8 more.
    new = 3 * 2 * 64 * 8
    assert found["parallel"][0] - found["decoder"][0] == new - 3 * 64
    assert found["parallel"][1] - found["decoder"][1] == 6 * new
    assert found["state"][1] - found["state"][0] == 12 * (new - 3 * 64)
    assert {name for name, decays in found["decays"].items() if not decays} == {
        "norm",
        "query_norm",
        "key_norm",
    }
    assert found["error"] < 1e-5
    assert found["held"] == 1 / 2  # cut along the width over fsdp, whole along the axis that is in no table


def test_it_is_planned_and_trains_on_a_cpu(copy, tmp_path):
    corpus, cache = write_corpus(tmp_path / "text"), cache_folder(tmp_path)
    arguments = [
        "quickstart",
        "--corpus",
        f"text:{corpus}",
        "--runs",
        str(tmp_path / "runs"),
        "--cache",
        str(cache),
    ]
    arguments += ["--sizes", "1", "--tokens", "32768", "--no-trunk", "--set", "data.validation_tokens=8192"]
    arguments += ["--set", "model.architecture=parallel"]
    (planned,) = json.loads(said(copy, "launch.py", "plan", *arguments, "--json"))["runs"]
    said(copy, "launch.py", "run", *arguments)
    (directory,) = (path.parent for path in (tmp_path / "runs").glob("*/*/result.json"))
    assert directory.name == planned["run"]
    assert json.loads((directory / "spec.json").read_text())["model"]["architecture"] == "parallel"
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    chosen = json.loads((directory / "env.json").read_text())["attempts"][0]["implementations"]["layout"]
    assert chosen == {"name": "token-major", "reason": "model.architecture=parallel is written token-major"}
    counted = json.loads((directory / "ledger.json").read_text())["params"]
    assert counted == planned["params_by_convention"]


def test_an_unknown_architecture_is_refused():
    with pytest.raises(BadInput, match=r"^model.architecture='paralel': must be one of .*decoder"):
        ModelConfig(architecture="paralel")
