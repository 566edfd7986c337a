"""From ideal grids to runs: a ladder of real shapes with their FLOPs, and the file of a plan read back as a sweep."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.files import read_json
from experiments.grids import distinct_models, flops_per_token, over_tokens
from experiments.scaling import ScalingRule
from experiments.spec import Sweep
from model.config import ModelConfig

FORMAT = 1
SHAPE_STEP = math.sqrt(2.0)  # ratio of neighbouring sizes to choose from


@dataclasses.dataclass(frozen=True)
class TrainableSize:
    """A size that can be trained."""

    params: int
    flops_per_token: float
    model: ModelConfig


def smallest_params(rule: ScalingRule) -> int:
    """Parameters of the rule's smallest shape: one block, one head."""
    return rule.count(rule.shape(16, 1))


def shapes(rule: ScalingRule, low: float, high: float) -> list[TrainableSize]:
    """The rule's shapes from about `low`, or its smallest one, to about `high` parameters, each once.

    Raises:
      BadInput: a size that the rule has no shape for.
    """
    low = max(low, float(smallest_params(rule)))
    high = max(high, low * SHAPE_STEP)
    count = max(2, math.ceil(math.log(high / low) / math.log(SHAPE_STEP)) + 1)
    wanted = [low * (high / low) ** (place / (count - 1)) for place in range(count)]
    return [
        TrainableSize(rule.count(model), flops_per_token(rule, model), model)
        for model in distinct_models(rule, wanted)
    ]


def nearest(found: Sequence[TrainableSize], params: float) -> TrainableSize:
    """The shape nearest in log size."""
    return min(found, key=lambda shape: abs(math.log(shape.params / params)))


def planned_sweep(rule: ScalingRule, runs: Sequence[Mapping[str, Any]], trunks: bool) -> Sweep:
    """The runs of a plan: {"params", "tokens", "seed"} each; with `trunks`, branches of one trunk a size and seed.

    Raises:
      BadInput: a size without a shape, or tokens below a batch.
    """
    groups: dict[tuple[ModelConfig, int], list[float]] = {}
    for run in runs:
        groups.setdefault((rule.model(run["params"]), run["seed"]), []).append(run["tokens"])
    specs = []
    for (model, seed), tokens in sorted(groups.items(), key=lambda item: (rule.count(item[0][0]), item[0][1])):
        specs += over_tokens(rule, model, tokens, seed, trunks)
    return Sweep(specs)


def _can_be_run(params: Any, tokens: Any, seed: Any) -> bool:
    positive = all(
        isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < math.inf
        for one in (params, tokens)
    )
    return positive and isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**31


def read_plan(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The runs of a plan's file and whether they are branches of trunks.

    Raises:
      BadInput: no such file, or not a plan.
    """
    value = read_json(path)
    if not (isinstance(value, dict) and value.get("format") == FORMAT and isinstance(value.get("runs"), list)):
        raise BadInput(f"{path}: not a plan; python launch.py plan --budget ... --out FILE writes one")
    for number, run in enumerate(value["runs"]):
        if not (isinstance(run, dict) and _can_be_run(run.get("params"), run.get("tokens"), run.get("seed"))):
            raise BadInput(f"{path}: run {number} needs positive params and tokens, and a seed of at least 0")
    if not value["runs"]:
        raise BadInput(f"{path}: the plan holds no run")
    return value["runs"], value.get("structure") == "trunks"
