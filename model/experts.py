"""A feed-forward of many networks, of which every token meets a few: routing, and products in blocks of sorted tokens.

Every token's choices are sorted by expert, and every expert's tokens fill blocks of 64 of their own, the last one in
part. A block meets one expert, so all products are of blocks with matrices that were picked for them. Shapes do not
depend on the choices, no token is dropped, and what is computed for nothing is at most one block an expert, less one
token. (`jax.lax.ragged_dot` multiplies every token with every expert on a CPU and on some GPUs.)

Axes: N tokens, J experts that a token meets, E experts, R rows of all blocks, P blocks, Q rows of a block.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from model import transformer
from model.config import ModelConfig
from model.expert_rows import block_count, rows_of_block
from model.extras import Extras
from model.parameters import Parameters, beginning_with
from model.sharding import on_each_device, shards


class Routes(NamedTuple):
    """Where tokens go.

    Attributes:
      chosen_NJ: experts, best first, int32.
      weight_NJ: of each in the token's sum, float32.
      share_NE: the router's probabilities, float32. logz_N: log of their partition sums.
    """

    chosen_NJ: jax.Array
    weight_NJ: jax.Array
    share_NE: jax.Array
    logz_N: jax.Array


def route(logits_NE: jax.Array, count: int, bias_E: jax.Array | None = None) -> Routes:
    """The `count` experts of largest probability for each token; of equal ones the first.

    A token's weights are its probabilities, divided by their sum where it meets more than one expert (Qwen3-MoE's
    norm_topk_prob; Lepikhin et al. 2020, arXiv 2006.16668). With one they are not: the sum's weight would always be 1,
    and nothing would train the router (Fedus et al. 2021, arXiv 2101.03961, eq. 2).

    Args:
      bias_E: added to the probabilities for the choice alone.
    """
    logz_N = jax.nn.logsumexp(logits_NE, axis=-1)
    share_NE = jnp.exp(logits_NE - logz_N[:, None])
    scores_NE = share_NE if bias_E is None else share_NE + bias_E
    chosen_NJ = jax.lax.top_k(jax.lax.stop_gradient(scores_NE), count)[1]
    weight_NJ = jnp.take_along_axis(share_NE, chosen_NJ, axis=-1)
    if count > 1:
        weight_NJ = weight_NJ / jnp.sum(weight_NJ, axis=-1, keepdims=True)
    return Routes(chosen_NJ, weight_NJ, share_NE, logz_N)


class Places(NamedTuple):
    """Which row of which block each choice has.

    Attributes:
      row_NJ: of each choice, int32.
      choice_R: of each row, numbered n J + j; N J where the row is empty.
      expert_P: of each block.
    """

    row_NJ: jax.Array
    choice_R: jax.Array
    expert_P: jax.Array


def places(chosen_NJ: jax.Array, experts: int) -> Places:
    """Choices sorted by expert, in order of tokens, every expert's from a new block on."""
    choices = chosen_NJ.size
    rows = rows_of_block(choices, experts)
    order = jnp.argsort(chosen_NJ.reshape(-1), stable=True).astype(jnp.int32)
    count_E = load(chosen_NJ, experts)
    blocks_E = (count_E + rows - 1) // rows
    first_E = jnp.cumsum(count_E) - count_E  # of an expert's choices, in `order`
    end_E = jnp.cumsum(blocks_E)
    block_P = jnp.arange(block_count(choices, experts, rows), dtype=jnp.int32)
    expert_P = jnp.minimum(jnp.searchsorted(end_E, block_P, side="right"), experts - 1).astype(jnp.int32)
    # Number of a row among its expert's; blocks behind the last expert's end are empty.
    number_PQ = (block_P - (end_E - blocks_E)[expert_P])[:, None] * rows + jnp.arange(rows)
    sorted_PQ = jnp.where(
        number_PQ < count_E[expert_P][:, None], first_E[expert_P][:, None] + number_PQ, choices
    )
    choice_R = jnp.append(order, choices)[sorted_PQ.reshape(-1)].astype(jnp.int32)
    expert_A = chosen_NJ.reshape(-1)[order]
    row_A = (end_E - blocks_E)[expert_A] * rows + jnp.arange(choices) - first_E[expert_A]
    row_NJ = jnp.zeros(choices, jnp.int32).at[order].set(row_A.astype(jnp.int32), unique_indices=True)
    return Places(row_NJ.reshape(chosen_NJ.shape), choice_R, expert_P)


