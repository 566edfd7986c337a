"""A later stage: the run whose final weights it begins with, and what that one has read.

The optimizer begins anew, and tokens count from 0. What the weights come from is in env.json as `lineage`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax

from core.errors import BadInput
from core.files import read_object
from core.records import StageRecord
from core.rundir import RunDirectory
from data.tokenizers import MOST_BYTES
from training.checkpoint import Checkpoints
from training.checksums import ARRAYS, DamagedCheckpoint
from training.records import read_spec
from training.spec import RunSpec
from training.stages import parent_of
from training.step import abstract_state


def read_parent(spec: RunSpec, directory: Path) -> tuple[RunDirectory, RunSpec]:
    """The parent and its specification.

    Raises:
      BadInput: it is not there, is not complete, has another network or another tokenizer.
    """
    parent = parent_of(spec, directory)
    if not parent.is_run():
        raise BadInput(f"parent={spec.parent}: no such run ({parent.path}); train it first")
    its = read_spec(parent.path)
    spec.check_begins_with(its)
    if not parent.is_complete():
        raise BadInput(f"parent={spec.parent}: is not complete; train it first")
    return parent, its


def lineage_of(spec: RunSpec, directory: Path, tokenizer: str) -> list[StageRecord] | None:
    """The stages behind a run that is to begin, the first one first; None where it goes on from its own checkpoint.

    Args:
      tokenizer: its tokenizer.json, as text; empty for bytes.

    Raises:
      BadInput: the parent cannot be begun with.
    """
    if not spec.start or RunDirectory(directory).checkpoint_tokens():
        return None
    parent, its = read_parent(spec, directory)
    if (parent.read_tokenizer(MOST_BYTES) or "") != tokenizer:
        raise BadInput(
            f"data.tokenizer={spec.data.tokenizer!r}: parent={spec.parent} has learned another from its own text; must "
            f"be file:{parent.tokenizer}"
        )
    environment = parent.read_environment()
    # The specification of somebody else's model names no text and no tokens that it was trained on.
    unknown = bool(its.imported) and "training" not in environment["imported"]
    own: StageRecord = {
        "run": str(spec.parent),
        "objective": its.objective,
        "tokens": 0 if unknown else its.tokens,
        "corpus": "unknown" if unknown else its.data.mixture or f"{its.data.corpus} ({its.data.domain})",
        "weights": weights_digest(parent, its),
    }
    return [*environment.get("lineage", []), own]


def weights_digest(run: RunDirectory, spec: RunSpec) -> str:
    """SHA-256 over the checksums of a run's final parameters; empty for a checkpoint of an early version, without any.

    Raises:
      BadInput: the checkpoint is not there or cannot be read.
    """
    path = run.checkpoint(spec.tokens) / "progress" / "metadata"
    if not path.is_file():
        raise BadInput(f"{run.path}: has no checkpoint at its end, {spec.tokens} tokens, to begin with")
    arrays: Any = read_object(path).get(ARRAYS, {})
    own = {name: value for name, value in arrays.items() if name.startswith("params.")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest() if own else ""


def start_weights(spec: RunSpec, directory: Path, mesh: jax.sharding.Mesh) -> Any:
    """The final parameters of the parent, on `mesh` as training has them.

    Raises:
      BadInput: they cannot be read.
    """
    parent, its = read_parent(spec, directory)
    checkpoints = Checkpoints(parent.checkpoints, read_only=True)
    try:
        target = abstract_state(spec.model, mesh, its.optim.name)
        return checkpoints.restore(its.tokens, target)[0].params
    except DamagedCheckpoint as error:
        raise BadInput(
            f"parent={spec.parent}: its checkpoint at {its.tokens} tokens cannot be read; delete {parent.path} to "
            f"train it again ({error})"
        ) from None
    finally:
        checkpoints.close()
