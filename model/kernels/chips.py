"""What vendors say of their accelerators: memory and peak speed by exact name, and what a product is computed in.

Sources: NVIDIA's data sheets (A100, H100, H200, L4, L40S, B200), dense numbers without sparsity; Google Cloud's pages
of each TPU. A TPU7x chip is two devices of JAX, so its numbers are halved.
"""

import dataclasses
import re

from model.config import ModelConfig
from model.kernels.choose import Choice, Device

# Passes of bfloat16 that a TPU takes for one product of float32, by model.matmul_precision.
TPU_PASSES = {"default": 1, "high": 3, "highest": 6}


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device, as JAX counts them.

    Attributes:
      memory: bytes; 0 where cards of one name differ.
      peaks: FLOP/s of products by what they are computed in.
    """

    memory: int
    peaks: dict[str, float]


def _gpu(memory: float, bfloat16: float, tensorfloat32: float, float32: float) -> Chip:
    """Gigabytes and TFLOP/s."""
    peaks = {"bfloat16": bfloat16, "tensorfloat32": tensorfloat32, "float32": float32}
    return Chip(round(memory * 1e9), {name: peak * 1e12 for name, peak in peaks.items()})


def _tpu(memory: float, bfloat16: float) -> Chip:
    """Gigabytes, and TFLOP/s of bfloat16; a product of float32 takes several passes of it."""
    names = {"bfloat16": 1, "bfloat16, 3 passes": 3, "bfloat16, 6 passes": 6}
    return Chip(round(memory * 1e9), {name: bfloat16 * 1e12 / passes for name, passes in names.items()})


# By the longest name that a device's name starts with; NVIDIA H100 alone is the SXM card ("NVIDIA H100 80GB HBM3").
CHIPS: dict[str, Chip] = {
    "NVIDIA A100": _gpu(0, 312, 156, 19.5),
    "NVIDIA A100-SXM4-40GB": _gpu(40, 312, 156, 19.5),
    "NVIDIA A100-PCIE-40GB": _gpu(40, 312, 156, 19.5),
    "NVIDIA A100-SXM4-80GB": _gpu(80, 312, 156, 19.5),
    "NVIDIA A100 80GB PCIe": _gpu(80, 312, 156, 19.5),
    "NVIDIA H100": _gpu(80, 989, 494.5, 67),
    "NVIDIA H100 PCIe": _gpu(80, 756, 378, 51),
    "NVIDIA H100 NVL": _gpu(94, 835, 417.5, 60),
    "NVIDIA H200": _gpu(141, 989, 494.5, 67),
    "NVIDIA H200 NVL": _gpu(141, 835, 417.5, 60),
    "NVIDIA GH200 480GB": _gpu(96, 989, 494.5, 67),
    "NVIDIA B200": _gpu(180, 2250, 1125, 75),
    "NVIDIA GB200": _gpu(186, 2500, 1250, 80),
    "NVIDIA L4": _gpu(24, 121, 60, 30.3),
    "NVIDIA L40S": _gpu(48, 362, 183, 91.6),
    "TPU v4": _tpu(32, 275),
    "TPU v5 lite": _tpu(16, 197),
    "TPU v5e": _tpu(16, 197),
    "TPU v5": _tpu(95, 459),
    "TPU v5p": _tpu(95, 459),
    "TPU v6 lite": _tpu(32, 918),
    "TPU v6e": _tpu(32, 918),
    "TPU7x": _tpu(96, 1153.5),
}


def chip(kind: str) -> Chip | None:
    """The device of a name, as JAX or nvidia-smi gives it; None where unknown, as a share of a card (MIG) is."""
    names = [name for name in CHIPS if re.match(rf"{re.escape(name)}(?![A-Za-z0-9])", kind)]
    return CHIPS[max(names, key=len)] if names and " MIG " not in f"{kind} " else None


def short_names() -> dict[str, str]:
    """The names of CHIPS by what people type: h100, h100-pcie, v5p."""
    return {_short(name).replace(" ", "-"): name for name in CHIPS}


def name_of(typed: str) -> str | None:
    """The device that a typed name means: a short name, the one beginning of a name, or a name as `chip` takes it."""
    wanted = _short(typed)
    names = {_short(name): name for name in CHIPS}
    if wanted in names:
        return names[wanted]
    begun = [name for short, name in names.items() if wanted and short.startswith(f"{wanted} ")]
    return begun[0] if len(begun) == 1 else typed if chip(typed) else None


def _short(name: str) -> str:
    return re.sub(r"[-_\s]+", " ", name.strip().lower()).removeprefix("nvidia ").removeprefix("tpu ")


def memory_of(kind: str) -> int | None:
    """Bytes of one device; None where unknown, or where cards of this name differ."""
    found = chip(kind)
    return found.memory or None if found else None


def products(config: ModelConfig, device: Device, asked: str = "") -> Choice:
    """What matrix products are computed in, from inputs of `model.compute_dtype`; sums are always float32.

    Args:
      asked: jax_default_matmul_precision, which counts where the model asks for nothing.
    """
    if config.compute_dtype == "bfloat16":
        return Choice("float32" if device.platform == "cpu" else "bfloat16", "model.compute_dtype=bfloat16")
    wish = config.matmul_precision
    if wish == "default" and asked:
        return Choice(JAX_NAMES.get(asked, asked), f"jax_default_matmul_precision={asked}")
    reason = f"model.matmul_precision={wish}"
    if device.platform == "tpu":
        passes = TPU_PASSES[wish]
        return Choice("bfloat16" if passes == 1 else f"bfloat16, {passes} passes", reason)
    if device.platform == "gpu" and wish != "highest" and _has_tensorfloat32(device):
        return Choice("tensorfloat32", reason)
    return Choice("float32", reason)


# Other names that JAX takes for its precisions.
JAX_NAMES = {"highest": "float32", "bfloat16_3x": "bfloat16, 3 passes", "bfloat16_6x": "bfloat16, 6 passes"}


def _has_tensorfloat32(device: Device) -> bool:
    major = (device.capability or "8.0").split(".")[0]
    return "NVIDIA" in device.kind.upper() and int(major) >= 8


def peak_flops(kind: str, precision: str) -> float | None:
    """Peak of one device in FLOP/s for products computed in `precision`; None where unknown.

    A CPU has no such number: its mfu is null, and `bench` measures a peak.
    """
    found = chip(kind)
    return found.peaks.get(precision) if found else None
