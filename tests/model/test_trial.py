"""A kernel that a device refuses, or computes wrong, is replaced by the definition, and the run says so."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

from core.errors import EXIT_COMPLETE
from data.config import DataConfig
from model.config import ModelConfig
from model.kernels import fused_attention, install, trial
from model.transformer import Attention
from tests.support.chips import HALF, HOPPER
from tests.support.small import cache_folder, write_corpus
from training.execute import execute
from training.execution import Execution
from training.records import write_spec
from training.spec import OptimConfig, RunSpec


@pytest.fixture(autouse=True)
def _no_memory_of_trials():
    trial._refusal.cache_clear()
    yield
    trial._refusal.cache_clear()


def plain(q, k, v, scale):
    return Attention.mix(None, q, k, v, scale)  # type: ignore[arg-type]


def test_a_right_kernel_is_kept(monkeypatch):
    monkeypatch.setitem(trial.KERNELS, "cudnn", plain)
    assert install.attention(HALF, HOPPER, 64).name == "cudnn"


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (lambda q, k, v, scale: 1.5 * plain(q, k, v, scale), "cudnn was tried: off by 0.5"),
        (lambda q, k, v, scale: plain(q, k, v, scale) / 0, "cudnn was tried: its results are not finite"),
        (fused_attention.cudnn, "cudnn was tried: cudnn"),  # there is none on a CPU
    ],
)
def test_a_kernel_that_is_wrong_or_refuses_is_replaced_in_words(monkeypatch, kernel, reason):
    monkeypatch.setitem(trial.KERNELS, "cudnn", kernel)
    chosen = install.attention(HALF, HOPPER, 64)
    assert chosen.name == "xla"
    assert chosen.reason.lower().startswith(reason)
    assert "\n" not in chosen.reason


def test_too_little_memory_for_the_trial_is_no_refusal(monkeypatch):
    def full(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.0GiB")

    monkeypatch.setitem(trial.KERNELS, "cudnn", full)
    assert install.attention(HALF, HOPPER, 64).name == "cudnn"


def test_a_shape_is_tried_once(monkeypatch):
    tried = []
    monkeypatch.setattr(trial, "_compared", lambda *arguments: tried.append(arguments))
    for length in (64, 64, 32):
        install.attention(HALF, HOPPER, length)
    install.attention(dataclasses.replace(HALF, depth=7), HOPPER, 64)
    assert len(tried) == 2


def test_a_grouped_shape_is_compared(monkeypatch):
    def without_groups(q, k, v, scale):
        return plain(q, jnp.roll(k, 1, axis=2), v, scale)

    monkeypatch.setitem(trial.KERNELS, "splash", without_groups)
    grouped = ModelConfig(width=64, heads=4, kv_heads=2, compute_dtype="bfloat16")
    assert "off by" in str(trial.refusal(grouped, "splash", 64))


@pytest.mark.slow
def test_a_run_trains_on_with_the_reason_in_its_records_and_on_the_terminal(tmp_path, monkeypatch, caplog):
    """The whole way: a device that is taken for a GPU refuses cuDNN, as a driver might."""
    monkeypatch.setattr(install, "this_device", lambda: HOPPER)
    monkeypatch.setattr("model.kernels.device.described", lambda _: HOPPER)
    model = ModelConfig(width=16, depth=1, heads=2, kv_heads=2, compute_dtype="bfloat16")
    data = DataConfig(
        corpus=f"text:{write_corpus(tmp_path / 'text')}", sequence_length=32, validation_tokens=256
    )
    spec = RunSpec(model=model, data=data, optim=OptimConfig(), batch_tokens=256, tokens=1024)
    directory = tmp_path / "runs" / spec.run_id
    write_spec(directory, spec)
    (outcome,) = execute([directory], Execution(cache_root=cache_folder(tmp_path))).values()
    assert outcome.status == EXIT_COMPLETE, outcome
    made = json.loads((directory / "env.json").read_text())["attempts"][0]["implementations"]
    assert made["attention"]["name"] == "xla"
    assert made["attention"]["reason"].startswith("cudnn was tried: ")
    assert made["products"]["name"] == "bfloat16"
    assert "cudnn was tried" in caplog.text
