"""The network over new positions alone: attention reads keys and values that were kept of the positions before.

Blocks are built from their own file, and every `Attention` in them is replaced by `Cached`, or what the file says by
what it says (`decoding`); whatever else a block does must treat each position by itself. That is checked for an
architecture before it decodes anything (`check`).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from core.errors import BadInput
from model import parametrization, rotary
from model.config import ModelConfig, declared, kind_of
from model.decode.size import kept_shapes
from model.initialize import init
from model.kernels.device import products_as
from model.parameters import Parameters, architecture
from model.transformer import Attention, Transformer

# Of each module of a block that mixes positions what it keeps, (L, B, ...): keys and values for an attention.
Cache = tuple[tuple[jax.Array, ...], ...]
LARGEST_ERROR = 1e-3  # of a logit, decoded against computed at once, in float32


class Cached(Attention):
    """Attention of S new positions of each row over the C that are kept.

    Attributes:
      start_B: position of each row's first new token.
      kept: keys and values, (B, C, G, K) each; replaced by those with the new positions in them.
    """

    start_B: jax.Array
    kept: tuple[jax.Array, jax.Array]

    def __call__(self, x_BSD: jax.Array) -> jax.Array:
        q_BSHK, k_BSGK, v_BSGK = self.projections(x_BSD)
        position_BS = self.start_B[:, None] + jnp.arange(x_BSD.shape[1])
        capacity = self.kept[0].shape[1]
        turn = functools.partial(
            rotary.rotate_at, position_BT=position_BS, length=capacity, base=self.config.rope_base
        )
        row_B1 = jnp.arange(x_BSD.shape[0])[:, None]
        new = (turn(k_BSGK), v_BSGK)
        keys_BCGK, values_BCGK = (
            old.at[row_B1, position_BS].set(one.astype(old.dtype))
            for old, one in zip(self.kept, new, strict=True)
        )
        self.kept = (keys_BCGK, values_BCGK)
        # What lies behind a row's last position is of padding, and is written over before it can be seen.
        seen_BSC = jnp.arange(capacity) <= position_BS[:, :, None]
        mixed_BSHK = jax.nn.dot_product_attention(
            turn(q_BSHK), keys_BCGK, values_BCGK, mask=seen_BSC[:, None],
            scale=1 / parametrization.attention_divisor(self.config), implementation="xla",
        )  # fmt: skip
        return self.merged(mixed_BSHK)


def empty(config: ModelConfig, rows: int, capacity: int) -> Cache:
    """Room for `capacity` positions of `rows` texts."""
    return tuple(
        tuple(jnp.zeros((config.depth, rows, *shape), dtype) for shape, dtype in arrays)
        for arrays in kept_shapes(config, capacity)
    )


def _resuming(config: ModelConfig) -> dict[Any, Any]:
    """Classes of modules that mix positions, and what goes on in their place from what was kept."""
    own = getattr(architecture(config), "decoding", None)
    return {Attention: Cached} if own is None else dict(own())


def hidden(
    config: ModelConfig,
    params: Parameters,
    cache: Cache,
    tokens_BS: jax.Array,
    start_B: jax.Array,
    count_B: jax.Array | None = None,
) -> tuple[Transformer, jax.Array, Cache]:
    """The network, what its head reads at the new positions (B, S, D), and the cache with them in it.

    Args:
      tokens_BS: new tokens of each row, at positions `start_B` and on.
      count_B: how many of them are not padding; all where it is None.
    """
    model, resuming = Transformer(config, params), _resuming(config)
    counts_B = jnp.full(tokens_BS.shape[0], tokens_BS.shape[1]) if count_B is None else count_B

    def layer(x_BSD: jax.Array, own: tuple[Parameters, Cache]) -> tuple[jax.Array, Cache]:
        arrays, kept = own
        block = architecture(config).block()(config, arrays)
        mixers: list[Any] = [module for _, module in nnx.iter_modules(block) if type(module) in resuming]
        if len(mixers) != len(kept):
            raise BadInput(
                f"model.architecture={config.architecture!r}: cannot be decoded token by token (it has {len(mixers)} "
                f"modules that keep something of earlier positions, and room for {len(kept)})"
            )
        for mixer, one in zip(mixers, kept, strict=True):
            mixer.__class__ = resuming[type(mixer)]
            mixer.start_B, mixer.count_B = nnx.data(start_B), nnx.data(counts_B)
            mixer.kept = nnx.data(one)
        x_BSD = block(x_BSD)
        return x_BSD, tuple(mixer.kept for mixer in mixers)

    x_BSD, cache = jax.lax.scan(layer, model.embedding(tokens_BS), (params["blocks"], cache))
    return model, parametrization.logit_multiplier(config) * model.final_norm(x_BSD), cache


def scores(
    config: ModelConfig,
    params: Parameters,
    cache: Cache,
    tokens_BS: jax.Array,
    start_B: jax.Array,
    count_B: jax.Array | None = None,
) -> tuple[jax.Array, Cache]:
    """Logits of every next token (B, S, V), and the cache with the new positions in it."""
    with products_as(config):
        model, x_BSD, cache = hidden(config, params, cache, tokens_BS, start_B, count_B)
        return model.head(x_BSD), cache


def refuse_unlike_decoder(config: ModelConfig) -> None:
    """Raises BadInput where a network has no next token to predict from those before it."""
    if (kind := kind_of(config.architecture)) != "decoder":
        raise BadInput(
            f"model.architecture={config.architecture}: an {kind.replace('_', '-')} does not go on with a text; "
            "must be a decoder"
        )


@functools.cache
def check(architecture_name: str) -> None:
    """Decode a small network of an architecture token by token and at once.

    Raises:
      BadInput: the two differ: a block mixes positions otherwise than by `Attention`.
    """
    tiny = declared(architecture_name).get("TINY", {})
    config = ModelConfig(
        **{"vocabulary": 11, "width": 16, "depth": 2, **tiny, "architecture": architecture_name}
    )
    params = init(config, jax.random.key(0))
    tokens_BT = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 8)), jnp.int32)
    whole_BTV = jax.jit(lambda params: Transformer(config, params)(tokens_BT))(params)
    step = jax.jit(functools.partial(scores, config))
    cache, rows = empty(config, 2, 8), []
    for position in range(8):
        start_B = np.full(2, position, np.int32)
        logits_B1V, cache = step(params, cache, tokens_BT[:, position : position + 1], start_B)
        rows.append(logits_B1V)
    if float(jnp.abs(jnp.concatenate(rows, axis=1) - whole_BTV).max()) > LARGEST_ERROR:
        raise BadInput(
            f"model.architecture={architecture_name!r}: cannot be decoded token by token (its block mixes positions "
            "otherwise than by model.transformer.Attention)"
        )
