"""A gated linear recurrence that trains in parallel: RG-LRU (De et al. 2024, arXiv 2402.19427, section 2.4)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from model.config import ModelConfig
from model.mixers.residual import RecurrentBlock, Resumed
from model.parameters import Parameters

SHARPNESS = 8.0  # c, the paper's
SLOWEST, FASTEST = (
    0.999,
    0.9,
)  # what a state keeps of itself in a position at the start, its gate open: the paper's
LEAST_SHARE = 1e-12  # of a state's variance that is new: below it the square root has no gradient in float32

State = tuple[jax.Array, jax.Array]  # hidden (B, D) float32; what the taps read of earlier positions (B, P, D)


def rates(width: int) -> np.ndarray:
    """Lambda at the start less the one that its parameter starts at, (D,): a^c = sigmoid(-Lambda)^c lies evenly between
    SLOWEST and FASTEST (the paper draws it from there)."""
    kept = np.linspace(FASTEST, SLOWEST, width)
    return (np.log(np.expm1(-np.log(kept) / SHARPNESS)) - 1.0).astype(np.float32)


class LinearRecurrence(nnx.Module):
    """With r, i sigmoids of W x_t, u_t a weighted sum of P + 1 positions of U x, and log a = -softplus(Lambda):

    a_t = a^(c r_t);  h_t = a_t h_{t-1} + sqrt(1 - a_t^2) i_t u_t;  the result is gelu(V x_t) h_t times a matrix.

    The paper takes the gates from u_t; from x_t they are columns of one product. States are float32.
    """

    def __init__(self, config: ModelConfig, params: Parameters):
        self.input, self.side, self.recurrence_gate, self.input_gate, self.output = (
            nnx.Param(params[name]) for name in ("input", "side", "recurrence_gate", "input_gate", "output")
        )
        self.taps, self.rate = nnx.Param(params["taps"]), nnx.Param(params["rate"])

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        batch, _, width = x_BTD.shape
        earlier_BPD = jnp.zeros((batch, self.taps.shape[0] - 1, width), x_BTD.dtype)
        return self.run(x_BTD, (jnp.zeros((batch, width), jnp.float32), earlier_BPD))[0]

    def run(self, x_BTD: jax.Array, state: State, count_B: jax.Array | None = None) -> tuple[jax.Array, State]:
        """The result and the state after `count_B` positions of each row; after all of them where it is None."""
        hidden_BD, earlier_BPD = state
        length = x_BTD.shape[1]

        def product(weight: nnx.Param[jax.Array]) -> jax.Array:
            return x_BTD @ weight[...].astype(x_BTD.dtype)

        read_BXD = jnp.concatenate([earlier_BPD, product(self.input)], axis=1)  # X = P + T
        taps_PD = self.taps.astype(x_BTD.dtype)
        mixed_BTD = sum(tap_D * read_BXD[:, ago : ago + length] for ago, tap_D in enumerate(taps_PD))
        r_BTD, i_BTD = (
            jax.nn.sigmoid(product(weight).astype(jnp.float32))
            for weight in (self.recurrence_gate, self.input_gate)
        )
        decay_D = SHARPNESS * jax.nn.softplus(self.rate[...] + rates(x_BTD.shape[2]))
        log_BTD = -decay_D * r_BTD
        new_BTD = jnp.sqrt(jnp.maximum(-jnp.expm1(2 * log_BTD), LEAST_SHARE)) * i_BTD * mixed_BTD
        if count_B is not None:  # padding changes no state
            inside_BT1 = (jnp.arange(length) < count_B[:, None])[:, :, None]
            log_BTD, new_BTD = (jnp.where(inside_BT1, array, 0.0) for array in (log_BTD, new_BTD))
        states_BTD = linear_scan(jnp.exp(log_BTD), new_BTD, hidden_BD)
        gated_BTD = jax.nn.gelu(product(self.side), approximate=True) * states_BTD.astype(x_BTD.dtype)
        return gated_BTD @ self.output.astype(x_BTD.dtype), (states_BTD[:, -1], self._last(read_BXD, count_B))

    def _last(self, read_BXD: jax.Array, count_B: jax.Array | None) -> jax.Array:
        """What the taps of the position after the last one read of earlier ones."""
        earlier = self.taps.shape[0] - 1
        if count_B is None:
            return read_BXD[:, read_BXD.shape[1] - earlier :]
        index_BP = count_B[:, None] + jnp.arange(earlier)
        return jnp.take_along_axis(read_BXD, index_BP[:, :, None], axis=1)


def linear_scan(keep_BTD: jax.Array, new_BTD: jax.Array, start_BD: jax.Array) -> jax.Array:
    """h_t = keep_t h_{t-1} + new_t for every t, all at once (Blelloch 1990): O(log T) steps of products and sums."""

    def joined(earlier: State, later: State) -> State:
        return earlier[0] * later[0], later[0] * earlier[1] + later[1]

    new_BTD = new_BTD.at[:, 0].add(keep_BTD[:, 0] * start_BD)
    return jax.lax.associative_scan(joined, (keep_BTD, new_BTD), axis=1)[1]


class LinearRecurrentBlock(RecurrentBlock):
    """With a gated linear recurrence."""

    mixer = LinearRecurrence


class ResumedRecurrence(Resumed, LinearRecurrence):
    """Goes on from the state of each row."""
