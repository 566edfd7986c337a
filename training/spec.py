"""What one run is: network, data, optimizer, length. Frozen values that round-trip through JSON.

A `RunSpec` is the identity of a run: the same spec is the same run. Where and how fast it executes
(`Execution`) is not part of it.
"""

import dataclasses
import functools
import hashlib
import re
from pathlib import Path
from typing import Literal

from core import discover
from core.codec import canonical_json
from core.errors import BadInput
from core.numbers import short_count
from data.config import DataConfig
from model.config import ModelConfig

HERE = Path(__file__).resolve().parent

# A run's name is a folder in its sweep and nothing else: never a path, never an option, never hidden.
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its schedule; lengths in tokens.

    Attributes:
      name: a file of training/optimizers/.
      learning_rate: peak.
      beta1, beta2, epsilon: of Adam.
      weight_decay: decoupled from the gradient; how much of a parameter each step removes follows from `decay`.
      decay: coupled removes learning_rate * weight_decay (as PyTorch's AdamW does); independent removes
        weight_decay * learning_rate / peak, so that the peak can change without it (Loshchilov and Hutter's form;
        Wortsman et al. 2023, arXiv 2309.14322, section 3.2.2).
      decay_all: also decay norms and embeddings.
      clip_norm: largest global gradient norm, 0 for no clipping.
      schedule: wsd (warmup, stable, cooldown; Hägele et al. 2024, arXiv 2405.18392), cosine or constant.
      warmup_tokens: linear warmup from 0.
      cooldown_tokens: wsd only, length of the final decay.
      cooldown_shape: wsd only, linear or sqrt (1 - square root, the better one in Hägele et al.).
      final_fraction: learning rate at the end as a fraction of the peak (cosine and wsd).
      z_loss: weight of the squared log-partition penalty (PaLM, arXiv 2204.02311, section 5).
      microbatch_tokens: gradients are accumulated over parts of this size; 0 for one part.
    """

    learning_rate: float = 3e-3
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    decay_all: bool = False
    clip_norm: float = 1.0
    schedule: Literal["wsd", "cosine", "constant"] = "wsd"
    warmup_tokens: int = 0
    cooldown_tokens: int = 0
    cooldown_shape: Literal["linear", "sqrt"] = "sqrt"
    final_fraction: float = 0.0
    z_loss: float = 0.0
    microbatch_tokens: int = 0
    decay: Literal["coupled", "independent"] = dataclasses.field(
        default="coupled", metadata={"identity": "if set"}
    )
    name: str = dataclasses.field(default="adamw", metadata={"identity": "if set"})

    def __post_init__(self) -> None:
        for key in ("learning_rate", "epsilon"):
            if not getattr(self, key) > 0:
                raise BadInput(f"optim.{key}={getattr(self, key)}: must be positive")
        for key in ("beta1", "beta2"):
            if not 0 <= getattr(self, key) < 1:
                raise BadInput(f"optim.{key}={getattr(self, key)}: must be at least 0 and below 1")
        if not 0 <= self.final_fraction <= 1:
            raise BadInput(f"optim.final_fraction={self.final_fraction}: must be between 0 and 1")
        for key in (
            "weight_decay",
            "clip_norm",
            "z_loss",
            "warmup_tokens",
            "cooldown_tokens",
            "microbatch_tokens",
        ):
            if not getattr(self, key) >= 0:
                raise BadInput(f"optim.{key}={getattr(self, key)}: must not be negative")
        discover.check("optim.name", self.name, HERE / "optimizers")
        if self.decay not in ("coupled", "independent"):
            raise BadInput(f"optim.decay={self.decay!r}: must be one of coupled, independent")
        if self.cooldown_tokens and self.schedule != "wsd":
            raise BadInput(
                f"optim.cooldown_tokens={self.cooldown_tokens}: only schedule wsd has a cooldown, "
                f"not {self.schedule}"
            )


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One trained model.

    Attributes:
      model, data, optim: what is trained, on what, how.
      seed: of initialization and data order.
      tokens: D, length of training; a multiple of batch_tokens.
      batch_tokens: tokens of one optimizer step; a multiple of data.sequence_length.
      evaluation_marks: token counts at which the held-out slice is evaluated, besides the end.
      checkpoint_marks: token counts whose checkpoints are kept for good: where branches may start.
      parent: run_id of the trunk that a branch starts from, in the same sweep.
      branch_at_tokens: token count of the trunk's checkpoint that a branch starts from.
      tasks: held-out tasks that are scored at every evaluation mark and at the end (data/tasks/).
      task_items: problems of each task.
      objective: what is learned, a file of training/objectives/.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    seed: int = 0
    tokens: int = 1_048_576
    batch_tokens: int = 4096
    evaluation_marks: tuple[int, ...] = ()
    checkpoint_marks: tuple[int, ...] = ()
    parent: str | None = None
    branch_at_tokens: int | None = None
    tasks: tuple[str, ...] = dataclasses.field(default=(), metadata={"identity": "if set"})
    task_items: int = dataclasses.field(default=500, metadata={"identity": "if set"})
    objective: str = dataclasses.field(default="next_token", metadata={"identity": "if set"})

    def __post_init__(self) -> None:
        discover.check("objective", self.objective, HERE / "objectives")
        length = self.data.sequence_length
        for key in ("tokens", "batch_tokens"):
            if getattr(self, key) < 1:
                raise BadInput(f"{key}={getattr(self, key)}: must be at least 1")
        if not 0 <= self.seed < 2**31:
            raise BadInput(f"seed={self.seed}: must be at least 0 and below 2^31")
        if self.batch_tokens % length:
            raise BadInput(
                f"batch_tokens={self.batch_tokens}: must be a multiple of data.sequence_length={length}"
            )
        if self.tokens < self.batch_tokens:
            raise BadInput(f"tokens={self.tokens}: below one batch (batch_tokens={self.batch_tokens})")
        if self.tokens % self.batch_tokens:
            below = self.tokens // self.batch_tokens * self.batch_tokens
            raise BadInput(
                f"tokens={self.tokens}: must be a multiple of batch_tokens={self.batch_tokens}, "
                f"such as {below} or {below + self.batch_tokens}"
            )
        micro = self.optim.microbatch_tokens
        if micro and (micro % length or self.batch_tokens % micro):
            raise BadInput(
                f"optim.microbatch_tokens={micro}: must be a multiple of data.sequence_length={length} "
                f"and divide batch_tokens={self.batch_tokens}"
            )
        if self.optim.warmup_tokens + self.optim.cooldown_tokens > self.tokens:
            raise BadInput(
                f"optim.warmup_tokens={self.optim.warmup_tokens} and optim.cooldown_tokens="
                f"{self.optim.cooldown_tokens}: together longer than the run (tokens={self.tokens})"
            )
        for key, first in (("evaluation_marks", 0), ("checkpoint_marks", self.batch_tokens)):
            marks = getattr(self, key)
            for mark in marks:
                if mark % self.batch_tokens or not first <= mark <= self.tokens:
                    raise BadInput(
                        f"{key}={mark}: must be a multiple of batch_tokens={self.batch_tokens} "
                        f"between {first} and tokens={self.tokens}"
                    )
            if tuple(sorted(set(marks))) != marks:
                raise BadInput(f"{key}={list(marks)}: must be strictly increasing")
        if (self.parent is None) != (self.branch_at_tokens is None):
            raise BadInput("parent and branch_at_tokens: a branch needs both, another run neither")
        if self.parent is not None and not RUN_NAME.fullmatch(self.parent):
            raise BadInput(f"parent={self.parent!r}: must be the name of a run: letters, digits, dots, dashes")
        if self.branch_at_tokens is not None:
            self._check_branch(self.branch_at_tokens)

    def _check_branch(self, start: int) -> None:
        stable_until = self.tokens - self.optim.cooldown_tokens
        if start % self.batch_tokens or not self.optim.warmup_tokens <= start <= stable_until or start == 0:
            raise BadInput(
                f"branch_at_tokens={start}: must be a multiple of batch_tokens={self.batch_tokens} where the learning "
                f"rate is constant, between {self.optim.warmup_tokens} and {stable_until}"
            )
        if start == self.tokens or self.optim.schedule == "cosine":
            raise BadInput(
                f"branch_at_tokens={start}: a branch needs tokens to train and schedule wsd or constant"
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.tokens // self.batch_tokens

    @property
    def trained_tokens(self) -> int:
        """Tokens that this run itself trains on: all but those that a branch shares with its trunk."""
        return self.tokens - (self.branch_at_tokens or 0)

    @property
    def is_trunk(self) -> bool:
        """Whether branches may start here; a trunk's own losses come before any cooldown."""
        return bool(self.checkpoint_marks)

    @property
    def all_marks(self) -> tuple[int, ...]:
        """Evaluation marks, the end of training included."""
        return tuple(sorted({*self.evaluation_marks, self.tokens}))

    def located(self) -> "RunSpec":
        """The same run with every path from the root on, so that whoever trains it reads the same files.

        Raises:
          BadInput: nobody knows the home of a path.
        """
        if any(":" in task for task in self.tasks):
            from data.tasks.registry import located  # loads the tasks

            tasks = tuple(located(task) for task in self.tasks)
        else:
            tasks = self.tasks
        data = self.data.located()
        return (
            self
            if (data, tasks) == (self.data, self.tasks)
            else dataclasses.replace(self, data=data, tasks=tasks)
        )

    @functools.cached_property
    def run_id(self) -> str:
        """Readable name that ends in 8 hex digits of the hash of the canonical JSON."""
        digest = hashlib.sha256(canonical_json(self).encode()).hexdigest()[:8]
        return f"w{self.model.width}-l{self.model.depth}-t{short_count(self.tokens)}-s{self.seed}-{digest}"
