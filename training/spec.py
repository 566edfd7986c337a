"""What one run is: network, data, optimizer, length. Frozen values that round-trip through JSON.

A `RunSpec` is the identity of a run: the same spec is the same run. Where and how fast it executes
(`Execution`) is not part of it.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from core import bounds, discover
from core.bounds import INT32, Allowed
from core.codec import canonical_json
from core.errors import BadInput
from core.numbers import short_count
from core.reading import shown
from data.config import FILE, DataConfig
from model.config import ModelConfig, kind_of
from training import window
from training.objective_settings import OBJECTIVE_SETTINGS, check_objective

HERE = Path(__file__).resolve().parent

# A run's name is a folder in its sweep and nothing else: never a path, never an option, never hidden.
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
STARTS = ("", "weights")
COMPUTED = (
    "scan",
    "remat",
    "compute_dtype",
    "matmul_precision",
)  # how a network is computed: weights fit all of it

SHA256 = re.compile("[0-9a-f]{64}")

NUMBERS_OF_SOME = ("beta1", "beta2", "epsilon", "momentum")  # fields of OptimConfig that some optimizers read

# The step is taken in float32, so ranges say what is left of a number there.
Average = Annotated[float, Allowed(0, 1 - 2**-24, "1 in float32: the average would never take anything in")]
Tokens = Annotated[int, Allowed(1, 10**18, "no machine reads more")]
TokensOrNone = Annotated[int, Allowed(0, 10**18, "no machine reads more")]


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its schedule; lengths in tokens.

    Attributes:
      name: a file of training/optimizers/.
      learning_rate: peak.
      beta1, beta2, epsilon: of Adam; beta1 also of lion and schedule_free, where it weighs two directions.
      momentum: share of the average of gradients that a step keeps; null for the optimizer's own default.
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

    learning_rate: Annotated[float, Allowed(1e-9, 1e9, "a smaller step is lost when a weight is rounded")] = (
        3e-3
    )
    beta1: Average = 0.9
    beta2: Average = 0.95
    epsilon: Annotated[
        float, Allowed(1e-30, 1, "less is 0 in float32, more outweighs every gradient and nothing is trained")
    ] = 1e-8
    weight_decay: Annotated[float, Allowed(1e-12, 1e9, "less is nothing in float32", zero="none")] = 0.1
    decay_all: bool = False
    clip_norm: Annotated[
        float, Allowed(1e-4, 1e20, "gradients cut shorter vanish beside epsilon", zero="none")
    ] = 1.0
    schedule: Literal["wsd", "cosine", "constant"] = "wsd"
    warmup_tokens: TokensOrNone = 0
    cooldown_tokens: TokensOrNone = 0
    cooldown_shape: Literal["linear", "sqrt"] = "sqrt"
    final_fraction: Annotated[float, Allowed(0, 1)] = 0.0
    z_loss: Annotated[float, Allowed(1e-12, 1, "more outweighs the loss", zero="none")] = 0.0
    microbatch_tokens: Annotated[int, Allowed(0, INT32)] = 0
    decay: Literal["coupled", "independent"] = dataclasses.field(
        default="coupled", metadata={"identity": "if set"}
    )
    name: str = dataclasses.field(default="adamw", metadata={"identity": "if set"})
    momentum: Annotated[
        float | None, Allowed(0, 1 - 2**-24, "1 in float32: the average would never take anything in")
    ] = dataclasses.field(default=None, metadata={"identity": "if set"})

    def __post_init__(self) -> None:
        bounds.check(self, "optim.")
        discover.check("optim.name", self.name, HERE / "optimizers")
        self._check_optimizer()
        if self.decay not in ("coupled", "independent"):
            raise BadInput(f"optim.decay={self.decay!r}: must be one of coupled, independent")
        # A peak above 1 diverges by itself, and is then told to be the cause.
        removed = self.weight_decay * (min(self.learning_rate, 1.0) if self.decay == "coupled" else 1.0)
        if removed >= 1:
            raise BadInput(
                f"optim.weight_decay={self.weight_decay:g}: with optim.learning_rate={self.learning_rate:g} and "
                f"optim.decay={self.decay} a step removes {removed:.3g} of every weight; must be below 1"
            )
        if self.cooldown_tokens and self.schedule != "wsd":
            raise BadInput(
                f"optim.cooldown_tokens={self.cooldown_tokens}: only schedule wsd has a cooldown, "
                f"not {self.schedule}"
            )

    @property
    def declared(self) -> Mapping[str, Any]:
        """The constants of the optimizer's file (training/optimizers/__init__.py says what they mean)."""
        return discover.declared(HERE / "optimizers", self.name)

    def _check_optimizer(self) -> None:
        """Refuse what the optimizer would not read, and a cooldown where it needs none."""
        reads = self.declared.get("READS", NUMBERS_OF_SOME)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in NUMBERS_OF_SOME and field.name not in reads and value != field.default:
                raise BadInput(
                    f"optim.{field.name}={value:g}: optim.name={self.name} has no such number; it reads "
                    f"{', '.join(reads) or 'none of its own'}"
                )
        if not self.declared.get("COOLDOWN", True) and (self.cooldown_tokens or self.schedule == "cosine"):
            wrong = (
                f"optim.cooldown_tokens={self.cooldown_tokens}"
                if self.cooldown_tokens
                else "optim.schedule=cosine"
            )
            raise BadInput(
                f"{wrong}: optim.name={self.name} averages its weights instead; must be optim.cooldown_tokens=0 and "
                "optim.schedule constant or wsd"
            )


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One trained model.

    Attributes:
      model, data, optim: what is trained, on what, how.
      seed: of initialization and data order.
      tokens: D, length of training; a multiple of batch_tokens.
      batch_tokens: tokens of one optimizer step; a multiple of data.sequence_length.
      evaluation_marks: token counts at which the held-out slice is evaluated, besides the end; 0 is before the first
        step.
      checkpoint_marks: token counts whose checkpoints are kept for good: where branches may start.
      parent: run_id of the trunk that a branch starts from, in the same sweep; with start=weights the run whose final
        weights this one begins with, in the same sweep, or SWEEP/RUN in another one beside it.
      branch_at_tokens: token count of the trunk's checkpoint that a branch starts from.
      tasks: held-out tasks that are scored at every evaluation mark and at the end (data/tasks/).
      task_items: problems of each task.
      objective: what is learned, a file of training/objectives/.
      mask_share: share of a window's tokens that masked and span hide (BERT, T5: 0.15).
      mask_random, mask_kept: masked only; shares of the hidden tokens that read as a random token and as themselves,
        the others read as the mask token.
      span_mean: span only, mean length of a hidden span.
      source_share: prefix only, share of a window that is the source.
      source_weight: prefix on a decoder only, weight of the loss on the source's tokens beside 1 on the target's.
      imported: SHA-256 of the weights that `launch.py import` read from a folder; "" for a run that is trained here.
      start: weights begins with the final weights of `parent` and a fresh optimizer: a later stage, whose tokens count
        from 0. Empty for random weights, or the checkpoint that a branch starts from.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    seed: Annotated[int, Allowed(0, INT32)] = 0
    tokens: Tokens = 1_048_576
    batch_tokens: Annotated[int, Allowed(1, INT32, "XLA counts the positions of a batch in int32")] = 4096
    evaluation_marks: tuple[int, ...] = ()
    checkpoint_marks: tuple[int, ...] = ()
    parent: str | None = None
    branch_at_tokens: Annotated[int | None, Allowed(1, 10**18)] = None
    tasks: tuple[str, ...] = dataclasses.field(default=(), metadata={"identity": "if set"})
    task_items: Annotated[int, Allowed(1, 1_000_000)] = dataclasses.field(
        default=500, metadata={"identity": "if set"}
    )
    objective: str = dataclasses.field(default="next_token", metadata={"identity": "if set"})
    mask_share: Annotated[float, Allowed(1e-6, 0.99)] = dataclasses.field(
        default=0.15, metadata={"identity": "if set"}
    )
    mask_random: Annotated[float, Allowed(0, 1)] = dataclasses.field(
        default=0.1, metadata={"identity": "if set"}
    )
    mask_kept: Annotated[float, Allowed(0, 1)] = dataclasses.field(default=0.1, metadata={"identity": "if set"})
    span_mean: Annotated[float, Allowed(1, 1e6)] = dataclasses.field(
        default=3.0, metadata={"identity": "if set"}
    )
    source_share: Annotated[float, Allowed(1e-6, 1 - 1e-6)] = dataclasses.field(
        default=0.5, metadata={"identity": "if set"}
    )
    source_weight: Annotated[float, Allowed(0, 1)] = dataclasses.field(
        default=0.0, metadata={"identity": "if set"}
    )
    imported: str = dataclasses.field(default="", metadata={"identity": "if set"})
    start: Literal["", "weights"] = dataclasses.field(default="", metadata={"identity": "if set"})

    def __post_init__(self) -> None:
        discover.check("objective", self.objective, HERE / "objectives")
        length = self.data.sequence_length
        bounds.check(self)
        check_objective(self)
        if self.imported and not SHA256.fullmatch(self.imported):
            raise BadInput(
                f"imported={shown(self.imported)}: must be the SHA-256 of weights, which only import writes"
            )
        if self.model.parametrization == "mup" and not self.optim.declared.get("MUP", False):
            raise BadInput(
                f"model.parametrization=mup: how the learning rate of optim.name={self.optim.name} must follow the "
                "width is not measured here; must be standard, or optim.name=adamw"
            )
        if self.model.is_routed and self.model.balance == "bias" and self.optim.name == "schedule_free":
            raise BadInput(
                "model.balance=bias: moves after every step, and optim.name=schedule_free evaluates an average; must "
                "be auxiliary or none"
            )
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
        if self.steps > INT32:
            raise BadInput(
                f"tokens={self.tokens}: {self.steps} steps of batch_tokens={self.batch_tokens}; "
                f"must be at most {INT32} steps (the optimizer counts them in int32)"
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
                        f"{key}={shown(mark)}: must be a multiple of batch_tokens={self.batch_tokens} "
                        f"between {first} and tokens={self.tokens}"
                    )
            if tuple(sorted(set(marks))) != marks:
                raise BadInput(f"{key}={list(marks)}: must be strictly increasing")
        if self.start not in STARTS:
            raise BadInput(f"start={self.start!r}: must be weights, or empty")
        if self.start == "weights":
            self._check_start()
        elif (self.parent is None) != (self.branch_at_tokens is None):
            raise BadInput("parent and branch_at_tokens: a branch needs both, another run neither")
        elif self.parent is not None and not RUN_NAME.fullmatch(self.parent):
            raise BadInput(f"parent={self.parent!r}: must be the name of a run: letters, digits, dots, dashes")
        if self.branch_at_tokens is not None:
            self._check_branch(self.branch_at_tokens)

    @functools.cached_property
    def plan(self) -> window.WindowPlan:
        """What the objective makes of a window of data.sequence_length tokens."""
        kind = discover.declared(HERE / "objectives", self.objective).get("WINDOW", "plain")
        return window.KINDS[kind](self.data.sequence_length, self, kind_of(self.model.architecture))

    @property
    def objective_settings(self) -> dict[str, float]:
        """The settings that the objective reads."""
        reads = discover.declared(HERE / "objectives", self.objective).get("READS", OBJECTIVE_SETTINGS)
        return {name: getattr(self, name) for name in reads}

    def _check_start(self) -> None:
        if self.branch_at_tokens is not None:
            raise BadInput(
                f"branch_at_tokens={self.branch_at_tokens}: with start=weights a run begins at 0 tokens; must be null"
            )
        names = (self.parent or "").split("/")
        if len(names) > 2 or not all(RUN_NAME.fullmatch(name) for name in names):
            raise BadInput(
                f"parent={self.parent!r}: with start=weights must be the name of a run, or SWEEP/RUN of another sweep"
            )

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

    def check_begins_with(self, parent: "RunSpec") -> None:
        """Raises BadInput where the weights of `parent` do not fit this run, naming the field."""
        for field in dataclasses.fields(ModelConfig):
            mine, its = getattr(self.model, field.name), getattr(parent.model, field.name)
            if field.name not in COMPUTED and mine != its:
                raise BadInput(
                    f"model.{field.name}={mine}: parent={self.parent} has {its}; a run that begins with its weights "
                    "must have the same network"
                )
        own, its = self.data.tokenizer, parent.data.tokenizer
        if own != its and not own.startswith(FILE):  # what is in a file is compared when the run begins
            raise BadInput(
                f"data.tokenizer={own!r}: parent={self.parent} reads {its!r}; a later stage must read the same tokens"
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.tokens // self.batch_tokens

    @property
    def trained_tokens(self) -> int:
        """Tokens that this run itself trains on: all but those that a branch shares with its trunk."""
        return self.tokens - (self.branch_at_tokens or 0)

    def refuse_imported(self) -> None:
        """Raises BadInput where the weights come from a folder: there is nothing to train."""
        if self.imported:
            raise BadInput(
                f"imported={self.imported}: the weights of {self.run_id} came from a folder and are not trained; "
                "to have them again: python launch.py import"
            )

    @property
    def is_branch(self) -> bool:
        """Whether it begins with a checkpoint of its trunk, whose tokens count as its own."""
        return self.branch_at_tokens is not None

    @property
    def kind(self) -> str:
        """trunk, branch, stage (begins with the final weights of another run) or run."""
        return "trunk" if self.is_trunk else "branch" if self.is_branch else "stage" if self.start else "run"

    @property
    def is_trunk(self) -> bool:
        """Whether branches may start here; a trunk's own losses come before any cooldown."""
        return bool(self.checkpoint_marks)

    @property
    def all_marks(self) -> tuple[int, ...]:
        """Where this run itself is evaluated, the end included; a branch leaves what it shares to its trunk."""
        shared = -1 if self.branch_at_tokens is None else self.branch_at_tokens
        return tuple(sorted({*(mark for mark in self.evaluation_marks if mark > shared), self.tokens}))

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