def load(chosen_NJ: jax.Array, experts: int) -> jax.Array:
    """Choices of each expert, (E,) int32."""
    return jnp.sum(chosen_NJ.reshape(-1, 1) == jnp.arange(experts), axis=0, dtype=jnp.int32)


# Rows and choices are each other's inverse, so both directions of both derivatives are look-ups: fast, and the same
# bits every time, which sums of scattered rows are not on a GPU.


@jax.custom_vjp
def taken(x_ND: jax.Array, where: Places) -> jax.Array:
    """The token of each row, (R, D); zeros where it is empty."""
    return _token_of_row(x_ND, where)


def _token_of_row(x_ND: jax.Array, where: Places) -> jax.Array:
    token_R = where.choice_R // where.row_NJ.shape[1]
    return jnp.take(x_ND, token_R, axis=0, mode="fill", fill_value=0)


def _taken_backward(where: Places, d_RD: jax.Array) -> tuple[jax.Array, None]:
    return jnp.sum(d_RD[where.row_NJ], axis=1), None


taken.defvjp(lambda x_ND, where: (_token_of_row(x_ND, where), where), _taken_backward)


@jax.custom_vjp
def summed(y_RD: jax.Array, weight_NJ: jax.Array, where: Places) -> jax.Array:
    """The weighted sum of each token's rows, (N, D) float32."""
    return _weighted(y_RD, weight_NJ, where)


def _weighted(y_RD: jax.Array, weight_NJ: jax.Array, where: Places) -> jax.Array:
    return jnp.einsum("njd,nj->nd", y_RD[where.row_NJ], weight_NJ, preferred_element_type=jnp.float32)


