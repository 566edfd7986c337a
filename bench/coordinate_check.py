"""Does the scale of a network's activations depend on its width once it trains?  (Yang et al. 2022, section D.1)

    python -m bench.coordinate_check --out coordinates.json
    python -m bench.coordinate_figure coordinates.json --out docs/results/coordinate_check.png    # the figure

trains networks of several widths for a few steps at one learning rate, on random text with some structure, under the
standard parametrization and under mup, and measures the root mean square of what flows through them before and after.
Under mup the blocks and the residual stream keep their scale; under the standard parametrization they grow with width.
Logits are printed too: under mup their random start fades as 1 / sqrt(width), so ten steps do not make them flat.
"""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from core import cli
from core.errors import BadInput, exit_on_bad_input
from core.files import write_json
from model.config import ModelConfig
from model.depth import of_layer
from model.kernels.install import with_kernels
from model.parameters import Parameters
from model.parametrization import logit_multiplier
from model.sharding import make_mesh
from model.transformer import Transformer
from training.program import Program
from training.spec import OptimConfig
from training.state import hyperparameters
from training.step import make_initialization, make_train_step

VOCABULARY = 64
HEAD_WIDTH = 16


@dataclasses.dataclass(frozen=True)
class CoordinateCheck:
    """What is trained.

    Attributes:
      widths: model widths, multiples of 16.
      base_width: of mup; well below the widths, so that what is left of the random start is small in all of them.
      depth: blocks.
      steps: optimizer steps.
      learning_rate: of every width.
      seeds: repetitions that differ in initialization; the scales are averaged.
      sequences, length: of a batch.
      out: where to write the measurements as JSON; empty for nowhere.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    base_width: int = 16
    depth: int = 2
    steps: int = 10
    learning_rate: float = 0.008
    seeds: int = 1
    sequences: int = 8
    length: int = 32
    out: Path | None = None

    def __post_init__(self) -> None:
        for width in self.widths:
            if width < HEAD_WIDTH or width % HEAD_WIDTH:
                raise BadInput(f"widths={width}: must be a positive multiple of {HEAD_WIDTH}")
        if len(set(self.widths)) < 2:
            raise BadInput(f"widths={list(self.widths)}: must be at least two different ones")
        for key in ("base_width", "depth", "steps", "seeds", "sequences", "length"):
            if getattr(self, key) < 1:
                raise BadInput(f"{key}={getattr(self, key)}: must be at least 1")
        if not 0 < self.learning_rate < np.inf:
            raise BadInput(f"learning_rate={self.learning_rate}: must be positive")


def markov_text(batches: int, sequences: int, length: int) -> np.ndarray:
    """Sequences of a random Markov chain over the vocabulary, int32 (batches, sequences, length + 1)."""
    generator = np.random.default_rng(0)
    chances_VV = generator.dirichlet(np.full(VOCABULARY, 0.1), size=VOCABULARY).cumsum(axis=1)
    tokens = generator.integers(0, VOCABULARY, (batches, sequences, length + 1))
    for place in range(length):
        passed = chances_VV[tokens[..., place]] < generator.random((batches, sequences, 1))
        tokens[..., place + 1] = passed.sum(axis=-1).clip(0, VOCABULARY - 1)
    return tokens.astype(np.int32)


def _model(options: CoordinateCheck, parametrization: Literal["standard", "mup"], width: int) -> ModelConfig:
    heads = width // HEAD_WIDTH
    model = ModelConfig(
        vocabulary=VOCABULARY, width=width, depth=options.depth, heads=heads, kv_heads=heads, scan=True
    )
    if parametrization == "standard":
        return model
    return dataclasses.replace(
        model, parametrization="mup", base_width=options.base_width, base_depth=options.depth
    )


def activations(config: ModelConfig, params: Parameters, tokens_BT: jax.Array) -> dict[str, jax.Array]:
    """Every block's sum of branches, the residual stream at the end and the logits: `block 1` to `block L`, `stream`
    and `logits`."""
    model = with_kernels(Transformer(config, params), tokens_BT.shape)
    x = model.embedding(tokens_BT)
    found = {}
    for layer in range(config.depth):
        following = of_layer(model.blocks, layer)(x)
        found[f"block {layer + 1}"] = following - x
        x = following
    logits = model.head(logit_multiplier(config) * model.final_norm(x))
    return {**found, "stream": x, "logits": logits}


def _root_mean_square(x: jax.Array) -> float:
    return float(jnp.sqrt(jnp.mean(jnp.square(x))))


def measure(options: CoordinateCheck) -> list[dict[str, Any]]:
    """One row for each parametrization, width and activation, averaged over seeds.

    scale: root mean square after the steps. change: of the difference to the start.
    """
    batches = markov_text(options.steps + 1, options.sequences, options.length)
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    optim = OptimConfig(learning_rate=options.learning_rate, weight_decay=0.0)
    hyper = {**hyperparameters(optim), "learning_rate": options.learning_rate}
    rows = []
    for parametrization in ("standard", "mup"):
        for width in sorted(set(options.widths)):
            config = _model(options, parametrization, width)  # type: ignore[arg-type]
            initialize, _ = make_initialization(config, mesh)
            step = make_train_step(Program(config), mesh)
            look = jax.jit(functools.partial(activations, config))
            measured: dict[str, list[tuple[float, float]]] = {}
            with jax.set_mesh(mesh):
                for seed in range(options.seeds):
                    state = initialize(np.uint32(seed))
                    before = look(state.params, batches[-1, :, :-1])
                    for batch_BT in batches[:-1]:
                        state, _ = step(state, batch_BT, hyper)
                    after = look(state.params, batches[-1, :, :-1])
                    for name, x in after.items():
                        pair = (_root_mean_square(x), _root_mean_square(x - before[name]))
                        measured.setdefault(name, []).append(pair)
            for name, pairs in measured.items():
                scale, change = np.mean(pairs, axis=0).tolist()
                rows.append(
                    {
                        "parametrization": parametrization,
                        "width": width,
                        "name": name,
                        "scale": scale,
                        "change": change,
                    }
                )
    return rows


def spreads(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Largest over smallest width's value, {parametrization: {activation: {scale, change}}}: 1 is flat."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for parametrization in ("standard", "mup"):
        mine = [row for row in rows if row["parametrization"] == parametrization]
        for name in dict.fromkeys(row["name"] for row in mine):
            values = {key: [row[key] for row in mine if row["name"] == name] for key in ("scale", "change")}
            result.setdefault(parametrization, {})[name] = {
                key: max(scales) / min(scales) for key, scales in values.items()
            }
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module's first lines."""
    with exit_on_bad_input():
        arguments = sys.argv[1:] if arguments is None else arguments
        options = cli.parse(CoordinateCheck, arguments, "python -m bench.coordinate_check", about=str(__doc__))
        rows = measure(options)
        ratios = spreads(rows)
        widths = sorted(set(options.widths))
        lines = [f"largest over smallest scale, {options.steps} steps, widths {widths[0]} to {widths[-1]}"]
        for name in ratios["mup"]:
            standard, mup = ratios["standard"][name], ratios["mup"][name]
            lines.append(
                f"{name:>8}: standard {standard['scale']:6.2f} (change {standard['change']:6.2f})   "
                f"mup {mup['scale']:5.2f} (change {mup['change']:5.2f})"
            )
        if options.out is not None:
            settings = {**dataclasses.asdict(options), "out": None}
            write_json(options.out, {"settings": settings, "rows": rows, "spreads": ratios})
        print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
