"""Every impossible network is refused in one line that names the field, its value and what is allowed."""

import pytest

from core.errors import BadInput
from model.config import ModelConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary": 0}, "model.vocabulary=0: must be at least 1"),
        ({"width": -64}, "model.width=-64: must be at least 1"),
        ({"depth": 0}, "model.depth=0: must be at least 1"),
        ({"heads": 0}, "model.heads=0: must be at least 1"),
        ({"kv_heads": 0}, "model.kv_heads=0: must be at least 1"),
        ({"ff_width": -1}, "model.ff_width=-1: must be at least 1, or 0 for the default rule"),
        ({"head_width": -2}, "model.head_width=-2: must be at least 1, or 0 for the default rule"),
        ({"width": 65}, "model.width=65: must be a multiple of model.heads=2"),
        ({"heads": 4, "kv_heads": 3}, "model.kv_heads=3: must divide model.heads=4"),
        ({"head_width": 7}, "model.head_width=7: must be even"),
        ({"width": 6}, "model.head_width=3: must be even"),
        ({"logit_softcap": -1.0}, "model.logit_softcap=-1.0: must be positive, or 0 for none"),
        ({"logit_softcap": float("nan")}, "model.logit_softcap=nan: must be positive"),
        ({"logit_softcap": float("inf")}, "model.logit_softcap=inf: must be finite"),
        ({"rope_base": 0.0}, "model.rope_base=0.0: must be positive"),
        ({"norm_epsilon": -1e-6}, "model.norm_epsilon=-1e-06: must be positive"),
        ({"norm_epsilon": float("inf")}, "model.norm_epsilon=inf: must be finite"),
        ({"activation": "relu"}, "model.activation='relu': must be one of swiglu, gelu"),
        ({"compute_dtype": "float16"}, "model.compute_dtype='float16': must be one of float32, bfloat16"),
        ({"remat": "all"}, "model.remat='all': must be one of none, block"),
    ],
)
def test_refused(fields, message):
    with pytest.raises(BadInput) as refusal:
        ModelConfig(**fields)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_default_widths():
    assert ModelConfig(width=96, heads=4, kv_heads=4).resolved_head_width == 24
    assert ModelConfig(width=96, heads=4, kv_heads=4).resolved_ff_width == 256
    assert ModelConfig(width=64).resolved_ff_width == 176
    assert ModelConfig(width=64, activation="gelu").resolved_ff_width == 256
    assert ModelConfig(width=64, ff_width=100, head_width=8).resolved_ff_width == 100
