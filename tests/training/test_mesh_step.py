"""The compiled train step on meshes of eight fake devices: the same curve, an eighth of the bytes, no whole tree."""

import json
import math
import subprocess
import sys

import pytest

from model.config import ModelConfig
from model.parameters import Leaf, layout
from tests.support import mesh_program
from tests.support.processes import environment
from tests.support.small import ROOT

pytestmark = pytest.mark.slow

MESHES = ["8x1x1", "1x8x1", "1x1x8", "2x2x2"]


@pytest.fixture(scope="module")
def finished():
    return subprocess.run(
        [sys.executable, "-m", "tests.support.mesh_program"],
        cwd=ROOT,
        env=environment(8),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(finished):
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def leaf_bytes(config: ModelConfig) -> dict[str, int]:
    """Bytes of one layer's largest matrix, of both tables, and of all parameters."""
    tree = layout(config)
    size = {name: 4 * math.prod(leaf.shape) for name, leaf in tree["blocks"].items() if isinstance(leaf, Leaf)}
    tables = 2 * 4 * math.prod(tree["embedding"].shape)
    return {"matrix": max(size.values()) // config.depth, "tables": tables, "blocks": sum(size.values())}


@pytest.mark.parametrize("mesh", MESHES)
def test_fifty_steps_give_the_curve_of_one_device(measured, mesh):
    losses, reference = measured[mesh]["losses"], measured["1x1x1"]["losses"]
    assert len(reference) == 50
    assert reference[-1] < 0.7 * reference[0], "it learns, so that the comparison is of training"
    assert losses == pytest.approx(reference, rel=1e-4)


@pytest.mark.parametrize("mesh", MESHES)
def test_bytes_of_parameters_and_moments_fall_with_fsdp_times_tensor(measured, mesh):
    data, fsdp, tensor = map(int, mesh.split("x"))
    batch = 4 * mesh_program.SEQUENCES * (mesh_program.LENGTH + 1)
    whole = measured["1x1x1"]["argument_bytes"] - batch
    assert whole == pytest.approx(measured["1x1x1"]["state_bytes"], rel=0.01)
    held = measured[mesh]["argument_bytes"] - batch // (data * fsdp)
    # Gains along head width are whole everywhere, and those along width are not cut over tensor: a few percent.
    assert held == pytest.approx(whole / (fsdp * tensor), rel=0.05)


@pytest.mark.parametrize("mesh", ["1x1x1", *MESHES])
def test_the_state_is_updated_in_place(measured, mesh):
    _, fsdp, tensor = map(int, mesh.split("x"))
    assert measured[mesh]["reused_bytes"] > 0.98 * measured["1x1x1"]["state_bytes"] / (fsdp * tensor)


@pytest.mark.parametrize("mesh", MESHES)
def test_no_step_gathers_the_whole_tree(measured, mesh):
    size = leaf_bytes(mesh_program.CONFIG)
    outside, inside = (measured[mesh][f"gathered_{where}_loops"] for where in ("outside", "inside"))
    # Outside the loop over layers the two tables may be made whole, and what is small; no block.
    assert sum(outside) < size["tables"] + 0.1 * size["blocks"]
    # Inside it, one matrix at a time: never a stack of layers.
    assert max(inside, default=0) <= size["matrix"]
    if mesh == "1x8x1":
        assert max(inside) == size["matrix"], "fsdp does gather each layer: the text was read"
    if mesh == "8x1x1":
        assert sum(inside) == 0


def test_the_partitioner_finds_a_way_without_making_arrays_whole(finished):
    assert "nvoluntary full rematerialization" not in finished.stderr
