"""Whether a spec.json is that of its run, from the JSON alone: the name of a run ends in the hash of its spec.

`training.spec.RunSpec` is what a spec is; readers that know no model have two tables, and a test holds them to it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from core.reading import shown

# Every field that is part of every name.
ALWAYS = {
    "model": (
        "vocabulary", "width", "depth", "heads", "kv_heads", "head_width", "ff_width", "activation", "tied", "qk_norm",
        "logit_softcap", "rope_base", "norm_epsilon", "compute_dtype", "remat", "scan",
    ),
    "data": ("corpus", "domain", "tokenizer", "sequence_length", "validation_tokens", "unique_tokens"),
    "optim": (
        "learning_rate", "beta1", "beta2", "epsilon", "weight_decay", "decay_all", "clip_norm", "schedule",
        "warmup_tokens", "cooldown_tokens", "cooldown_shape", "final_fraction", "z_loss", "microbatch_tokens",
    ),
    "": (
        "seed", "tokens", "batch_tokens", "evaluation_marks", "checkpoint_marks", "parent", "branch_at_tokens",
    ),
}  # fmt: skip
# Fields that came later: no part of it at these values.
UNLESS: dict[str, dict[str, Any]] = {
    "model": {
        "architecture": "decoder",
        "matmul_precision": "default",
        "parametrization": "standard",
        "base_width": 64,
        "base_depth": 2,
        "base_head_width": 16,
        "window": 0,
        "experts": 0,
        "experts_per_token": 0,
        "shared_experts": 0,
        "expert_ff_width": 0,
        "router_z_loss": 0.0,
        "balance": "auxiliary",
        "balance_weight": 0.0,
    },
    "data": {"skills": "", "skill_tokens": 4_194_304, "near_duplicates": 0.0, "mixture": ""},
    "optim": {"decay": "coupled", "name": "adamw", "momentum": None},
    "": {
        "tasks": [],
        "task_items": 500,
        "objective": "next_token",
        "mask_share": 0.15,
        "mask_random": 0.1,
        "mask_kept": 0.1,
        "span_mean": 3.0,
        "source_share": 0.5,
        "source_weight": 0.0,
        "imported": "",
        "start": "",
    },
}


MOST_MISSING = 3  # with more of them missing it is a spec that someone else wrote, of which nobody can tell


def _missing(spec: Mapping[str, Any]) -> list[str]:
    """Fields of `ALWAYS` that are not there."""
    trees = {section: spec.get(section) if section else spec for section in ALWAYS}
    return [
        f"{section}.{name}".lstrip(".")
        for section, names in ALWAYS.items()
        for name in names
        if not isinstance(tree := trees[section], Mapping) or name not in tree
    ]


def digest_of(spec: Mapping[str, Any]) -> str | None:
    """The 8 hex digits that end the name of a spec's run; None where a field is missing, so that nobody can tell."""
    if _missing(spec):
        return None
    kept: dict[str, Any] = {}
    for section, later in UNLESS.items():
        tree = spec[section] if section else spec
        own = {
            key: value
            for key, value in tree.items()
            if not (key in later and value == later[key]) and (section or key not in ALWAYS)
        }
        kept |= {section: own} if section else own
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:8]


def contradicts(run: str, spec: Mapping[str, Any]) -> str:
    """Why a spec cannot be that of the run of this name; empty where it is, or where nobody can tell."""
    for section in filter(None, ALWAYS):
        if section in spec and not isinstance(spec[section], Mapping):
            return f"says {section}={shown(spec[section])}, which is no object"
    if 0 < len(missing := _missing(spec)) <= MOST_MISSING:
        return f"lacks {missing[0]}, which every version wrote"
    digest = digest_of(spec)
    if digest is None or run.endswith(f"-{digest}"):
        return ""
    return f"was changed: it describes a run whose name ends in {digest}"
