"""The modules of model/transformer.py over feature-major activations x_DN, N = B T tokens side by side: for the CPU.

XLA's CPU compiler vectorizes along the last axis and adds up slowly over it. With the tokens last, every
normalization, softmax and loss adds over an earlier axis, rotary positions turn whole rows, and every weight meets
all tokens in one matrix product. Written for float32.
"""

import jax
import jax.numpy as jnp

from model import experts, rotary, transformer
from model.extras import Extras
from model.kernels.causal_blocks import attend
from model.loss import Pair
from model.parametrization import attention_divisor
from model.sharding import shards


class Norm(transformer.Norm):
    """Over the first axis."""

    def __call__(self, x_DN: jax.Array) -> jax.Array:
        return normalize(x_DN, self, 0)


def normalize(x: jax.Array, norm: transformer.Norm, axis: int) -> jax.Array:
    """x / rms(x) * gain over one axis."""
    scale = jax.lax.rsqrt(jnp.mean(x * x, axis=axis, keepdims=True) + norm.epsilon)
    return x * scale * norm.gain[...].reshape(-1, *(1,) * (x.ndim - axis - 1))


def project(x_DN: jax.Array, weight_DF: jax.Array) -> jax.Array:
    """The product of every token with a matrix, (F, N)."""
    return jax.lax.dot_general(weight_DF, x_DN, (((0,), (0,)), ((), ())))


