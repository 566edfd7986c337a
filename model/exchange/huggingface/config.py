"""config.json of transformers, both ways. Pure values.

What another version of transformers, or vLLM, reads under another name is written under both: `rope_theta` and
`rope_parameters`, `torch_dtype` and `dtype` (the first of each by transformers 4, the second by 5).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.errors import BadInput
from core.numbers import finite
from core.reading import shown
from model.config import ModelConfig
from model.exchange import Exported

CONFIG = "config.json"
GENERATION = "generation_config.json"
KINDS = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
MOST_SUPPRESSED = (
    4096  # rows of the embedding that no token has; more are left to be as unlikely as they are trained
)

# Sizes by their names there.
SIZES = {
    "vocab_size": "vocabulary",
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_width",
    "intermediate_size": "ff_width",
}
# What only one value of is computed here; absent is that value.
FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "rope_scaling": (None,),
    "use_sliding_window": (False,),
    "pretraining_tp": (1,),
    "partial_rotary_factor": (1, 1.0),
    "attention_dropout": (0, 0.0),
    "quantization_config": (None,),
    "is_decoder": (True, False),
}
PLAIN = ("default", None)  # kinds of rotary positions


def config_json(model: Exported, dtype: str) -> dict[str, Any]:
    """The content of config.json."""
    config = model.config
    kind = "qwen3" if config.qk_norm else "llama"
    own: dict[str, Any] = (
        {"sliding_window": None, "use_sliding_window": False, "max_window_layers": config.depth}
        if kind == "qwen3"
        else {"mlp_bias": False, "pretraining_tp": 1}
    )
    return {
        "architectures": [KINDS[kind]],
        "model_type": kind,
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.resolved_head_width,
        "intermediate_size": config.resolved_ff_width,
        "hidden_act": "silu",
        "max_position_embeddings": model.context,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": model.end,
        "eos_token_id": model.end,
        "pad_token_id": None,
        "dtype": dtype,
        "torch_dtype": dtype,
        **own,
    }


def generation_json(model: Exported) -> dict[str, Any]:
    """The content of generation_config.json: greedy, ended by the end of a document, never an id without a token."""
    value: dict[str, Any] = {"bos_token_id": model.end, "eos_token_id": model.end, "do_sample": False}
    beyond = range(model.vocabulary, model.config.vocabulary)
    if 0 < len(beyond) <= MOST_SUPPRESSED:
        value["suppress_tokens"] = list(beyond)
    return value


@dataclasses.dataclass(frozen=True)
class Described:
    """What a config.json says.

    Attributes:
      network: as it is computed here, the parametrization standard.
      context: tokens that it was trained for.
      kind: qwen3 or llama.
    """

    network: ModelConfig
    context: int
    kind: str


def described(value: Mapping[str, Any], where: object) -> Described:
    """The network of a config.json.

    Args:
      where: the file, which a message begins with.

    Raises:
      BadInput: a network that is not computed here, by the key that says so.
    """

    def refuse(key: str, allowed: str) -> BadInput:
        return BadInput(f"{where}: {key}={shown(value.get(key))}: {allowed}")

    kind = value.get("model_type")
    if kind not in KINDS:
        raise refuse("model_type", f"must be {' or '.join(KINDS)} (no other layout is computed exactly here)")
    if value.get("architectures") not in (None, [], [KINDS[kind]]):
        raise refuse("architectures", f"must be {KINDS[kind]}")
    for key, allowed in FIXED.items():
        if key in value and value[key] not in allowed:
            raise refuse(key, f"must be {' or '.join(map(repr, allowed))}")
    # Of Qwen3 the window counts only where it is used; Llama has none.
    if value.get("sliding_window") is not None and value.get("use_sliding_window") is not False:
        raise refuse("sliding_window", "must be null: attention here sees the whole context")
    layers = value.get("layer_types")
    if layers is not None and any(one != "full_attention" for one in layers if isinstance(layers, list)):
        raise refuse("layer_types", "must be full_attention in every layer")
    base = _rope_base(value, where)
    sizes: dict[str, Any] = {
        ours: _size(value, theirs, where, required=theirs != "head_dim") for theirs, ours in SIZES.items()
    }
    tied = value.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise refuse("tie_word_embeddings", "must be true or false")
    epsilon = finite(value.get("rms_norm_eps", 1e-6))
    if epsilon is None:
        raise refuse("rms_norm_eps", "must be a number")
    if not sizes["head_width"] and kind == "qwen3":
        sizes["head_width"] = 128  # what Qwen3 takes where nothing is said
    try:
        network = ModelConfig(**sizes, tied=tied, qk_norm=kind == "qwen3", rope_base=base, norm_epsilon=epsilon)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    return Described(network, _size(value, "max_position_embeddings", where), str(kind))


def _size(value: Mapping[str, Any], key: str, where: object, *, required: bool = True) -> int:
    """A whole number; 0 where it need not be there and is not."""
    found = value.get(key)
    if found is None and key == "num_key_value_heads":
        found = value.get("num_attention_heads")
    if found is None and not required:
        return 0
    if type(found) is not int or found < 1:
        raise BadInput(f"{where}: {key}={shown(found)}: must be a whole number, at least 1")
    return found


def _rope_base(value: Mapping[str, Any], where: object) -> float:
    """The base of rotary positions, refused where they are scaled."""
    rope = value.get("rope_parameters")
    if rope is not None and not isinstance(rope, Mapping):
        raise BadInput(f"{where}: rope_parameters={shown(rope)}: must be an object")
    rope = rope or {}
    kind = rope.get("rope_type", rope.get("type"))
    if kind not in PLAIN:
        raise BadInput(
            f"{where}: rope_parameters.rope_type={shown(kind)}: must be default (positions not scaled)"
        )
    if more := sorted(set(rope) - {"rope_type", "type", "rope_theta", "partial_rotary_factor"}):
        raise BadInput(f"{where}: rope_parameters.{more[0]}={shown(rope[more[0]])}: must not be there")
    if rope.get("partial_rotary_factor", 1) != 1:
        raise BadInput(
            f"{where}: rope_parameters.partial_rotary_factor={shown(rope['partial_rotary_factor'])}: must be 1"
        )
    bases: list[float | None] = [finite(tree["rope_theta"]) for tree in (value, rope) if "rope_theta" in tree]
    if None in bases or len(set(bases)) > 1:
        said = shown([value.get("rope_theta"), rope.get("rope_theta")])
        raise BadInput(f"{where}: rope_theta={said}: must be one number")
    return next((base for base in bases if base is not None), 10_000.0)
