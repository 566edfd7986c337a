"""The parameter tree: shape, axes and scales of every array. Plain Python: planning counts it without JAX.

Whatever is counted, cut, scaled or decayed is read off this tree, so that a new matrix counts itself.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from model import parametrization
from model.config import ModelConfig
from model.parametrization import Scales

if TYPE_CHECKING:
    from flax import nnx

Parameters = dict[str, Any]  # a nested dict with an array at each leaf


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of the tree.

    Attributes:
      shape: of the array. axes: its logical axes (model/sharding.py).
      scales: its row of the parametrization.
      met: of the axis "experts", how many a token meets; None for all.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    scales: Scales
    met: int | None = None

    @property
    def size(self) -> int:
        """Numbers in all layers."""
        return math.prod(self.shape)

    @property
    def active(self) -> int:
        """Numbers that one token meets, in all layers."""
        return self.size if self.met is None else self.size // self.shape[self.axes.index("experts")] * self.met

    @property
    def is_matrix(self) -> bool:
        """Whether its products cost FLOPs: all but gains."""
        return len(self.axes) - ("layers" in self.axes) >= 2


class Architecture(Protocol):
    """What a file of model/blocks/ gives."""

    def parameters(self, config: ModelConfig) -> dict[str, Leaf]:
        """The arrays of one block, without the layer axis."""

    def block(self) -> "Callable[[ModelConfig, Parameters], nnx.Module]":
        """The class of the block, built from the configuration and its arrays."""

    def after_step(
        self, config: ModelConfig, before: Parameters, after: Parameters, kept: dict[str, Any]
    ) -> Parameters:
        """Where blocks hand training something (`with_extras`): their arrays after an optimizer step."""


def architecture(config: ModelConfig) -> Architecture:
    """The file of model/blocks/ that `model.architecture` names."""
    return cast(Architecture, importlib.import_module(f"model.blocks.{config.architecture}"))


def encoder_of(config: ModelConfig) -> "Callable[[ModelConfig, Parameters], nnx.Module] | None":
    """The class of the encoder's blocks, built from the arrays encoder_*; None for one stack."""
    found = getattr(architecture(config), "encoder", None)
    return found() if found else None


def beginning_with(prefix: str, params: Parameters) -> Parameters:
    """The arrays whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in params.items() if name.startswith(prefix)}


def reads_source(config: ModelConfig, name: str) -> bool:
    """Whether a matrix of a block multiplies the tokens of the encoder of an encoder_decoder."""
    return name.startswith(getattr(architecture(config), "SOURCE", ()) or ("\0",))


def runs_feature_major(config: ModelConfig) -> bool:
    """Whether the block computes feature-major activations as well as token-major ones (model/blocks/__init__.py)."""
    return bool(getattr(architecture(config), "RUNS_FEATURE_MAJOR", False))


def mixer(config: ModelConfig) -> str:
    """What mixes positions where `transformer.Attention` does not (MIXER of the file); empty where it does."""
    return str(config.declared.get("MIXER", ""))


def _sizes(config: ModelConfig) -> dict[str, int]:
    """Lengths of the axes that follow from the configuration; all heads lie along one axis."""
    head_width = config.resolved_head_width
    return {
        "width": config.width,
        "heads": config.heads * head_width,
        "kv_heads": config.kv_heads * head_width,
        "head_width": head_width,
        "ff_width": config.resolved_ff_width,
        "state": config.width,
    }


def matrix(config: ModelConfig, reads: str | tuple[str, int], writes: str | tuple[str, int]) -> Leaf:
    """A matrix of a block, (fan-in, fan-out).

    Matrices start normal with deviation 1/sqrt(fan-in), so that every product keeps the scale of what it reads (LeCun
    et al. 1998, "Efficient BackProp", section 4.6). Those that write to the residual stream are smaller by sqrt(2 L),
    so that the stream's variance at the end does not grow with depth (Radford et al. 2019, GPT-2, section 2.3).
    model/parametrization.py has the numbers, and what mup changes.

    Args:
      reads, writes: axes, by name where the configuration gives the length, else (name, length); such an axis is
        taken to be the same in wider models.
    """
    sizes = _sizes(config)
    axes = [(axis, sizes[axis]) if isinstance(axis, str) else axis for axis in (reads, writes)]
    (first, fan_in), (last, _) = axes
    base = {name: config.base_width for name in ("width", "heads", "state")} | {
        "ff_width": config.base_ff_width
    }
    scales = parametrization.matrix(config, fan_in, base.get(first, fan_in), writes=last == "width")
    return Leaf(tuple(length for _, length in axes), (first, last), scales)


def gain(config: ModelConfig, axis: str) -> Leaf:
    """A normalization gain of a block, which starts at one."""
    return Leaf((_sizes(config)[axis],), (axis,), parametrization.block_gain(config))


def of_experts(leaf: Leaf, experts: int, met: int) -> Leaf:
    """One matrix for each of `experts`, of which a token meets `met`: (E, fan-in, fan-out)."""
    return dataclasses.replace(leaf, shape=(experts, *leaf.shape), axes=("experts", *leaf.axes), met=met)


def layout(config: ModelConfig) -> dict[str, Any]:
    """The tree of `Leaf` that describes every parameter; blocks are stacked over a leading layer axis.

    The embedding table has deviation 1/sqrt(D), so that its product with a normalized row is of order one and a tied
    head starts near the uniform distribution.
    """
    table = Leaf((config.vocabulary, config.width), ("vocabulary", "width"), parametrization.table(config))
    tree: dict[str, Any] = {
        "embedding": table,
        "blocks": {
            name: dataclasses.replace(leaf, shape=(config.depth, *leaf.shape), axes=("layers", *leaf.axes))
            for name, leaf in architecture(config).parameters(config).items()
        },
        "final_norm": Leaf((config.width,), ("width",), parametrization.final_gain(config)),
    }
    if not config.tied:
        tree["head"] = table
    return tree


def leaves(tree: dict[str, Any]) -> Iterator[Leaf]:
    """Every `Leaf` of a tree or of a part of it."""
    for node in tree.values():
        if isinstance(node, Leaf):
            yield node
        else:
            yield from leaves(node)


def each(tree: dict[str, Any], value: Callable[[Leaf], object]) -> dict[str, Any]:
    """A tree like the parameters with `value` of each `Leaf`."""
    return {name: value(node) if isinstance(node, Leaf) else each(node, value) for name, node in tree.items()}


def learning_rate_multipliers(config: ModelConfig) -> dict[str, Any]:
    """What each parameter's Adam step is multiplied by: a tree of floats like the parameters."""
    return each(layout(config), lambda leaf: leaf.scales.learning_rate)


def epsilon_multipliers(config: ModelConfig) -> dict[str, Any]:
    """What Adam's epsilon is multiplied by for each parameter: a tree of floats like the parameters."""
    return each(layout(config), lambda leaf: leaf.scales.epsilon)