class Attention(transformer.Attention):
    """By `causal_blocks.attend`; `length` is T."""

    length = 0

    def __call__(self, x_DN: jax.Array) -> jax.Array:
        config = self.config
        groups, head_width = config.kv_heads, config.resolved_head_width
        projections = (project(x_DN, weight[...]) for weight in (self.query, self.key, self.value))
        q_HKBT, k_GKBT, v_GKBT = (
            x.reshape(-1, head_width, x_DN.shape[1] // self.length, self.length) for x in projections
        )
        if config.qk_norm:
            q_HKBT, k_GKBT = normalize(q_HKBT, self.query_norm, 1), normalize(k_GKBT, self.key_norm, 1)
        q_HKBT = rotate(q_HKBT, config.rope_base) / attention_divisor(config)
        k_GKBT = rotate(k_GKBT, config.rope_base)
        q_GBKRT = q_HKBT.reshape(groups, -1, *q_HKBT.shape[1:]).transpose(0, 3, 2, 1, 4)
        mixed_GBKRT = attend(q_GBKRT, k_GKBT.swapaxes(1, 2), v_GKBT.swapaxes(1, 2))
        mixed_EN = mixed_GBKRT.transpose(0, 3, 2, 1, 4).reshape(config.heads * head_width, -1)
        return project(mixed_EN, self.output[...])


def rotate(x_HKBT: jax.Array, base: float) -> jax.Array:
    """Rotary positions, as `rotary.rotate`."""
    cosine, sine = (table.T[:, None, :] for table in rotary.tables(x_HKBT.shape[3], x_HKBT.shape[1], base))
    first, second = jnp.split(x_HKBT, 2, axis=1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=1)


class FeedForward(transformer.FeedForward):
    """With gate and up as one product where no mesh cuts them."""

    def __call__(self, x_DN: jax.Array) -> jax.Array:
        up_DF = self.up[...]
        if self.gate is None:
            hidden_FN = jax.nn.gelu(project(x_DN, up_DF), approximate=True)
        # A cut over ff_width would separate a gate from what it multiplies; one over width has each matrix gathered.
        elif shards("ff_width") > 1 or shards("width") > 1:
            hidden_FN = jax.nn.silu(project(x_DN, self.gate[...])) * project(x_DN, up_DF)
        else:
            hidden_FN = _side_by_side(x_DN, self.gate[...], up_DF)
        return project(hidden_FN, self.down[...])


def _side_by_side_forward(x_DN, gate_DF, up_DF):  # type: ignore[no-untyped-def]
    weight_DE = jnp.concatenate([gate_DF, up_DF], axis=1)
    product_EN = jax.lax.optimization_barrier(project(x_DN, weight_DE))
    gate_FN, up_FN = jnp.split(product_EN, 2)
    return jax.nn.silu(gate_FN) * up_FN, (x_DN, weight_DE, product_EN)


def _side_by_side_backward(kept, cotangent_FN):  # type: ignore[no-untyped-def]
    x_DN, weight_DE, product_EN = kept
    # Behind a barrier the sigmoid is computed again: that costs less than to write it and read it.
    gate_FN, up_FN = jnp.split(jax.lax.optimization_barrier(product_EN), 2)
    share_FN = jax.nn.sigmoid(gate_FN)
    d_gate_FN = cotangent_FN * up_FN * (share_FN * (1 + gate_FN * (1 - share_FN)))
    d_up_FN = cotangent_FN * (gate_FN * share_FN)
    d_product_EN = jax.lax.optimization_barrier(jnp.concatenate([d_gate_FN, d_up_FN]))
    d_weight_DE = jax.lax.dot_general(x_DN, d_product_EN, (((1,), (1,)), ((), ())))
    return weight_DE @ d_product_EN, *jnp.split(d_weight_DE, 2, axis=1)


@jax.custom_vjp
def _side_by_side(x_DN: jax.Array, gate_DF: jax.Array, up_DF: jax.Array) -> jax.Array:
    """silu of one product times the other, (F, N), both computed as one, E = 2 F: the work in between passes over
    memory once each way.

    As two products, XLA writes the sigmoid, what it multiplies and either gradient as arrays of their own.
    """
    return _side_by_side_forward(x_DN, gate_DF, up_DF)[0]


_side_by_side.defvjp(_side_by_side_forward, _side_by_side_backward)


class Embedding(transformer.Embedding):
    """The table's row of every token as a column, (D, N)."""

    stream = ("activation_width", "batch")  # the sequences lie one after the other

    def look_up(self, table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
        return jnp.take(table_VD, tokens_BT.reshape(-1), axis=0).T


class Head(transformer.Head):
    """Over logits (V, N); `length` is T."""

    length = 0

    def __call__(self, x_DN: jax.Array) -> jax.Array:
        return self.logits(x_DN).T.reshape(-1, self.length, self.table.shape[0])

    def logits(self, x_DN: jax.Array) -> jax.Array:
        """Scores of every next token, (V, N)."""
        logits_VN = self.table[...] @ x_DN
        return self.softcap * jnp.tanh(logits_VN / self.softcap) if self.softcap else logits_VN

    def token_losses(self, x_DN: jax.Array, targets_BT: jax.Array) -> Pair:
        nll_N, logz_N = _losses(self.logits(x_DN), targets_BT.reshape(-1))
        return nll_N.reshape(targets_BT.shape), logz_N.reshape(targets_BT.shape)


def _losses_forward(logits_VN, targets_N):  # type: ignore[no-untyped-def]
    largest_N = jnp.max(logits_VN, axis=0)
    logz_N = largest_N + jnp.log(jnp.sum(jnp.exp(logits_VN - largest_N), axis=0))
    target_N = logits_VN[targets_N, jnp.arange(targets_N.size)]
    return (logz_N - target_N, logz_N), (logits_VN, logz_N, targets_N)


def _losses_backward(kept, cotangents):  # type: ignore[no-untyped-def]
    logits_VN, logz_N, targets_N = kept
    d_loss_N, d_logz_N = cotangents
    d_logits_VN = jnp.exp(logits_VN - logz_N) * (d_loss_N + d_logz_N)
    return d_logits_VN.at[targets_N, jnp.arange(targets_N.size)].add(-d_loss_N), None


@jax.custom_vjp
def _losses(logits_VN: jax.Array, targets_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _losses_forward(logits_VN, targets_N)[0]


_losses.defvjp(_losses_forward, _losses_backward)


class Experts(experts.Experts):
    """Tokens are picked token by token, so between two transpositions they lie as in the definition."""

    def __call__(self, x_DN: jax.Array) -> tuple[jax.Array, Extras]:
        y_ND, extras = self.of_tokens(x_DN.T)
        return y_ND.T if self.shared is None else y_ND.T + self.shared(x_DN), extras


KERNELS = {kernel.__bases__[0]: kernel for kernel in (Norm, Attention, FeedForward, Experts, Embedding, Head)}
