"""Train one run from where it stands to its end."""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from core.errors import BadInput
from core.files import JsonLines
from data.cache import TokenCache
from data.loader import TrainLoader
from model.ledger import ledger
from training.checkpoint import Checkpoints
from training.evaluate.loss import HeldOut, score_held_out
from training.evaluate.score import PreparedTask, score_tasks, write_scores
from training.evaluate.tasks import held_out_tasks, write_records
from training.processes.distributed import Agreement
from training.processes.mesh import data_share, place_batch
from training.profile import profiled
from training.records import read_spec
from training.schedule import learning_rate
from training.spec import RunSpec
from training.state import TrainState, hyperparameters
from training.step import Metrics, make_evaluation_step, make_initialization, make_train_step

# A loss this many times that of a uniform guess will not come back.
EXPLODED = 3.0


class Diverged(RuntimeError):
    """The loss is NaN, infinite or exploding."""


class Stopped(RuntimeError):
    """A signal asked for an end; the state is saved."""


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a run executes here; none of it changes what is computed.

    Attributes:
      cache_root: folder of corpora, token caches and compiled programs.
      checkpoint_seconds: least time between two checkpoints.
      mesh: devices by axis, as data=2,fsdp=2,tensor=1; empty for the rule (training/processes/mesh.py).
      stop_requested: asked after every step; true saves and raises Stopped.
      profile: trace five steps into the run's folder `profile` (training/profile.py).
      report: called with (tokens, loss, tokens per second) about twice a second.
    """

    cache_root: Path = Path("cache")
    checkpoint_seconds: float = 60.0
    mesh: str = ""
    profile: bool = False
    stop_requested: Callable[[], bool] = lambda: False
    report: Callable[[int, float, float], None] = lambda tokens, loss, rate: None


@dataclasses.dataclass
class Clock:
    """Seconds of training, summed over attempts; compilation, evaluation and checkpoints are counted apart."""

    training: float
    compiling: float
    mark: float = dataclasses.field(default_factory=time.perf_counter)

    def lap(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        elapsed, self.mark = now - self.mark, now
        return elapsed


def restore_trunk(spec: RunSpec, directory: Path, target: TrainState) -> TrainState:
    """The state of a branch's trunk at the token where the branch starts.

    Raises:
      BadInput: the trunk is not in the sweep, is not the same run up to there, or has no readable checkpoint there.
    """
    trunk_directory = directory.absolute().parent / str(spec.parent)
    trunk = read_spec(trunk_directory)
    mine, its = (
        dataclasses.replace(
            run,
            tokens=spec.tokens,
            evaluation_marks=(),
            checkpoint_marks=(),
            parent=None,
            branch_at_tokens=None,
            tasks=(),
            task_items=1,
            optim=dataclasses.replace(
                run.optim, schedule="wsd", cooldown_tokens=0, cooldown_shape="sqrt", final_fraction=0.0
            ),
        )
        for run in (spec, trunk)
    )
    if mine != its:
        raise BadInput(
            f"parent={spec.parent}: differs from the branch {spec.run_id} in more than length and cooldown"
        )
    if spec.branch_at_tokens not in trunk.checkpoint_marks:
        raise BadInput(
            f"branch_at_tokens={spec.branch_at_tokens}: the trunk {spec.parent} keeps checkpoints at "
            f"{', '.join(map(str, trunk.checkpoint_marks)) or 'no token count'}"
        )
    checkpoints = Checkpoints(trunk_directory / "checkpoints", read_only=True)
    try:
        return checkpoints.restore(spec.branch_at_tokens, target)[0]
    except Exception as error:  # noqa: BLE001  Orbax raises a bare Exception for a torn array file
        raise BadInput(
            f"{trunk_directory}: its checkpoint at {spec.branch_at_tokens} tokens cannot be read; delete the trunk's "
            f"directory to train it again ({str(error).splitlines()[0][:100] if str(error) else type(error).__name__})"
        ) from None
    finally:
        checkpoints.close()


class Run:
    """One run in its directory, between restarts: its state on the device, its logs, its checkpoints.

    Args:
      spec: what to train.
      directory: runs/<sweep>/<run_id>, with spec.json in it.
      cache: the tokens to read.
      slice_: the held-out slice.
      mesh: devices to train on.
      attempt: number of this attempt, written into every row.
    """

    def __init__(
        self,
        spec: RunSpec,
        directory: Path,
        cache: TokenCache,
        slice_: HeldOut,
        mesh: jax.sharding.Mesh,
        attempt: int,
        execution: Execution,
        peak_flops_per_device: float | None,
    ):
        self.spec, self.execution, self.attempt, self.slice = spec, execution, attempt, slice_
        self.is_leader = jax.process_index() == 0
        self.ledger = ledger(spec.model, spec.data.sequence_length)
        self.peak_flops = peak_flops_per_device and peak_flops_per_device * mesh.size
        sequences = spec.batch_tokens // spec.data.sequence_length
        index, count = data_share(mesh, sequences)
        self.loader = TrainLoader(
            cache,
            spec.data,
            batch_tokens=spec.batch_tokens,
            seed=spec.seed,
            process_index=index,
            process_count=count,
        )
        self.sequences = sequences
        self.microbatches = spec.batch_tokens // (spec.optim.microbatch_tokens or spec.batch_tokens)
        self.train_step = make_train_step(spec.model, spec.optim.decay_all, self.microbatches, mesh)
        self.evaluation_step = make_evaluation_step(spec.model, mesh)
        self.hyper = hyperparameters(spec.optim)
        self.checkpoints = Checkpoints(directory / "checkpoints", spec.checkpoint_marks)
        initialize, target = make_initialization(spec.model, mesh)
        restored = self.checkpoints.restore_latest(target)
        if restored is None and spec.branch_at_tokens is not None:
            self.state: TrainState = restore_trunk(spec, directory, target)
            self.tokens, self.clock = spec.branch_at_tokens, Clock(0.0, 0.0)
        elif restored is None:
            self.state = initialize(np.uint32(spec.seed))
            self.tokens, self.clock = 0, Clock(0.0, 0.0)
        else:
            self.state, progress = restored
            self.tokens = progress["tokens"]
            self.clock = Clock(progress["train_seconds"], progress["compile_seconds"])
        if execution.profile:
            steps_left = (spec.tokens - self.tokens) // spec.batch_tokens
            self.train_step = profiled(self.train_step, directory / "profile", steps_left)
        self.tasks: tuple[PreparedTask, ...] = ()
        if spec.tasks:
            held_out = held_out_tasks(spec.tasks, spec.task_items, spec.data, execution.cache_root)
            self.tasks = held_out.prepared
            if self.is_leader:
                write_records(directory, held_out.records)
        self.mesh, self.directory = mesh, directory
        self.agree = Agreement(mesh)
        self.metrics_log = JsonLines(directory / "metrics.jsonl" if self.is_leader else os.devnull)
        self.evals_log = JsonLines(directory / "evals.jsonl" if self.is_leader else os.devnull)

    def begin(self) -> None:
        """Start the clocks of this attempt, before its first step."""
        self.last_report = self.last_save = time.monotonic()
        self.first_row = True
        self.clock.lap()

    def step_hyper(self) -> dict[str, float]:
        """The scalars of the step that reads the batch at the present token count."""
        rate = learning_rate(self.spec.optim, self.tokens, self.spec.batch_tokens, self.spec.tokens)
        return {**self.hyper, "learning_rate": rate}

    def train(self) -> None:
        """From the restored position to the last token, then a final checkpoint.

        Raises:
          Diverged: the loss is not finite or exploded; nothing of the bad step is saved.
          Stopped: the stop was requested; the state is saved.
        """
        self.begin()
        pending: tuple[int, float, Metrics] | None = None
        compiled = False
        for batch_BT in self._batches():
            hyper = self.step_hyper()
            self.state, metrics = self.train_step(self.state, batch_BT, hyper)
            if pending:
                self._record(*pending)  # of the step before: the device already works on this one
            elif not compiled:
                jax.block_until_ready(metrics)
                self.clock.compiling += self.clock.lap()
                compiled = True
            self.tokens += self.spec.batch_tokens
            pending = (self.tokens, hyper["learning_rate"], metrics)
            stop, save = self.agree(self.execution.stop_requested(), self.save_is_due())
            save = save or stop
            if save or self.tokens in self.spec.halts:
                self._record(*pending)
                pending = None
                self.attend(save)
                if stop and self.tokens < self.spec.tokens:
                    self.checkpoints.wait()
                    raise Stopped(f"stopped by a signal at {self.tokens} tokens, saved")
        self.checkpoints.wait()

    def attend(self, save: bool) -> None:
        """Evaluate if the token count is a mark; checkpoint if asked, at the end and where branches start."""
        if self.tokens in self.spec.all_marks:
            self.evaluate()
        if save or self.tokens in {self.spec.tokens, *self.spec.checkpoint_marks}:
            self.save()

    def _batches(self) -> Iterator[np.ndarray | jax.Array]:
        remaining = (self.spec.tokens - self.tokens) // self.spec.batch_tokens
        if remaining == 0:
            return
        for index, batch_BT in enumerate(self.loader.from_token(self.tokens), start=1):
            yield place_batch(self.mesh, batch_BT, self.sequences)
            if index == remaining:
                return

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is old enough for the next."""
        return time.monotonic() - self.last_save >= self.execution.checkpoint_seconds

    def _record(self, tokens: int, rate: float, metrics: Metrics) -> None:
        """Write the row of one step; this waits for the device to have finished it."""
        loss, grad_norm = float(metrics["loss"]), float(metrics["grad_norm"])
        self.write_row(tokens, rate, loss, grad_norm, self.clock.lap())

    def write_row(self, tokens: int, rate: float, loss: float, grad_norm: float, elapsed: float) -> None:
        """Append the metrics of the step that ended at `tokens` and took `elapsed` seconds.

        Raises:
          Diverged: the loss is not finite or exploded; nothing is written.
        """
        self.clock.training += elapsed
        if not math.isfinite(loss + grad_norm) or loss > EXPLODED * math.log(self.spec.model.vocabulary):
            self.checkpoints.wait()
            good = self.checkpoints.latest_tokens
            raise Diverged(
                f"diverged at step {tokens // self.spec.batch_tokens} ({tokens} tokens): loss {loss:g}, gradient "
                f"norm {grad_norm:g}; last good checkpoint: {f'{good} tokens' if good else 'none'}; lower "
                f"optim.learning_rate={self.spec.optim.learning_rate:g} or lengthen optim.warmup_tokens"
            )
        # The first step of an attempt is compiled and timed as one, so it has no rate of its own.
        tokens_per_second = None if self.first_row else self.spec.batch_tokens / elapsed
        self.first_row = False
        per_token = self.ledger["flops_per_token"]
        self.metrics_log.append(
            {
                "step": tokens // self.spec.batch_tokens,
                "tokens": tokens,
                "flops": per_token["exact"] * tokens,
                "seconds": round(self.clock.training, 6),
                "attempt": self.attempt,
                "loss": loss,
                "lr": rate,
                "grad_norm": grad_norm,
                "tokens_per_second": tokens_per_second and round(tokens_per_second, 1),
                "mfu": self.peak_flops
                and tokens_per_second
                and tokens_per_second * per_token["palm"] / self.peak_flops,
            }
        )
        if tokens_per_second and time.monotonic() - self.last_report > 0.5:
            self.last_report = time.monotonic()
            self.execution.report(tokens, loss, tokens_per_second)

    def evaluate(self) -> None:
        """Score the held-out slice and the held-out tasks and write their rows."""
        for name, score in score_held_out(self.evaluation_step, self.state.params, self.slice).items():
            self.evals_log.append(
                {"tokens": self.tokens, "name": name, **dataclasses.asdict(score), "attempt": self.attempt}
            )
        if self.tasks:
            length = self.spec.data.sequence_length
            scores = score_tasks(self.tasks, self.spec.model, self.mesh, self.state.params, length)
            row = {"tokens": self.tokens, "attempt": self.attempt}
            if self.is_leader:
                write_scores(self.evals_log, self.directory, self.tasks, scores, **row)
        self.clock.lap()

    def save(self) -> None:
        """Checkpoint the state with its data position and timers; returns while the write goes on."""
        progress: dict[str, Any] = {
            "tokens": self.tokens,
            "train_seconds": self.clock.training,
            "compile_seconds": self.clock.compiling,
            "attempt": self.attempt,
        }
        self.checkpoints.save(self.tokens, self.state, progress)
        self.last_save = time.monotonic()
        self.clock.lap()

    def close(self) -> None:
        self.metrics_log.close()
        self.evals_log.close()
        self.checkpoints.close()