def _summed_backward(
    kept: tuple[jax.Array, jax.Array, Places], d_ND: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    y_RD, weight_NJ, where = kept
    weight_R = jnp.take(weight_NJ.reshape(-1), where.choice_R, mode="fill", fill_value=0)
    d_RD = weight_R[:, None] * _token_of_row(d_ND, where)
    d_weight_NJ = jnp.einsum("njd,nd->nj", y_RD[where.row_NJ], d_ND, preferred_element_type=jnp.float32)
    return d_RD.astype(y_RD.dtype), d_weight_NJ, None


summed.defvjp(lambda *given: (_weighted(*given), given), _summed_backward)


def feed_forward(
    x_ND: jax.Array,
    chosen_NJ: jax.Array,
    weight_NJ: jax.Array,
    up_EDF: jax.Array,
    down_EFD: jax.Array,
    gate_EDF: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Every token through the experts that it chose, weighted, (N, D) in the dtype of x; and which choices have a row,
    (N, J) bool: all of them."""
    experts = up_EDF.shape[0]
    where = places(chosen_NJ, experts)
    x_PQD = taken(x_ND, where).reshape(where.expert_P.size, -1, x_ND.shape[1])

    def product(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.einsum("pqi,pio->pqo", x, weight.astype(x.dtype)[where.expert_P])

    up_PQF = product(x_PQD, up_EDF)
    if gate_EDF is None:
        hidden_PQF = jax.nn.gelu(up_PQF, approximate=True)
    else:
        hidden_PQF = jax.nn.silu(product(x_PQD, gate_EDF)) * up_PQF
    y_PQD = product(hidden_PQF, down_EFD)
    y_ND = summed(y_PQD.reshape(-1, x_ND.shape[1]), weight_NJ, where).astype(x_ND.dtype)
    number_NJ = jnp.arange(chosen_NJ.size).reshape(chosen_NJ.shape)
    return y_ND, where.choice_R[where.row_NJ] == number_NJ


class Experts(nnx.Module):
    """The feed-forward of a mixture of experts; model/config.py has its choices."""

    def __init__(self, config: ModelConfig, params: Parameters):
        self.config = config
        self.router = nnx.Param(params["router"])
        self.bias = nnx.Param(params["router_bias"]) if config.balance == "bias" else None
        gated = config.activation == "swiglu"
        self.up, self.down = nnx.Param(params["experts_up"]), nnx.Param(params["experts_down"])
        self.gate = nnx.Param(params["experts_gate"]) if gated else None
        own = beginning_with("shared_", params)
        self.shared = transformer.FeedForward(config, own) if own else None

    def __call__(self, x_BTD: jax.Array) -> tuple[jax.Array, Extras]:
        """What is added to the stream, and what is handed to the objective."""
        y_ND, extras = self.of_tokens(x_BTD.reshape(-1, x_BTD.shape[-1]))
        y_BTD = y_ND.reshape(x_BTD.shape)
        return y_BTD if self.shared is None else y_BTD + self.shared(x_BTD), extras

    def of_tokens(self, x_ND: jax.Array) -> tuple[jax.Array, Extras]:
        """The chosen experts' sum for each token, (N, D), and what is handed to the objective."""
        config = self.config
        # In float32: bfloat16 makes near ties of the router's scores (Fedus et al. 2021, section 2.4).
        logits_NE = x_ND.astype(jnp.float32) @ self.router[...]
        bias_E = None if self.bias is None else self.bias[...]
        routes = route(logits_NE, config.resolved_experts_per_token, bias_E)
        weights = [self.up[...], self.down[...]] + ([] if self.gate is None else [self.gate[...]])
        y_ND, placed_NJ = _everywhere(len(weights))(x_ND, routes.chosen_NJ, routes.weight_NJ, *weights)
        return y_ND, extras_of(config, routes, placed_NJ)


def _everywhere(matrices: int):  # type: ignore[no-untyped-def]
    """`feed_forward` on each device over its own tokens: no choice of one meets a choice of another.

    The experts of a layer are gathered where they are used. Where their hidden width is cut, so are the products.
    """
    cut = shards("ff_width") > 1

    def here(x_ND, chosen_NJ, weight_NJ, up_EDF, down_EFD, gate_EDF=None):  # type: ignore[no-untyped-def]
        y_ND, placed_NJ = feed_forward(x_ND, chosen_NJ, weight_NJ, up_EDF, down_EFD, gate_EDF)
        return (jax.lax.psum(y_ND, "tensor") if cut else y_ND), placed_NJ

    tokens, whole = ("batch", "activation_width"), ("all_experts", "activation_width", "ff_width")
    weights = (whole, ("all_experts", "ff_width", "activation_width"), whole)[:matrices]
    return on_each_device(here, tokens, (tokens, tokens, tokens, *weights))


def extras_of(config: ModelConfig, routes: Routes, placed_NJ: jax.Array) -> Extras:
    """Penalties, logged numbers and loads of one layer.

    The penalties are router_z_loss times the mean squared log-partition (Zoph et al. 2022, arXiv 2202.08906, eq. 5),
    and the balance's weight times E sum_e f_e p_e, with f the share of choices and p the mean probability of each
    expert: 1 where both are even (Fedus et al. 2021, arXiv 2101.03961, eqs. 4 to 6). Both are of all tokens whose
    gradient is taken at once: a microbatch, over all devices.
    """
    experts = config.resolved_experts
    load_E = load(routes.chosen_NJ, experts)
    fraction_E = load_E / routes.chosen_NJ.size
    balance = experts * jnp.sum(fraction_E * jnp.mean(routes.share_NE, axis=0))
    router_z = jnp.mean(jnp.square(routes.logz_N))
    penalty = config.router_z_loss * router_z
    if config.balance == "auxiliary":
        penalty = penalty + config.resolved_balance_weight * balance
    entropy = -jnp.sum(jax.scipy.special.xlogy(fraction_E, fraction_E)) / jnp.log(experts)
    logged = {
        "router_z": router_z,
        "balance": balance,
        "load_entropy": entropy,
        "load_largest": experts * jnp.max(fraction_E),
        "dropped_share": 1 - jnp.mean(placed_NJ, dtype=jnp.float32),
    }
    return Extras(penalty, jax.lax.stop_gradient(logged), {"load": load_E.astype(jnp.float32)})


def moved_bias(config: ModelConfig, bias_LE: jax.Array, load_LE: jax.Array) -> jax.Array:
    """The bias after a step: an expert of more than the mean load becomes less likely (Wang et al. 2024, arXiv
    2408.15664, algorithm 1)."""
    error_LE = jnp.mean(load_LE, axis=-1, keepdims=True) - load_LE
    return bias_LE + config.resolved_balance_weight * jnp.sign(error_LE)
