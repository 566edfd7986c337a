"""One more block, gated attention (Qiu et al. 2025, arXiv 2505.06708), is one file of a few lines: it trains, stops,
packs, is counted and decodes."""

import json

import pytest

from tests.support.dropped import assert_trains_resumes_and_packs, call, small_run, train_everywhere, write_copy

pytestmark = pytest.mark.long

GATED = '''
"""Attention whose result is multiplied by a gate of the same input, head number by head number."""

import jax
from flax import nnx

from model.blocks import decoder
from model.parameters import matrix
from model.transformer import Attention, Block


def parameters(config):
    return {**decoder.parameters(config), "side": matrix(config, "width", ("side", config.width))}


class Gated(nnx.Module):
    def __init__(self, config, params):
        self.attention, self.side = Attention(config, params), nnx.Param(params["side"])

    def __call__(self, x_BTD):
        return self.attention(x_BTD) * jax.nn.sigmoid(x_BTD @ self.side[...])


class GatedBlock(Block):
    def __init__(self, config, params):
        super().__init__(config, params)
        self.attention = Gated(config, params)


def block():
    return GatedBlock
'''

COUNTED = """
import json, sys
import jax
from core.codec import from_json
from model.decode.controls import Controls
from model.decode.generate import Decoding, Prompt, generate
from model.initialize import init
from model.ledger import ledger
from model.config import ModelConfig
import dataclasses, numpy as np
config = from_json(ModelConfig, json.loads(sys.argv[1]))
params = init(config, jax.random.key(0))
(text,) = generate(config, params, [Prompt(np.array([1, 2, 3], np.int32))], Decoding(Controls(temperature=0), 9))
plain = dataclasses.replace(config, architecture="decoder")
counts = [ledger(one, 32)["flops_per_token"]["exact"] for one in (config, plain)]
print(json.dumps({"tokens": len(text.tokens), "more": counts[0] - counts[1]}))
"""


def test_gated_attention_is_one_file(tmp_path):
    copy = write_copy(tmp_path / "copy", "model/blocks/gated_attention.py", GATED)
    model = {
        "width": 16,
        "depth": 1,
        "heads": 1,
        "kv_heads": 1,
        "scan": False,
        "architecture": "gated_attention",
    }
    assert small_run(copy, model=model)["model"] == model
    assert_trains_resumes_and_packs(train_everywhere(copy, model=model))
    found = call(copy, COUNTED, json.dumps(model))
    assert found == {"tokens": 9, "more": 6 * 16 * 16}
