"""Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000)."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from model.config import ModelConfig
from model.mixers.residual import RecurrentBlock, Resumed
from model.parameters import Parameters
from model.sharding import constrain

State = tuple[jax.Array, jax.Array]  # hidden and cell, (B, D) each


class LSTM(nnx.Module):
    """With i, f, o sigmoids and g the tanh of W x_t + U h_{t-1}, f's with a bias that starts at one:

    c_t = f c_{t-1} + i g;  h_t = o tanh(c_t);  the result is h_t times a matrix. Cells are float32.
    """

    def __init__(self, config: ModelConfig, params: Parameters):
        self.input, self.recurrent, self.output = (
            nnx.Param(params[name]) for name in ("input", "recurrent", "output")
        )
        self.forget_bias = nnx.Param(params["forget_bias"])

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        zero_BD = jnp.zeros_like(x_BTD[:, 0])
        return self.run(x_BTD, (zero_BD, zero_BD.astype(jnp.float32)))[0]

    def run(self, x_BTD: jax.Array, state: State, count_B: jax.Array | None = None) -> tuple[jax.Array, State]:
        """The result and the state after `count_B` positions of each row; after all of them where it is None."""
        # Whole on every device before the loop over positions, which would gather it at each.
        recurrent_DG = constrain(self.recurrent.astype(x_BTD.dtype), ("activation_width", "gates"))
        fresh_BTG = x_BTD @ self.input.astype(x_BTD.dtype)

        def step(state: State, new: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
            fresh_BG, time = new
            following = self.cell(state, fresh_BG + state[0] @ recurrent_DG)
            if count_B is not None:
                inside_B1 = (time < count_B)[:, None]
                following = jax.tree.map(functools.partial(jnp.where, inside_B1), following, state)
            return following, following[0]

        positions = (fresh_BTG.swapaxes(0, 1), jnp.arange(x_BTD.shape[1]))
        state, hidden_TBD = jax.lax.scan(step, state, positions)
        return hidden_TBD.swapaxes(0, 1) @ self.output.astype(x_BTD.dtype), state

    def cell(self, state: State, gates_BG: jax.Array) -> State:
        """Hidden and cell of the next position."""
        hidden_BD, cell_BD = state
        i, f, o, g = jnp.split(gates_BG.astype(jnp.float32), 4, axis=-1)
        cell_BD = jax.nn.sigmoid(f + self.forget_bias[...]) * cell_BD + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(cell_BD)).astype(hidden_BD.dtype), cell_BD


class LSTMBlock(RecurrentBlock):
    """With an LSTM."""

    mixer = LSTM


class ResumedLSTM(Resumed, LSTM):
    """Goes on from the state of each row."""
