"""Run as its own process with 8 fake devices: losses, gradients and places on every mesh against one device."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from model import sharding
from model.config import ModelConfig
from model.initialize import init
from tests.support import network

CONFIG = ModelConfig(vocabulary=64, width=32, depth=2, heads=8, kv_heads=8, ff_width=48, tied=False)


def measure(config: ModelConfig, layout: str) -> dict[str, float]:
    """The largest relative difference from one device over loss and gradient leaves, for each mesh."""
    tokens = np.random.default_rng(0).integers(0, config.vocabulary, (8, 17)).astype(np.int32)

    def loss(params, batch_BT):  # type: ignore[no-untyped-def]
        nll, logz = network.token_losses(config, params, batch_BT[:, :-1], batch_BT[:, 1:], layout)
        return jnp.mean(nll) + 1e-2 * jnp.mean(logz**2)

    params = init(config, jax.random.key(0))
    single = jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(loss))(params, tokens))
    worst = {}
    for shape in ((8, 1, 1), (1, 8, 1), (1, 1, 8), (2, 2, 2)):
        mesh = sharding.make_mesh(shape)
        places = sharding.parameter_shardings(config, mesh)
        placed = jax.device_put(params, places)
        batch = jax.device_put(tokens, sharding.batch_sharding(mesh))
        held = sum(leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(placed))
        with jax.set_mesh(mesh):
            step = jax.jit(jax.value_and_grad(loss), out_shardings=(None, places))
            result = jax.tree.map(np.asarray, step(placed, batch))
        errors = jax.tree.map(lambda a, b: float(np.linalg.norm(a - b) / np.linalg.norm(b)), result, single)
        name = "x".join(map(str, shape))
        worst[name] = max(jax.tree.leaves(errors))
        worst[f"share {name}"] = held / sum(leaf.size for leaf in jax.tree.leaves(params))
    return worst


def main() -> None:
    results = {layout: measure(CONFIG, layout) for layout in ("token-major", "feature-major")}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
