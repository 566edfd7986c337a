"""What decides the compiled step of a run; everything else about the run is an argument of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from core.codec import to_json
from core.errors import BadInput
from model.config import ModelConfig
from training.spec import OptimConfig, RunSpec


@dataclasses.dataclass(frozen=True)
class Program:
    """Runs of one program compile nothing twice, and may be packed where their batches are as large, too.

    Attributes:
      model: the network.
      optimizer: a file of training/optimizers/.
      objective: a file of training/objectives/.
      decay_all: as in `OptimConfig`.
      microbatches: equal parts of a batch whose gradients are averaged, one after the other.
    """

    model: ModelConfig
    optimizer: str = OptimConfig.name
    objective: str = RunSpec.objective
    decay_all: bool = OptimConfig.decay_all
    microbatches: int = 1


def program_of(spec: RunSpec) -> Program:
    """The program that trains a run."""
    return Program(
        spec.model,
        spec.optim.name,
        spec.objective,
        spec.optim.decay_all,
        spec.batch_tokens // (spec.optim.microbatch_tokens or spec.batch_tokens),
    )


def shape_of(spec: RunSpec) -> tuple[Any, ...]:
    """Program, sequence length, tokens of a batch and how it is made of them: what runs must share to be packed."""
    return program_of(spec), spec.data.sequence_length, spec.batch_tokens, *spec.objective_settings.values()


def check_one_shape(specs: Sequence[RunSpec]) -> None:
    """Raises BadInput where two runs cannot share a compiled program, naming what differs."""
    for spec in specs[1:]:
        if shape_of(spec) != shape_of(specs[0]):
            mine, its = _deciding(spec), _deciding(specs[0])
            key = next(key for key in its if mine[key] != its[key])
            shared = [name for name in its if not name.startswith("model.")]
            raise BadInput(
                f"{spec.run_id}: {key}={mine[key]} cannot be packed with {specs[0].run_id}, where it is {its[key]}; "
                f"runs of a pack share model, {', '.join(shared)}"
            )


def _deciding(spec: RunSpec) -> dict[str, Any]:
    """The fields that decide the compiled step, by dotted key."""
    return {
        **{f"model.{key}": value for key, value in to_json(spec.model).items()},
        "data.sequence_length": spec.data.sequence_length,
        "batch_tokens": spec.batch_tokens,
        "optim.microbatch_tokens": spec.optim.microbatch_tokens,
        "optim.decay_all": spec.optim.decay_all,
        "optim.name": spec.optim.name,
        "objective": spec.objective,
        **spec.objective_settings,
    }
