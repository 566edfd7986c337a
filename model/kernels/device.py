"""What the rules of `choose` ask of the device that programs are compiled for."""

import contextlib
import functools

import jax

from model.config import ModelConfig
from model.kernels.chips import products
from model.kernels.choose import Choice, Device


@functools.lru_cache(maxsize=1)
def this_device() -> Device:
    """The first device that JAX finds; the others of a mesh are of its kind."""
    return described(jax.devices()[0])


def described(device: jax.Device) -> Device:
    """A device of JAX as the rules see it."""
    return Device(device.platform, device.device_kind, str(getattr(device, "compute_capability", "")))


def products_here(config: ModelConfig, device: Device) -> Choice:
    """What matrix products are computed in, with this process's settings of JAX."""
    return products(config, device, jax.config.values["jax_default_matmul_precision"] or "")


def products_as(config: ModelConfig) -> contextlib.AbstractContextManager[object]:
    """Programs that are traced in here compute matrix products with `model.matmul_precision`."""
    if config.matmul_precision == "default":
        return contextlib.nullcontext()  # as jax_default_matmul_precision says
    return jax.default_matmul_precision(config.matmul_precision)
