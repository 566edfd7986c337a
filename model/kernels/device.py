"""What the rules of `choose` ask of the device that programs are compiled for."""

import functools

import jax

from model.kernels.choose import Device


@functools.lru_cache(maxsize=1)
def this_device() -> Device:
    """The first device that JAX finds; the others of a mesh are of its kind."""
    return described(jax.devices()[0])


def described(device: jax.Device) -> Device:
    """A device of JAX as the rules see it."""
    return Device(device.platform, device.device_kind, str(getattr(device, "compute_capability", "")))
