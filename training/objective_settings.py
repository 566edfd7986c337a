"""Whether the objective of a run fits its network and its settings; read off literals, without JAX."""

import dataclasses
from pathlib import Path
from typing import Any

from core import discover
from core.errors import BadInput
from model.config import architectures, kind_of

OBJECTIVES = Path(__file__).resolve().parent / "objectives"

# Fields of RunSpec that some objectives read.
OBJECTIVE_SETTINGS = ("mask_share", "mask_random", "mask_kept", "span_mean", "source_share", "source_weight")


def check_objective(spec: Any) -> None:
    """Refuse a network that the objective of a `RunSpec` cannot train, and settings that it does not read.

    Raises:
      BadInput: names the field, its value and what is allowed.
    """
    declared = discover.declared(OBJECTIVES, spec.objective)
    trains, kind = declared.get("ARCHITECTURES", ("decoder",)), kind_of(spec.model.architecture)
    if kind not in trains:
        fit = [name for name in architectures() if kind_of(name) in trains]
        raise BadInput(
            f"objective={spec.objective}: cannot train model.architecture={spec.model.architecture}; must be "
            f"{' or '.join(fit) or 'a file of model/blocks/ that is ' + ' or '.join(trains)}"
        )
    reads = spec.objective_settings
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.name in OBJECTIVE_SETTINGS and field.name not in reads and value != field.default:
            raise BadInput(
                f"{field.name}={value:g}: objective={spec.objective} has no such setting; it reads "
                f"{', '.join(reads) or 'none'}"
            )
    if spec.mask_random + spec.mask_kept > 1:
        raise BadInput(
            f"mask_random={spec.mask_random:g}: with mask_kept={spec.mask_kept:g} above 1; must be at most "
            f"{1 - spec.mask_kept:g}"
        )
    if spec.source_weight and kind != "decoder":
        raise BadInput(
            f"source_weight={spec.source_weight:g}: the encoder of model.architecture={spec.model.architecture} "
            "reads the source and predicts nothing of it; must be 0"
        )
    if spec.tasks and spec.objective == "span":
        raise BadInput(
            f"tasks={list(spec.tasks)}: objective=span writes hidden spans and is not scored on tasks; must be "
            "empty, or objective=prefix"
        )
    if spec.plan.special >= spec.model.vocabulary:
        raise BadInput(
            f"model.vocabulary={spec.model.vocabulary}: objective={spec.objective} takes {spec.plan.special} ids "
            "at its end; must be above that"
        )
