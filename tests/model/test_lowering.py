"""Every program of training, evaluation and packs lowers for NVIDIA GPUs and TPUs, on a machine with neither."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.config import ModelConfig
from model.kernels import choose
from tests.support.chips import HALF, HOPPER, ONE_OF_EACH, PLATFORMS, V5E, Case, lowered, matrix

ROOT = Path(__file__).parents[2]


def with_eight_devices(*command: str, timeout: float = 1200) -> Any:
    """What a program prints that has 8 CPU devices."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_one_of_each_program_lowers():
    said = with_eight_devices("tests.support.chips")
    assert len(said) == len(PLATFORMS) * len(ONE_OF_EACH)
    assert {name: error for name, error in said.items() if error} == {}


@pytest.mark.walk
def test_every_program_lowers():
    said = with_eight_devices("tests.support.chips", "--whole")
    assert len(said) == len(matrix(whole=True)) > 200
    assert {name: error for name, error in said.items() if error} == {}


@pytest.mark.slow
def test_what_lowers_is_the_kernel_that_was_chosen():
    assert "cudnn" in lowered(Case(HALF), "cuda")
    assert "tpu_custom_call" in lowered(Case(HALF), "tpu")
    assert "cudnn" not in lowered(Case(HALF, length=127), "cuda")
    assert "tpu_custom_call" not in lowered(Case(HALF, length=100), "tpu")


def holds(heads: int, groups: int, width: int, length: int, remat: Any, platform: str) -> None:
    config = ModelConfig(
        width=64, depth=1, heads=heads * groups, kv_heads=groups, head_width=width, compute_dtype="bfloat16",
        remat=remat,
    )  # fmt: skip
    device = {"cuda": HOPPER, "tpu": V5E}[platform]
    chosen = choose.attention(config, device, length).name
    text = lowered(Case(config, sequences=2, length=length), platform)
    assert {"cudnn": "cudnn" in text, "splash": "tpu_custom_call" in text, "xla": True}[chosen]


SHAPES = {
    "heads": st.sampled_from([1, 2, 4]),
    "groups": st.sampled_from([1, 2, 4]),
    "width": st.integers(1, 130).map(lambda half: 2 * half),
    "length": st.one_of(st.integers(2, 300), st.sampled_from([128, 256, 384, 512, 1024, 2048])),
    "remat": st.sampled_from(["none", "block", "dots"]),
    "platform": st.sampled_from(list(PLATFORMS)),
}


@pytest.mark.slow
@settings(max_examples=8, derandomize=True)
@given(**SHAPES)
@example(heads=2, groups=2, width=64, length=127, remat="none", platform="cuda")
@example(heads=2, groups=2, width=64, length=384, remat="dots", platform="tpu")
def test_where_the_rule_names_a_kernel_the_step_lowers(heads, groups, width, length, remat, platform):
    holds(heads, groups, width, length, remat, platform)


@pytest.mark.walk
@settings(max_examples=100, derandomize=True)
@given(**SHAPES)
def test_where_the_rule_names_a_kernel_the_step_lowers_at_length(heads, groups, width, length, remat, platform):
    holds(heads, groups, width, length, remat, platform)


@pytest.mark.long
def test_cudnn_cut_over_devices_computes_plain_attention():
    said = with_eight_devices("tests.support.fused_mesh_program")
    assert len(said) >= 18
    assert {name: off for name, off in said.items() if off > 2e-3} == {}


def test_a_case_is_a_value():
    assert dataclasses.replace(ONE_OF_EACH["train"], length=127) == ONE_OF_EACH["train, odd length"]
