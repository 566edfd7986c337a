"""Every architecture by the files of model/blocks/: a new file is tested without a new line in a test.

    @pytest.mark.parametrize("name", every_architecture())
    def test_it_trains(name): spec(name, ...)

A file of model/blocks/ says in TINY what its network needs beside the defaults, and in OBJECTIVE what trains it.
"""

import dataclasses
from typing import Any

import pytest

from data.config import DataConfig
from model.config import ModelConfig, architectures, declared
from training.spec import OptimConfig, RunSpec

STEP_TOKENS = 256


def every_architecture(*, others: str = "long") -> list[Any]:
    """Parameters of a test: decoder as it is, all other architectures marked, `long` unless they cost next to nothing
    (empty)."""
    marks = {
        name: [] if name == "decoder" or not others else [getattr(pytest.mark, others)]
        for name in architectures()
    }
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


def decoding_architectures(**keywords: Any) -> list[Any]:
    """Those of `every_architecture` that predict the next token."""
    return [one for one in every_architecture(**keywords) if objective(one.values[0]) == "next_token"]


def objective(name: str) -> str:
    """What trains an architecture."""
    return str(declared(name).get("OBJECTIVE", "next_token"))


def tiny(name: str, **fields: Any) -> ModelConfig:
    """A network of an architecture with a few thousand parameters, with these fields."""
    base = {"vocabulary": 32, "width": 16, "depth": 2, "heads": 2, "kv_heads": 2}
    return ModelConfig(**{**base, **declared(name).get("TINY", {}), **fields, "architecture": name})


def of(config: ModelConfig, name: str) -> ModelConfig:
    """The same network with the blocks of an architecture."""
    return dataclasses.replace(config, **declared(name).get("TINY", {}), architecture=name)


def spec(name: str, data: DataConfig, *, steps: int = 20, seed: int = 0, **model: Any) -> RunSpec:
    """A run of `steps` small steps with the objective of the architecture, which has ids beside the 256 bytes."""
    config = tiny(name, **{"vocabulary": 272, "depth": 1, "scan": False, **model})
    return RunSpec(
        model=config,
        data=data,
        optim=OptimConfig(learning_rate=1e-2, warmup_tokens=4 * STEP_TOKENS),
        seed=seed,
        tokens=steps * STEP_TOKENS,
        batch_tokens=STEP_TOKENS,
        evaluation_marks=(steps // 2 * STEP_TOKENS,),
        objective=objective(name),
    )
