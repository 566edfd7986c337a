"""Where an attempt at a run begins: its last checkpoint, its trunk's, or a new state."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from core.errors import BadInput
from core.rundir import RunDirectory
from training.checkpoint import Checkpoints
from training.checksums import DamagedCheckpoint
from training.lineage import start_weights
from training.log import Clock
from training.records import read_spec
from training.spec import RunSpec
from training.state import TrainState
from training.step import make_initialization


def restored(
    spec: RunSpec, directory: Path, checkpoints: Checkpoints, mesh: jax.sharding.Mesh
) -> tuple[TrainState, int, Clock]:
    """State, tokens and clock of a run, from the newest checkpoint that can be read.

    Raises:
      BadInput: there is none, and what the run begins with cannot be read.
    """
    initialize, target = make_initialization(spec.model, mesh, spec.optim.name)
    newest = checkpoints.restore_latest(target)
    if newest is not None:
        state, progress = newest
        return state, progress["tokens"], Clock(progress["train_seconds"], progress["compile_seconds"])
    if spec.branch_at_tokens is not None:
        return restore_trunk(spec, directory, target), spec.branch_at_tokens, Clock()
    state = initialize(np.uint32(spec.seed))
    if spec.start == "weights":
        state = dataclasses.replace(state, params=start_weights(spec, directory, mesh))
    return state, 0, Clock()


def restore_trunk(spec: RunSpec, directory: Path, target: TrainState) -> TrainState:
    """The state of a branch's trunk at the token where the branch starts.

    Raises:
      BadInput: the trunk is not in the sweep, is not the same run up to there, or has no readable checkpoint there.
    """
    trunk_directory = directory.absolute().parent / str(spec.parent)
    trunk = read_spec(trunk_directory)
    if _until_cooldown(spec, spec.tokens) != _until_cooldown(trunk, spec.tokens):
        raise BadInput(
            f"parent={spec.parent}: differs from the branch {spec.run_id} in more than length and cooldown"
        )
    if spec.branch_at_tokens not in trunk.checkpoint_marks:
        raise BadInput(
            f"branch_at_tokens={spec.branch_at_tokens}: the trunk {spec.parent} keeps checkpoints at "
            f"{', '.join(map(str, trunk.checkpoint_marks)) or 'no token count'}"
        )
    checkpoints = Checkpoints(RunDirectory(trunk_directory).checkpoints, read_only=True)
    try:
        return checkpoints.restore(spec.branch_at_tokens, target)[0]
    except DamagedCheckpoint as error:
        raise BadInput(
            f"{trunk_directory}: its checkpoint at {spec.branch_at_tokens} tokens cannot be read; delete the trunk's "
            f"directory to train it again ({error})"
        ) from None
    finally:
        checkpoints.close()


def _until_cooldown(spec: RunSpec, tokens: int) -> RunSpec:
    """The run with all set equal that a trunk and its branch may differ in; both are trained alike until the branch."""
    return dataclasses.replace(
        spec,
        tokens=tokens,
        evaluation_marks=(),
        checkpoint_marks=(),
        parent=None,
        branch_at_tokens=None,
        tasks=(),
        task_items=1,
        optim=dataclasses.replace(
            spec.optim, schedule="wsd", cooldown_tokens=0, cooldown_shape="sqrt", final_fraction=0.0
        ),
    )
