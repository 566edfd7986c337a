"""Two files: model.npz, the weights, and run.py, a program that needs numpy alone and writes the same text.

The weights are an npz archive and not safetensors: numpy reads it by itself, and finds a wrong byte by the archive's
checksums. It never holds a pickle. bfloat16, which numpy lacks, is stored as the upper halves of float32 (uint16).
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BadInput
from core.rundir import SPEC
from model import exchange, parametrization
from model.config import ModelConfig
from model.exchange.two_files.tokenizer import tables

DTYPES = ("float32", "bfloat16")
PROGRAM = Path(__file__).with_name("run.py")
WEIGHTS = "model.npz"


def refuse(config: ModelConfig) -> None:
    """Raises BadInput for any network but a decoder."""
    if config.architecture != "decoder":
        raise BadInput(f"model.architecture={config.architecture!r}: two files hold a decoder alone")


def write(model: exchange.Exported, folder: Path, dtype: str) -> None:
    """model.npz and run.py.

    Raises:
      BadInput: the tokenizer does what the program cannot.
    """
    kind = model.tokenizer.partition(":")[0]
    found = tables(kind, model.tokenizer_json, model.vocabulary, f"data.tokenizer={model.tokenizer!r}")
    weights = {name: _stored(array, dtype) for name, array in _flat(model.params).items()}
    about = {**_about(model), "tokenizer": found.about}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(folder / WEIGHTS, allow_pickle=False, about=text, **weights, **found.arrays)
    shutil.copyfile(PROGRAM, folder / PROGRAM.name)


def _about(model: exchange.Exported) -> dict[str, Any]:
    """What the program reads of the network, and where it is from."""
    config = model.config
    spec = model.beside.get(SPEC)
    return {
        "run": model.name,
        "spec": None if spec is None else json.loads(spec),
        "context": model.context,
        "separator": model.end,
        "depth": config.depth,
        "kv_heads": config.kv_heads,
        "head_width": config.resolved_head_width,
        "rope_base": config.rope_base,
        "norm_epsilon": config.norm_epsilon,
        "logit_softcap": config.logit_softcap,
        "attention_scale": 1 / parametrization.attention_divisor(config),
        "branch_multiplier": parametrization.branch_multiplier(config),
        "logit_multiplier": parametrization.logit_multiplier(config),
    }


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays by their path, as blocks.query."""
    flat: dict[str, np.ndarray] = {}
    for name, value in params.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _stored(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "float32":
        return np.asarray(array, np.float32)
    import ml_dtypes  # what JAX rounds with

    return np.asarray(array, np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
