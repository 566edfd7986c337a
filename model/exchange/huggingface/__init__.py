"""A folder in the layout of Hugging Face's transformers: Qwen3 where the network has QK-norm, Llama where not.

Both compute what model/transformer.py computes: RMSNorm before each branch in float32 with its epsilon inside the root,
rotary positions by halves, QK-norm over each head before them, SwiGLU, no biases (transformers, modeling_qwen3.py and
modeling_llama.py). muP's multipliers go into the weights, so that what leaves is a plain network. Weights are
safetensors and everything else is JSON, written here: torch is not needed to export, import or test.
"""

import json
from pathlib import Path

from core.errors import BadInput
from core.files import write_atomic, write_json
from model.config import ModelConfig
from model.exchange import Exported
from model.exchange.huggingface.card import readme
from model.exchange.huggingface.config import CONFIG, GENERATION, config_json, generation_json
from model.exchange.huggingface.tokenizer import TOKENIZER, TOKENIZER_CONFIG, tokenizer_files
from model.exchange.huggingface.weights import WEIGHTS, folded, write_weights

DTYPES = ("float32", "bfloat16")
README = "README.md"


def refuse(config: ModelConfig) -> None:
    """Raises BadInput where no architecture of transformers computes the same."""
    for key, wanted in (("architecture", "decoder"), ("activation", "swiglu"), ("logit_softcap", 0.0)):
        if (value := getattr(config, key)) != wanted:
            raise BadInput(
                f"model.{key}={value}: no layout of transformers is exact for it; --format huggingface takes "
                f"model.{key}={wanted}"
            )


def write(model: Exported, folder: Path, dtype: str) -> None:
    """config.json, model.safetensors, the tokenizer's files, a card, and what lies beside.

    Raises:
      BadInput: as `refuse`, or a block of this run has arrays that the layout has no place for.
    """
    refuse(model.config)
    write_json(folder / CONFIG, config_json(model, dtype))
    write_weights(folder / WEIGHTS, model.config, folded(model.config, model.params), dtype)
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # the library lets nobody else read it
    write_json(folder / GENERATION, generation_json(model))
    content, settings = tokenizer_files(model)
    write_atomic(folder / TOKENIZER, content)
    write_atomic(folder / TOKENIZER_CONFIG, json.dumps(settings, indent=1) + "\n")
    write_atomic(folder / README, readme(model, dtype))
    for name, payload in model.beside.items():
        write_atomic(folder / name, payload)
