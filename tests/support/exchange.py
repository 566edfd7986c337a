"""Networks as they are exported: five configurations that use every part of the layout, with every number perturbed."""

import dataclasses

import jax
import numpy as np

from data import tokenizers
from model.config import ModelConfig
from model.exchange import Exported
from model.parameters import layout

BASE = ModelConfig(vocabulary=300, width=48, depth=3, heads=4, kv_heads=2)
MUP = dataclasses.replace(
    BASE,
    width=96,
    depth=4,
    head_width=24,
    parametrization="mup",
    base_width=32,
    base_depth=2,
    base_head_width=8,
)
NETWORKS = {
    "tied, grouped queries": BASE,
    "untied, wide heads, one key head": dataclasses.replace(
        BASE, tied=False, head_width=32, kv_heads=1, rope_base=5e4
    ),
    "llama": dataclasses.replace(BASE, qk_norm=False, norm_epsilon=1e-5),
    "mup": MUP,
    "mup, llama": dataclasses.replace(MUP, qk_norm=False, tied=False),
}
TEXTS = [
    "def main(arguments):\n    return [one for one in arguments if one]  # é, Ā and 日本語 \U0001f600\n" * 4,
    "A law of loss, a grid of sizes; the curve of 1 token in 100.\n" * 4,
]
KINDS = ("byte", "char", "word:40", "bpe:290")


def perturbed(config: ModelConfig, seed: int = 0, spread: float = 0.15) -> dict:
    """Parameters whose gains are away from one and whose matrices are larger than at the start: logits of 4 to 7."""
    draw = np.random.default_rng(seed)

    def leaf(one):
        start = np.ones(one.shape) if one.scales.deviation is None else 0.0
        scale = spread if one.scales.deviation is None else 1.5 * one.scales.deviation
        return (start + scale * draw.normal(size=one.shape)).astype(np.float32)

    return jax.tree.map(leaf, layout(config), is_leaf=lambda node: hasattr(node, "scales"))


def exported(
    config: ModelConfig, kind: str = "byte", context: int = 200, params: dict | None = None
) -> Exported:
    """A model on its way out, with a tokenizer trained on TEXTS."""
    tokenizer = tokenizers.make(kind, TEXTS)
    return Exported(
        name="w48-l3",
        config=config,
        params=perturbed(config) if params is None else params,
        context=context,
        tokenizer=kind,
        tokenizer_json=tokenizer.to_json(),
        vocabulary=tokenizer.vocabulary,
        end=tokenizer.separator,
        card="## How it was trained\n",
    )
