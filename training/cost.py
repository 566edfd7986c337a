"""Parameters and FLOPs of a run, before it starts."""

import functools
from typing import cast

from core import records
from model.config import ModelConfig
from model.ledger import ModelLedger, ledger
from model.window import Window
from training.spec import RunSpec


def ledger_of(spec: RunSpec) -> records.Ledger:
    """Parameters and FLOPs a token of a run under every convention: the content of its ledger.json."""
    return cast(records.Ledger, ledger(spec.model, spec.data.sequence_length, spec.plan.window))


def training_flops(spec: RunSpec) -> float:
    """FLOPs that the run itself costs, `exact` convention of the ledger; a branch's shared tokens are its trunk's."""
    return counted(spec)["flops_per_token"]["exact"] * spec.trained_tokens


def parameter_count(spec: RunSpec) -> int:
    """N of the fits: non-embedding parameters plus the head."""
    return counted(spec)["params"]["non_embedding_plus_head"]


def counted(spec: RunSpec) -> ModelLedger:
    """The ledger of a run, counted once a shape: a sweep has thousands of runs and a few shapes. To be read only."""
    return _counted(spec.model, spec.data.sequence_length, spec.plan.window)


@functools.lru_cache(maxsize=4096)
def _counted(model: ModelConfig, sequence_length: int, window: Window) -> ModelLedger:
    return ledger(model, sequence_length, window)
