"""What vendors say of their devices by exact name, and what products are computed in."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from model.config import ModelConfig
from model.kernels import chips
from model.kernels.choose import Device
from model.kernels.device import products_as, products_here
from tests.support.chips import HALF, HOPPER, SINGLE, V5E

CPU = Device("cpu", "cpu")


@pytest.mark.parametrize(
    ("kind", "gigabytes", "bfloat16"),
    [
        ("NVIDIA H100 80GB HBM3", 80, 989e12),
        ("NVIDIA H100 PCIe", 80, 756e12),
        ("NVIDIA H100 NVL", 94, 835e12),
        ("NVIDIA H200", 141, 989e12),
        ("NVIDIA A100-SXM4-40GB", 40, 312e12),
        ("NVIDIA A100-SXM4-80GB", 80, 312e12),
        ("NVIDIA A100-SXM-64GB", None, 312e12),
        ("NVIDIA L4", 24, 121e12),
        ("NVIDIA L40S", 48, 362e12),
        ("NVIDIA B200", 180, 2250e12),
        ("TPU v4", 32, 275e12),
        ("TPU v5 lite", 16, 197e12),
        ("TPU v5", 95, 459e12),
        ("TPU v6 lite", 32, 918e12),
        ("TPU7x", 96, 1153.5e12),
        ("NVIDIA H1000", None, None),
        ("NVIDIA H800", None, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None, None),
        ("cpu", None, None),
    ],
)
def test_memory_and_peak_go_by_the_whole_name(kind, gigabytes, bfloat16):
    memory = chips.memory_of(kind)
    assert memory == (gigabytes and round(gigabytes * 1e9))
    assert chips.peak_flops(kind, "bfloat16") == bfloat16


def test_a_peak_is_that_of_the_runs_precision():
    def peak(config, device):
        return chips.peak_flops(device.kind, chips.products(config, device).name)

    exact = dataclasses.replace(SINGLE, matmul_precision="highest")
    assert [peak(config, HOPPER) for config in (HALF, SINGLE, exact)] == [989e12, 494.5e12, 67e12]
    three = dataclasses.replace(SINGLE, matmul_precision="high")
    assert [peak(config, V5E) for config in (HALF, SINGLE, three, exact)] == [
        197e12,
        197e12,
        197e12 / 3,
        197e12 / 6,
    ]
    assert peak(SINGLE, CPU) is None


@pytest.mark.parametrize(
    ("wish", "device", "name"),
    [
        ("default", HOPPER, "tensorfloat32"),
        ("high", HOPPER, "tensorfloat32"),  # measured on an H200: the same error as default
        ("highest", HOPPER, "float32"),
        ("default", Device("gpu", "NVIDIA Tesla V100", "7.0"), "float32"),
        ("default", V5E, "bfloat16"),
        ("high", V5E, "bfloat16, 3 passes"),
        ("highest", V5E, "bfloat16, 6 passes"),
        ("default", CPU, "float32"),
        ("highest", CPU, "float32"),
    ],
)
def test_what_float32_products_are_computed_in(wish, device, name):
    said = chips.products(dataclasses.replace(SINGLE, matmul_precision=wish), device)
    assert (said.name, said.reason) == (name, f"model.matmul_precision={wish}")


def test_a_setting_of_jax_counts_where_the_model_asks_for_nothing():
    with jax.default_matmul_precision("highest"):
        assert products_here(SINGLE, HOPPER).name == "float32"
        assert "jax_default_matmul_precision" in products_here(SINGLE, HOPPER).reason
        high = dataclasses.replace(SINGLE, matmul_precision="high")
        assert products_here(high, HOPPER).reason == "model.matmul_precision=high"


@pytest.mark.parametrize(("wish", "word"), [("default", "DEFAULT"), ("high", "HIGH"), ("highest", "HIGHEST")])
def test_products_and_their_gradients_ask_for_it(wish, word):
    def loss(x):
        with products_as(ModelConfig(matmul_precision=wish)):
            return jax.grad(lambda y: jnp.sum(jnp.sin(y @ y)))(x)

    text = jax.jit(loss).lower(jnp.ones((8, 8))).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 3
    assert all(f"precision = [{word}, {word}]" in line or word == "DEFAULT" for line in products)
    assert ("HIGH" in text) == (wish != "default")
