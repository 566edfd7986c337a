"""Grids of runs: one size over several data sizes, as a trunk with branches or as runs of their own."""

import math
from collections.abc import Sequence

from core.errors import BadInput
from experiments.scaling import ScalingRule
from experiments.spec import RunSpec
from model.config import ModelConfig
from model.ledger import ledger


def over_tokens(
    rule: ScalingRule, model: ModelConfig, tokens: Sequence[float], seed: int = 0, trunk: bool = True
) -> list[RunSpec]:
    """One model on every data size.

    Args:
      tokens: data sizes.
      trunk: share the constant part of the learning rate among them (a single data size shares with nobody).

    Raises:
      BadInput: no data size, or one below a batch.
    """
    if not tokens:
        raise BadInput("tokens=[]: at least one data size is needed")
    for count in tokens:
        if not rule.batch_tokens <= count < math.inf:
            raise BadInput(f"tokens={count:g}: below one batch (batch_tokens={rule.batch_tokens})")
    rounded = sorted(rule.whole_batches(count) for count in tokens)
    if trunk and len(set(rounded)) > 1:
        return rule.trunk_and_branches(0, rounded, seed, model)
    return [rule.run(0, count, seed, evaluations=4, model=model) for count in rounded]


def flops_per_token(rule: ScalingRule, model: ModelConfig) -> float:
    """Training FLOPs of one token, `exact` convention."""
    return ledger(model, rule.data.sequence_length)["flops_per_token"]["exact"]


def tokens_for(rule: ScalingRule, model: ModelConfig, budgets: Sequence[float]) -> list[float]:
    """Tokens that each budget of FLOPs buys.

    Raises:
      BadInput: a budget that is not positive, or buys less than a batch.
    """
    bought = []
    for budget in budgets:
        _positive("budgets", budget)
        count = budget / flops_per_token(rule, model)
        if count < rule.batch_tokens:
            raise BadInput(
                f"budgets={budget:g}: buys {count:.3g} tokens for {rule.count(model)} parameters, below one batch "
                f"(batch_tokens={rule.batch_tokens})"
            )
        bought.append(count)
    return bought


def _positive(name: str, value: float) -> bool:
    if not (value > 0 and math.isfinite(value)):
        raise BadInput(f"{name}={value:g}: must be positive and finite")
    return True


def models_of(rule: ScalingRule, params: Sequence[float]) -> list[ModelConfig]:
    """The rule's shape for each of these sizes, smallest first; neighbours may have the same one.

    Raises:
      BadInput: no size, or one that the rule has no shape for.
    """
    if not params:
        raise BadInput("params=[]: at least one size is needed")
    return sorted((rule.model(size) for size in params if _positive("params", size)), key=rule.count)


def distinct_models(rule: ScalingRule, params: Sequence[float]) -> list[ModelConfig]:
    """As `models_of`, each shape once."""
    return list(dict.fromkeys(models_of(rule, params)))
