"""Predicted bytes: the closed form against the compiler, both against what they should scale with, and refusals."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

import launch
from core.errors import BadInput
from data.config import DataConfig
from experiments.scaling import ScalingRule
from model.config import ModelConfig
from model.kernels.choose import Device
from model.ledger import parameter_counts
from planning import memory
from training.spec import OptimConfig, RunSpec

pytestmark = pytest.mark.slow

MODEL = ModelConfig(width=64, depth=2, heads=4, kv_heads=4, scan=False)


def spec_of(model: ModelConfig = MODEL, length: int = 64, sequences: int = 16, micro: int = 0) -> RunSpec:
    return RunSpec(
        model=model,
        data=DataConfig(sequence_length=length),
        optim=OptimConfig(microbatch_tokens=micro),
        batch_tokens=length * sequences,
        tokens=length * sequences,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("memory")


CASES = {
    "plain": (spec_of(), (1, 1, 1)),
    "bfloat16, scan, remat": (
        spec_of(dataclasses.replace(MODEL, compute_dtype="bfloat16", scan=True, remat="block")),
        (1, 1, 1),
    ),
    "remat of products": (spec_of(dataclasses.replace(MODEL, depth=6, scan=True, remat="dots")), (1, 1, 1)),
    "loss in blocks": (spec_of(dataclasses.replace(MODEL, vocabulary=50_304), sequences=32), (1, 1, 1)),
    "a mesh": (spec_of(dataclasses.replace(MODEL, scan=True)), (1, 2, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_closed_form_is_near_the_compiled_program(name, cache):
    spec, mesh = CASES[name]
    compiled = memory.compiled_bytes(spec, mesh, cache)
    estimated = memory.estimate_bytes(spec, mesh)
    assert (compiled.basis, estimated.basis) == ("compiled", "estimated")
    assert estimated.state == pytest.approx(compiled.state, rel=0.03)
    assert estimated.scratch == pytest.approx(compiled.scratch, rel=0.2)
    share = 3 * 4 * parameter_counts(spec.model)["total"] / (mesh[1] * mesh[2])
    assert compiled.state == pytest.approx(share, rel=0.03)


def test_a_shape_is_compiled_once(cache, monkeypatch):
    spec, mesh = CASES["plain"]
    first = memory.compiled_bytes(spec, mesh, cache)

    def refuse(*_, **__):
        raise AssertionError("compiled again")

    monkeypatch.setattr(memory.subprocess, "run", refuse)
    longer = dataclasses.replace(spec, tokens=spec.tokens * 7, seed=3, evaluation_marks=(spec.tokens,))
    assert memory.compiled_bytes(longer, mesh, cache) == first
    with pytest.raises(AssertionError, match="compiled again"):
        memory.compiled_bytes(spec_of(length=32), mesh, cache)


def test_a_mesh_that_cannot_cut_the_model_is_refused(cache):
    with pytest.raises(BadInput, match=r"model\.heads=4: must be a multiple of the mesh's tensor=3"):
        memory.compiled_bytes(spec_of(sequences=18), (1, 1, 3), cache)


def test_what_makes_the_estimate_smaller():
    large = spec_of(ModelConfig(width=1024, depth=24, heads=16, kv_heads=16, vocabulary=50_304), 2048, 32)
    device = Device("gpu", "NVIDIA H100", "9.0")
    half = dataclasses.replace(large, model=dataclasses.replace(large.model, compute_dtype="bfloat16"))
    remat = dataclasses.replace(half, model=dataclasses.replace(half.model, remat="block"))
    micro = dataclasses.replace(half, optim=OptimConfig(microbatch_tokens=4 * 2048))
    need = [memory.estimate_bytes(spec, device=device).total for spec in (large, half, remat)]
    assert need[0] > need[1] > need[2]
    assert (
        memory.estimate_bytes(micro, device=device).scratch < memory.estimate_bytes(half, device=device).scratch
    )
    one, eight = (memory.estimate_bytes(half, mesh, device) for mesh in ((1, 1, 1), (1, 8, 1)))
    assert eight.state == pytest.approx(one.state / 8, rel=0.01)
    assert memory.estimate_bytes(half, (8, 1, 1), device).state == one.state


@pytest.mark.parametrize(("field", "value"), [("remat", "block"), ("remat", "dots")])
def test_what_saves_activations_lowers_the_scratch_alone(field, value):
    spec = ScalingRule().run(500_000, 65_536)
    saving = dataclasses.replace(spec, model=dataclasses.replace(spec.model, **{field: value}))
    assert memory.estimate_bytes(saving).scratch < memory.estimate_bytes(spec).scratch
    assert memory.estimate_bytes(saving).state == memory.estimate_bytes(spec).state


@pytest.mark.parametrize(
    ("text", "count"),
    [("80GiB", 80 * 2**30), ("80G", 80 * 10**9), ("8.5e10", 85 * 10**9), ("512 MiB", 2**29), ("1kB", 1000)],
)
def test_sizes_are_read(text, count):
    assert memory.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "80X", "-1G", "0", "1.2.3G", "ib", "nan", "5i"])
def test_other_sizes_are_refused_in_one_line(text):
    with pytest.raises(BadInput, match=r"--device-memory=.*must be bytes, as 80GiB") as refusal:
        memory.parse_bytes(text)
    assert "\n" not in str(refusal.value)


def test_the_run_that_needs_most_is_refused_by_name():
    small, large = spec_of(), spec_of(dataclasses.replace(MODEL, width=256))
    needs = [(spec, memory.estimate_bytes(spec)) for spec in (small, large)]
    memory.refuse_what_cannot_fit(needs, 2**40)
    with pytest.raises(
        BadInput, match=rf"{large.run_id}: needs .* on a device .estimated., which has 1 MiB, as 1 ot"
    ):
        memory.refuse_what_cannot_fit(needs, 2**20)


@pytest.mark.parametrize(
    ("kind", "platform", "count"),
    [
        ("NVIDIA H100 80GB HBM3", "gpu", 72e9),  # JAX takes 0.9 of it
        ("TPU v5 lite", "tpu", 16e9),
        ("TPU v5p", "tpu", 95e9),
        ("NVIDIA A100-SXM4", "gpu", None),
        ("cpu: any", "cpu", None),
    ],
)
def test_devices_are_known_by_their_names(kind, platform, count):
    assert memory.device_of(kind).platform == platform
    assert memory.device_memory(kind) == count


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--device-memory", "1MiB"), "needs .* on a device (estimated), which has 1 MiB"),
        (("--device-memory", "much"), "--device-memory=much: must be bytes, as 80GiB"),
        (("--mesh", "fsdp=3"), "--mesh=fsdp=3: data x fsdp must divide the [0-9]+ sequences of a batch"),
        (("--mesh", "tensor=7"), "model.heads=[0-9]+: must be a multiple of the mesh's tensor=7"),
        (("--mesh", "rows=2"), "--mesh=rows=2: must be AXIS=SIZE"),
    ],
)
def test_plan_refuses_what_cannot_fit(flags, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        launch.main(["plan", "quickstart", "--cache", str(tmp_path), "--runs", str(tmp_path), *flags])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert re.search(words.replace("(", "[(]").replace(")", "[)]"), said)
    assert said.count("\n") == 1


def planned_shape(tmp_path, capsys, *flags):
    folders = ["--cache", str(tmp_path), "--runs", str(tmp_path)]
    assert launch.main(["plan", "quickstart", "--sizes", "1", "--json", *folders, *flags]) == 0
    (shape,) = json.loads(capsys.readouterr().out)["shapes"]
    return shape


def test_plan_counts_the_bytes_of_each_device_of_a_mesh(tmp_path, capsys):
    alone, cut, cores, copies = (
        planned_shape(tmp_path, capsys, *flags)
        for flags in ((), ("--mesh", "fsdp=2"), ("--cores-per-worker", "2"), ("--mesh", "data=2"))
    )
    assert [shape["mesh"] for shape in (alone, cut, cores, copies)] == [
        [1, 1, 1],
        [1, 2, 1],
        [2, 1, 1],
        [2, 1, 1],
    ]
    assert 0.5 <= cut["state_bytes"] / alone["state_bytes"] < 0.52
    assert cores == copies
    assert copies["state_bytes"] == alone["state_bytes"]
    assert copies["memory_bytes"] < alone["memory_bytes"]


def test_the_devices_of_a_cpu_process_share_its_memory(tmp_path, capsys, monkeypatch):
    need = planned_shape(tmp_path, capsys, "--mesh", "data=2")["memory_bytes"]
    monkeypatch.setattr(memory, "device_memory_here", lambda kind: round(1.5 * need))
    planned_shape(tmp_path, capsys, "--mesh", "data=2", "--device-memory", str(round(1.5 * need)))
    with pytest.raises(SystemExit):
        planned_shape(tmp_path, capsys, "--mesh", "data=2")
    assert "which has" in capsys.readouterr().err


def test_plan_shows_the_compiled_bytes_of_a_shape_on_request(tmp_path, capsys):
    command = [
        "plan",
        "quickstart",
        "--sizes",
        "1",
        "--json",
        "--cache",
        str(tmp_path),
        "--runs",
        str(tmp_path),
    ]
    rows = []
    for flags in ([], ["--compile-memory"], []):
        assert launch.main([*command, *flags]) == 0
        (shape,) = json.loads(capsys.readouterr().out)["shapes"]
        rows.append((shape["memory_basis"], shape["memory_bytes"], shape["state_bytes"]))
    assert [basis for basis, *_ in rows] == ["estimated", "compiled", "compiled"]
    assert rows[1] == rows[2]
    assert rows[0][1] == pytest.approx(rows[1][1], rel=0.2)


def test_this_machine_has_memory():
    here = memory.device_memory_here("cpu")
    assert here is not None
    assert 2**28 < here < 2**50
