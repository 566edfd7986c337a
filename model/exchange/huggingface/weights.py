"""Weights of the layout of transformers, both ways: names, transposes, muP's multipliers folded in.

Axes: L layers. Here a matrix is (fan-in, fan-out) and all layers are one array; there it is (fan-out, fan-in), one
array a layer.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from core.errors import BadInput
from core.reading import opened, printable, read_bytes, shown
from model import parametrization
from model.config import ModelConfig
from model.exchange.huggingface.config import CONFIG
from model.parameters import Leaf, layout

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MOST_BYTES = 1 << 44  # of one file of weights
MOST_INDEX_BYTES = 1 << 28
DTYPES = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8}

TABLE, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
OF_A_LAYER = {
    "attention_norm": "input_layernorm",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention_output": "self_attn.o_proj",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "feed_forward_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def folded(config: ModelConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with which a network without multipliers computes the same; those of standard as they are.

    Scores are divided by sqrt(K) there: what is missing goes to the queries, and after QK-norm to its gain. A branch's
    multiplier goes to what writes to the stream, that of the logits to the last gain, so that a tied table stays one.
    """
    width = config.resolved_head_width
    scores = math.sqrt(width) / parametrization.attention_divisor(config)
    branch = parametrization.branch_multiplier(config)
    factors = {
        "query_norm" if config.qk_norm else "query": scores,
        "attention_output": branch,
        "down": branch,
    }
    blocks = {name: _times(array, factors.get(name, 1.0)) for name, array in params["blocks"].items()}
    last = _times(params["final_norm"], parametrization.logit_multiplier(config))
    return {**params, "blocks": blocks, "final_norm": last}


def _times(array: np.ndarray, factor: float) -> np.ndarray:
    return array if factor == 1.0 else (array.astype(np.float64) * factor).astype(np.float32)


def arrays(config: ModelConfig, params: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Every array by its name there.

    Raises:
      BadInput: a block holds what there is no name for.
    """
    if unknown := sorted(set(params["blocks"]) - set(OF_A_LAYER)):
        raise BadInput(
            f"model.architecture={config.architecture!r}: its blocks hold {unknown[0]}, which the layout "
            "has no place for"
        )
    yield TABLE, params["embedding"]
    for ours, theirs in OF_A_LAYER.items():
        for layer, array in enumerate(params["blocks"].get(ours, ())):
            yield _name(layer, theirs), array.T
    yield FINAL_NORM, params["final_norm"]
    if not config.tied:
        yield HEAD, params["head"]


def _name(layer: int, theirs: str) -> str:
    return f"model.layers.{layer}.{theirs}.weight"


def write_weights(path: Path, config: ModelConfig, params: Mapping[str, Any], dtype: str) -> None:
    """One safetensors file; its bytes follow from the weights and the dtype alone."""
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)
    save_file(
        {name: np.ascontiguousarray(array, dtype=kind) for name, array in arrays(config, params)},
        path,
        metadata={"format": "pt"},  # what transformers asks for before it reads
    )


def read_weights(folder: Path, config: ModelConfig) -> dict[str, Any]:
    """The parameter tree of a folder, float32: of one file, or of several and their index.

    Raises:
      BadInput: no safetensors file, one that is torn or says what is not there, an array too many, missing, of another
        shape, of no floating-point kind or with a number that is not finite.
    """
    files = _files(folder)
    found: dict[str, Path] = {}
    for path in files:
        for name in _names(path):
            if name in found:
                raise BadInput(f"{path}: holds {printable(name)}, which {found[name].name} holds too")
            found[name] = path
    if config.tied:
        found.pop(HEAD, None)  # some folders hold the shared table twice
    names = {name: leaf for name, leaf in _wanted(config)}
    if missing := sorted(set(names) - set(found)):
        raise BadInput(f"{folder}: its weights lack {missing[0]}{_more(missing)}, which {CONFIG} asks for")
    if extra := sorted(set(found) - set(names)):
        hint = " (biases are not computed here)" if extra[0].endswith("bias") else ""
        raise BadInput(
            f"{folder}: its weights hold {printable(extra[0])}{_more(extra)}, which {CONFIG} has no place for{hint}"
        )
    readers = {path: _open(path) for path in files}
    return _tree(config, lambda name: _array(readers[found[name]], found[name], name, names[name]))


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _wanted(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every array's name and shape there."""
    tree = layout(config)
    yield TABLE, tree["embedding"].shape
    for ours, leaf in tree["blocks"].items():
        for layer in range(config.depth):
            yield _name(layer, OF_A_LAYER[ours]), leaf.shape[:0:-1]
    yield FINAL_NORM, tree["final_norm"].shape
    if not config.tied:
        yield HEAD, tree["head"].shape


def _tree(config: ModelConfig, read: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {"embedding": read(TABLE), "blocks": {}, "final_norm": read(FINAL_NORM)}
    leaves: dict[str, Leaf] = layout(config)["blocks"]
    for ours, leaf in leaves.items():
        stacked = np.empty(leaf.shape, np.float32)
        for layer in range(config.depth):
            stacked[layer] = read(_name(layer, OF_A_LAYER[ours])).T
        tree["blocks"][ours] = stacked
    if not config.tied:
        tree["head"] = read(HEAD)
    return tree


def _files(folder: Path) -> list[Path]:
    """The files of weights of a folder."""
    index = folder / INDEX
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    try:
        value = json.loads(read_bytes(index, MOST_INDEX_BYTES))
    except FileNotFoundError:
        found = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl"))
        hint = (
            f" ({found[0]} is a pickle, which runs code when it is read: save it as safetensors)"
            if found
            else ""
        )
        raise BadInput(f"{folder}: holds no {WEIGHTS}{hint}") from None
    except ValueError as error:
        raise BadInput(f"{index}: not readable as JSON ({printable(str(error))})") from None
    places = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(places, dict) or not places:
        raise BadInput(f"{index}: has no weight_map")
    names = sorted({str(name) for name in places.values()})
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise BadInput(
                f"{index}: weight_map names {shown(name)}; must be a safetensors file of this folder"
            )
        if not (folder / name).exists():
            raise BadInput(f"{index}: weight_map names {shown(name)}, which is not there")
    return [folder / name for name in names]


def _names(path: Path) -> list[str]:
    """Names of the arrays of a file, whose header the library has found whole."""
    try:
        with opened(path, MOST_BYTES):  # a device or a FIFO is not handed to the library
            pass
    except FileNotFoundError:
        raise BadInput(f"{path}: is a link to nothing") from None
    with _open(path) as reader:
        return list(reader.keys())


def _open(path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="np")
    except (safetensors.SafetensorError, OSError) as error:
        raise BadInput(f"{path}: damaged ({printable(str(error), 120)})") from None


def _array(reader: Any, path: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    piece = reader.get_slice(name)
    if (kind := piece.get_dtype()) not in DTYPES:
        raise BadInput(f"{path}: {name} is {kind}; must be one of {', '.join(DTYPES)}")
    if tuple(piece.get_shape()) != shape:
        raise BadInput(f"{path}: {name} has the shape {tuple(piece.get_shape())}; {CONFIG} asks for {shape}")
    array = np.asarray(reader.get_tensor(name)).astype(np.float32)
    if not np.isfinite(array).all():
        raise BadInput(f"{path}: {name} holds numbers that are not finite")
    return array
