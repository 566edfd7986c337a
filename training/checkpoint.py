"""Checkpoints of one run through Orbax: asynchronous, committed whole or not at all."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import tensorstore
from orbax.checkpoint.checkpoint_managers import preservation_policy

from core.errors import BadInput
from core.files import read_json, read_object
from core.reading import odd_file
from training.checksums import (
    ARRAYS,
    DamagedCheckpoint,
    Spans,
    check_arrays,
    check_progress,
    check_state,
    with_checksums,
)
from training.processes.distributed import any_process
from training.state import TrainState

log = logging.getLogger(__name__)


class NoUsableCheckpoint(RuntimeError):
    """Checkpoints exist, but none of them can be read."""


class Checkpoints:
    """The checkpoints of a run directory, named by token count.

    Args:
      directory: runs/<sweep>/<run_id>/checkpoints.
      marks: token counts whose checkpoints stay for good.
      keep: newest checkpoints that stay besides.
      read_only: never write or remove anything: another process may own the directory.
    """

    def __init__(self, directory: Path, marks: Sequence[int] = (), keep: int = 2, *, read_only: bool = False):
        kept = [preservation_policy.LatestN(keep), preservation_policy.CustomSteps(list(marks))]
        options = (
            ocp.CheckpointManagerOptions(read_only=True)
            if read_only
            else ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.AnyPreservationPolicy(kept),
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            )
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    @property
    def latest_tokens(self) -> int | None:
        """Token count of the newest committed checkpoint."""
        return self._manager.latest_step()

    def save(self, tokens: int, state: TrainState, progress: dict[str, Any]) -> None:
        """Start saving; returns once the state is copied. A token count that is saved already is left alone."""
        if tokens in self._manager.all_steps():
            return
        self._manager.save(
            tokens,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                progress=ocp.args.JsonSave(with_checksums(progress, state)),
            ),
        )

    def restore(self, tokens: int, target: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The checkpoint at `tokens` as (state on the target's shardings, progress).

        Raises:
          DamagedCheckpoint: it cannot be read, or does not hold what was saved; the message names the checkpoint.
        """
        where = Path(self._manager.directory) / str(tokens)
        try:
            # Before Orbax opens it: from a FIFO it would wait for ever.
            if odd := odd_file(where, data="d"):
                raise OSError(odd)
            if jax.process_count() > 1 and self._any_process_cannot_read(tokens, target):
                raise OSError("one of the processes cannot read it")
            restored = self._manager.restore(
                tokens,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()
                ),
            )
            # Of several processes each has checked a share of the files before.
            if check_progress(restored.progress, tokens) and jax.process_count() == 1:
                check_state(restored.progress, restored.state)
        except Exception as error:
            first_line = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise DamagedCheckpoint(f"{where} cannot be used: {first_line}") from error
        return restored.state, restored.progress

    def restore_latest(self, target: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest readable checkpoint as (state on the target's shardings, progress), None where none exists.

        An unreadable checkpoint is reported, removed, and the one before it is used.

        Raises:
          NoUsableCheckpoint: checkpoints exist but all are unreadable.
        """
        unreadable: list[int] = []
        for tokens in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self.restore(tokens, target)
                for bad in unreadable:
                    self._manager.delete(bad)
                return restored
            except DamagedCheckpoint as error:
                log.warning("checkpoint at %d tokens is unreadable (%s); using the one before", tokens, error)
                unreadable.append(tokens)
        if unreadable:
            raise NoUsableCheckpoint(
                f"no checkpoint of {self._manager.directory} can be read (tried {unreadable}); "
                "delete that folder to train this run from the start"
            )
        return None

    def _any_process_cannot_read(self, tokens: int, target: TrainState) -> bool:
        """Whether a file of the checkpoint is damaged, each process reading its share of them.

        Asked before the restore: a process that fails in the middle of one leaves the others waiting for it.
        """
        share = (jax.process_index(), jax.process_count())
        damage = why_unreadable(Path(self._manager.directory), tokens, share)
        place: Any = target.step.sharding
        return any_process(place.mesh, bool(damage))

    @property
    def tokens(self) -> list[int]:
        """Token counts of all committed checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def delete_from(self, tokens: int) -> None:
        """Remove the checkpoints at `tokens` and after: the run trains on from an earlier one, and makes them anew."""
        for later in self.tokens:
            if later >= tokens:
                self._manager.delete(later)

    def wait(self) -> None:
        """Until every started save is committed."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def why_unreadable(directory: Path, tokens: int, share: tuple[int, int] = (0, 1)) -> str:
    """Why the committed checkpoint at `tokens` cannot be read, by reading all of it into memory; empty where it can.

    Args:
      directory: runs/<sweep>/<run_id>/checkpoints.
      share: (index, count): read only every count-th entry, from index on.
    """
    step = directory.absolute() / str(tokens)
    if odd := odd_file(step, data="d"):
        return odd.removeprefix(f"{step}/")
    try:
        progress = read_json(step / "progress" / "metadata")
        read_json(step / "state" / "_METADATA")
        base = f"file://{step / 'state'}/"
        if check_progress(progress, tokens):
            own = sorted(progress[ARRAYS])[share[0] :: share[1]]
            opened = {name: _open_array(base, name) for name in own}
            check_arrays(progress, lambda name, spans: _read(opened[name], spans), own)
            return ""
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
        keys = sorted(store.list().result())
        reads = [store.read(key) for key in keys[share[0] :: share[1]]]
        for read in reads:
            read.result()
    except (BadInput, DamagedCheckpoint, ValueError, OSError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0][:120]
    return "" if keys else "it holds no arrays"


def is_unchecked(directory: Path, tokens: int) -> bool:
    """Whether a checkpoint that can be read has no checksums: one of an earlier version."""
    try:
        return ARRAYS not in read_object(directory / str(tokens) / "progress" / "metadata")
    except (BadInput, OSError):
        return False


def _open_array(base: str, name: str) -> Any:
    store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
    return tensorstore.open({"driver": "zarr", "kvstore": store}, open=True, read=True).result()


def _read(array: Any, spans: Spans) -> Any:
    return (
        array[tuple(slice(first, end) for first, end in spans)].read().result()
        if spans
        else array.read().result()
    )
