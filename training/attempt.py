"""Begin an attempt at a run: its data opened, its state where the last attempt left it, its files ready."""

import dataclasses
import functools
import logging
from pathlib import Path

import jax

from core import stop
from core.rundir import RunDirectory
from data.cache import TokenCache, open_or_build
from data.config import DataConfig
from model.kernels.chips import peak_flops
from model.kernels.device import described, products_here
from training import objectives
from training.checkpoint import Checkpoints
from training.cost import ledger_of
from training.evaluate.loss import HeldOut, evaluation_sequences, held_out
from training.evaluate.score import PreparedTask
from training.evaluate.tasks import held_out_tasks, write_records
from training.execution import Execution
from training.hooks import Hook
from training.hooks.evaluate import Evaluate
from training.hooks.profile import Profile
from training.hooks.save import Save
from training.hooks.stop import Stop
from training.lineage import lineage_of
from training.log import Clock, MetricsLog
from training.lost import Lost, lost_rows
from training.member import Member
from training.prepare import check_prepared, check_vocabulary, corpus_record
from training.processes.group import Group
from training.processes.mesh import data_share
from training.records import git_commit, start_attempt
from training.restore import restored
from training.spec import RunSpec
from training.state import TrainState

log = logging.getLogger(__name__)


def begin(
    spec: RunSpec,
    directory: Path,
    mesh: jax.sharding.Mesh,
    execution: Execution,
    group: Group,
    *,
    lane: int = 0,
    pack: int = 0,
) -> tuple[Member, TrainState]:
    """The run as a member of its pack, and its state on the devices of `mesh`; close the member.

    Call this inside `jax.set_mesh(mesh)`. env.json has the attempt, ledger.json the counts of the model.

    Args:
      pack: runs that are trained together as one program; 0 for a run alone.

    Raises:
      BadInput: data, trunk or devices do not fit the run.
    """
    spec.refuse_imported()
    cache, slice_ = group.leader_first(
        "data", lambda: _open_data(spec.data, execution.cache_root, evaluation_sequences(spec, mesh))
    )
    check_vocabulary(spec, cache)
    check_prepared(directory, spec, cache)
    with stop.deferred():  # a checkpoint that is being read is read to its end
        return _begin(spec, directory, mesh, execution, group, cache, slice_, lane=lane, pack=pack)


def _begin(
    spec: RunSpec,
    directory: Path,
    mesh: jax.sharding.Mesh,
    execution: Execution,
    group: Group,
    cache: TokenCache,
    slice_: HeldOut,
    *,
    lane: int,
    pack: int,
) -> tuple[Member, TrainState]:
    """As `begin`, whose data are opened."""
    files = RunDirectory(directory)
    corpus = corpus_record(spec, cache)
    group.same("corpus fingerprint", f"{corpus['fingerprint']} {corpus['skills']}".strip())
    tokenizer = cache.tokenizer.to_json()
    attempt = group.decide(
        "attempt",
        lambda: start_attempt(
            directory, corpus, mesh, git_commit(), pack, lineage_of(spec, directory, tokenizer)
        ),
    )
    reader = objectives.load(spec.objective).reader(
        cache, spec, data_share(mesh, spec.batch_tokens // spec.data.sequence_length)
    )
    checkpoints = Checkpoints(files.checkpoints, spec.checkpoint_marks)
    evaluate = Evaluate(spec, directory, mesh, slice_, _tasks(spec, directory, execution, group), attempt)
    state, tokens, clock = _restored_with_rows(spec, directory, checkpoints, mesh, evaluate, group)
    hooks: list[Hook] = [evaluate]
    if execution.profile and not pack:
        hooks.append(Profile(files.profile, tokens=tokens, batch_tokens=spec.batch_tokens, end=spec.tokens))
    counts = ledger_of(spec)
    device = described(mesh.devices.flat[0])
    peak = peak_flops(device.kind, products_here(spec.model, device).name)
    metrics = MetricsLog(
        spec,
        directory,
        counts,
        checkpoints,
        clock,
        attempt=attempt,
        peak_flops=peak and peak * mesh.size,
        report=functools.partial(execution.report, directory),
    )

    def sync() -> None:
        metrics.sync()
        evaluate.sync()

    save = Save(spec, checkpoints, clock, execution.checkpoint_seconds, attempt, sync)
    hooks += [save, Stop(spec)]
    if group.is_leader:
        files.write_ledger(counts)
        files.write_tokenizer(tokenizer)
    member = Member(
        spec,
        directory,
        lane,
        mesh,
        begins=tokens,
        attempt=attempt,
        reader=reader,
        log=metrics,
        save=save,
        hooks=hooks,
        evaluated=evaluate.names,
    )
    return member, state


def _restored_with_rows(
    spec: RunSpec,
    directory: Path,
    checkpoints: Checkpoints,
    mesh: jax.sharding.Mesh,
    evaluate: Evaluate,
    group: Group,
) -> tuple[TrainState, int, Clock]:
    """State, tokens and clock where the attempt begins; what the logs lack up to there is computed again.

    Raises:
      RowsAreLost: it cannot be.
    """
    state, tokens, clock = restored(spec, directory, checkpoints, mesh)
    committed = checkpoints.tokens
    found = group.decide(
        "lost rows",
        lambda: dataclasses.asdict(lost_rows(spec, directory, tokens, committed, evaluate.names)),
    )
    lost = Lost(tuple(found["again"]), found["before"])
    if lost.before is not None:
        log.warning("%s: rows at %d tokens are missing; training on from before", directory, lost.before)
        del state
        checkpoints.delete_from(lost.before)
        state, tokens, clock = restored(spec, directory, checkpoints, mesh)
    for mark in lost.again:
        log.warning("%s: its evaluation at %d tokens is missing; evaluating it again", directory, mark)
        at_mark = state if mark == tokens else checkpoints.restore(mark, jax.tree.map(_abstract, state))[0]
        evaluate.act(mark, at_mark)
    evaluate.sync()
    return state, tokens, clock


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


@functools.lru_cache(maxsize=2)
def _open_data(config: DataConfig, cache_root: Path, batch_sequences: int) -> tuple[TokenCache, HeldOut]:
    """The tokens and the held-out slice, which the runs of one worker share."""
    cache = open_or_build(config, cache_root)
    return cache, held_out(cache, config, batch_sequences)


def _tasks(spec: RunSpec, directory: Path, execution: Execution, group: Group) -> tuple[PreparedTask, ...]:
    """The held-out tasks of the run, described in its tasks.json."""
    if not spec.tasks:
        return ()
    tasks = held_out_tasks(spec.tasks, spec.task_items, spec.data, execution.cache_root)
    if group.is_leader:
        write_records(directory, tasks.records)
    return tasks.prepared
