"""Size to shape: width, depth, heads, batch and learning rate as named functions of a parameter count."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from core import bounds
from core.bounds import INT32, Allowed
from core.codec import from_json
from core.errors import BadInput
from core.files import read_json
from data.config import DataConfig
from experiments import hyperparameters
from experiments.spec import OptimConfig, RunSpec
from model.config import MOST_PARAMETERS, Axis, Blocks, ModelConfig
from model.ledger import ledger

# Fields of a rule that a rule file does not set: they say what is trained, not how its size decides the rest.
OF_A_SWEEP = ("data", "vocabulary", "compute_dtype", "scan")


def head_width(params: float) -> int:
    """K for a model of this size: 16 keeps several heads in the smallest, 64 is the usual width of large ones."""
    return 16 if params < 1e6 else 32 if params < 1e7 else 64


@dataclasses.dataclass(frozen=True)
class ScalingRule:
    """How everything but the size follows from the size. Replace a field to change one choice.

    Attributes:
      data: corpus, tokenizer and sequence length of every run.
      vocabulary: V; the byte tokenizer's 256 by default.
      aspect_at_100k, aspect_exponent: width / depth that shapes aim for, aspect_100k * (N / 1e5) ** exponent: 16
        at 100k parameters, 50 at 100M, 75 at 1B. Loss is flat in it over a wide range (Kaplan et al. 2020, arXiv
        2001.08361, figure 5); the two numbers are our choice.
      batch_tokens: tokens a step, for the batch rule `constant`, and for `power_line` those at `batch_known_at`.
      batch_rule: constant, or a published one (experiments/hyperparameters.py).
      batch_known_at: data size in tokens at which `batch_tokens` is known to be good; power_line only.
      learning_rate_at_100k, learning_rate_exponent: peak = learning_rate_at_100k * (N / 1e5) ** -exponent.
        Set from the sweep in docs/results/learning_rate.md: within a factor 1.4 of the best peak from 11k to 120k
        parameters at 1,024 tokens a step; larger sizes and batches are an extrapolation.
      warmup_fraction, cooldown_fraction: of the run's tokens; the cooldown is 20% after Hägele et al. 2024 (arXiv
        2405.18392, section 4).
      warmup_rule: fraction; parameters, as many tokens as the model has parameters (Porian et al. 2024, arXiv
        2406.19146); or adam, 2 / (1 - beta2) steps (Ma and Yarats 2021, arXiv 1910.04209). The latter two at most a
        fifth of the run.
      weight_decay: decoupled, coupled to the learning rate; standard parametrization.
      parametrization: standard, whose peak follows the rule above, or mup (model/parametrization.py), whose peak is the
        same number at every width and depth.
      base_width, base_depth, base_head_width: of mup.
      learning_rate_at_base: peak under mup. Set from docs/results/lr_transfer.md (131k tokens, 512 a step);
        experiments/tune.py finds it for other data and batches.
      decay_per_step: of mup, independent of the learning rate: what a step at the peak removes of every matrix; as much
        as the standard rule removes at 100k parameters.
      decay_timescale: under mup, removes what makes weights average over this part of the run instead; 0 for
        decay_per_step (experiments/hyperparameters.py).
      compute_dtype, scan: of the model.
    """

    data: DataConfig = DataConfig()
    vocabulary: Axis = 256
    aspect_at_100k: Annotated[float, Allowed(1e-3, 1e6)] = 16.0
    aspect_exponent: Annotated[float, Allowed(-2, 2)] = 1 / 6
    batch_tokens: Annotated[int, Allowed(1, INT32)] = 1024
    learning_rate_at_100k: Annotated[float, Allowed(1e-9, 1e9)] = 8e-3
    learning_rate_exponent: Annotated[float, Allowed(-3, 3)] = 0.4
    warmup_fraction: Annotated[float, Allowed(0, 1)] = 0.05
    cooldown_fraction: Annotated[float, Allowed(0, 1)] = 0.2
    weight_decay: Annotated[float, Allowed(0, 1e9)] = 0.1
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = False
    parametrization: Literal["standard", "mup"] = "standard"
    base_width: Axis = 64
    base_depth: Blocks = 2
    base_head_width: Axis = 16
    learning_rate_at_base: Annotated[float, Allowed(1e-9, 1e9)] = 6e-3
    decay_per_step: Annotated[float, Allowed(0, 1)] = 8e-4
    decay_timescale: Annotated[float, Allowed(0, 1e9)] = 0.0
    batch_rule: Literal["constant", "power_line", "kaplan", "deepseek", "step_law"] = "constant"
    batch_known_at: Annotated[int, Allowed(1, 10**18)] = 1_048_576
    warmup_rule: Literal["fraction", "parameters", "adam"] = "fraction"

    def __post_init__(self) -> None:
        for key, allowed in (
            ("parametrization", ("standard", "mup")),
            ("batch_rule", hyperparameters.BATCH_RULES),
            ("warmup_rule", hyperparameters.WARMUP_RULES),
        ):
            if getattr(self, key) not in allowed:
                raise BadInput(f"{key}={getattr(self, key)!r}: must be one of {', '.join(allowed)}")
        bounds.check(self)

    @classmethod
    def read(cls, path: str, **choices: Any) -> "ScalingRule":
        """The rule in a file of `python -m analysis.learning_rate SWEEP --rule FILE`, with a sweep's own choices.

        The file is {"kind": "scaling rule", "rule": {field: value}, "source": ...}; fields that it leaves out have
        their defaults. What belongs to a sweep (`OF_A_SWEEP`) is not its business.

        Args:
          path: of the file; "" for the defaults.
          choices: fields that the sweep sets itself; they win over the file.

        Raises:
          BadInput: no such file, another kind of file, an unknown or wrong-typed field.
        """
        if not path:
            return cls(**choices)
        content = read_json(path)
        if not isinstance(content, dict) or content.get("kind") != "scaling rule" or "rule" not in content:
            raise BadInput(f"{path}: is not a scaling rule, as analysis.learning_rate --rule writes one")
        fields = content["rule"]
        allowed = [field.name for field in dataclasses.fields(cls) if field.name not in OF_A_SWEEP]
        for key in fields if isinstance(fields, dict) else ():
            if key not in allowed:
                raise BadInput(f"{path}: unknown key {key!r} of rule: allowed are {', '.join(allowed)}")
        try:
            return dataclasses.replace(from_json(cls, fields, "rule"), **choices)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None

    def model(self, params: float) -> ModelConfig:
        """The shape whose non-embedding-plus-head count is nearest to `params`, at about the rule's aspect.

        Raises:
          BadInput: no shape comes within a factor 1.5.
        """
        aspect = self.aspect_at_100k * (params / 1e5) ** self.aspect_exponent
        bounds.refuse("params", params, Allowed(0, MOST_PARAMETERS))
        best, best_cost = None, math.inf
        for depth in range(1, 129):
            unit = head_width(params)
            middle = round(aspect * depth / unit)
            for multiple in range(max(1, middle - 4), middle + 5):
                config = self.shape(multiple * unit, depth, unit)
                # A factor of 2 in aspect weighs as much as 3% in size: size first, then shape.
                off_aspect = abs(math.log(config.width / (aspect * depth)))
                cost = abs(math.log(self.count(config) / params)) + 0.04 * off_aspect
                if cost < best_cost:
                    best, best_cost = config, cost
        if best is None or not 1 / 1.5 < self.count(best) / params < 1.5:
            raise BadInput(f"params={params:g}: no shape of this rule comes within a factor 1.5")
        return best

    def shape(self, width: int, depth: int, head: int = 16) -> ModelConfig:
        """A model of this width and depth with heads of width `head`."""
        model = ModelConfig(
            vocabulary=self.vocabulary,
            width=width,
            depth=depth,
            heads=max(1, width // head),
            kv_heads=max(1, width // head),
            compute_dtype=self.compute_dtype,
            scan=self.scan,
        )
        if self.parametrization == "standard":
            return model
        return dataclasses.replace(
            model,
            parametrization=self.parametrization,
            base_width=self.base_width,
            base_depth=self.base_depth,
            base_head_width=self.base_head_width,
        )

    def count(self, model: ModelConfig) -> int:
        """N of the fits: non-embedding parameters plus the head (Porian et al. 2024, arXiv 2406.19146)."""
        return ledger(model, self.data.sequence_length)["params"]["non_embedding_plus_head"]

    def learning_rate(self, params: float) -> float:
        """Peak learning rate for a model of `params` parameters; under mup the same for all."""
        if self.parametrization == "mup":
            return self.learning_rate_at_base
        return self.learning_rate_at_100k * (params / 1e5) ** -self.learning_rate_exponent

    def settled(self, params: float, tokens: float) -> "ScalingRule":
        """This rule with the batch size and the decay that its rules give at a size and a data size.

        The batch is a whole number of sequences, the nearest.
        """
        rule = self
        if self.batch_rule != "constant":
            wanted = {
                "power_line": lambda: hyperparameters.power_line_batch(
                    tokens, self.batch_tokens, self.batch_known_at
                ),
                "kaplan": lambda: hyperparameters.kaplan_batch(params, tokens),
                "deepseek": lambda: hyperparameters.deepseek_batch(6 * params * tokens),
                "step_law": lambda: hyperparameters.step_law_batch(tokens),
            }[self.batch_rule]()
            length = self.data.sequence_length
            batch = max(1, round(wanted / length)) * length
            rule = dataclasses.replace(rule, batch_tokens=batch, batch_rule="constant")
        if self.decay_timescale:
            share = hyperparameters.decay_per_step(rule.batch_tokens, tokens, self.decay_timescale)
            rule = dataclasses.replace(rule, decay_per_step=float(f"{share:.3g}"), decay_timescale=0.0)
        return rule

    def warmup_tokens(self, params: float, tokens: float, beta2: float = OptimConfig.beta2) -> int:
        """Length of the warmup in whole batches; the published rules are cut at a fifth of the run."""
        wanted = {
            "fraction": tokens * self.warmup_fraction,
            "parameters": min(params, tokens / 5),
            "adam": min(hyperparameters.adam_warmup_tokens(beta2, self.batch_tokens), tokens / 5),
        }[self.warmup_rule]
        return self.whole_batches(wanted)

    def whole_batches(self, tokens: float) -> int:
        """The multiple of batch_tokens nearest to `tokens`."""
        return round(tokens / self.batch_tokens) * self.batch_tokens

    def trunk_and_branches(
        self, params: float, tokens: Sequence[float], seed: int = 0, model: ModelConfig | None = None
    ) -> list[RunSpec]:
        """One run at constant learning rate, and for each data size a cooldown from its checkpoint.

        The same losses as one run a data size, for about half the FLOPs (Hägele et al. 2024, arXiv 2405.18392). The
        warmup is that of the smallest data size, and batch and decay are those of the middle one, since the trunk is
        shared.

        Args:
          params, seed, model: as for `run`.
          tokens: data sizes, each rounded to whole batches.

        Raises:
          BadInput: a data size is too short to hold a warmup and a cooldown.
        """
        size = self.count(model) if model else params
        distinct = set(tokens)
        middle = math.exp(sum(math.log(max(count, 1.0)) for count in distinct) / max(1, len(distinct)))
        rule = self.settled(size, middle)
        ends = [rule.run(params, count, seed, model=model) for count in sorted(tokens)]
        warmup = ends[0].optim.warmup_tokens
        starts = [run.tokens - run.optim.cooldown_tokens for run in ends]
        marks = tuple(sorted(set(starts)))
        trunk = dataclasses.replace(
            ends[0],
            tokens=marks[-1],
            optim=dataclasses.replace(ends[0].optim, schedule="constant", cooldown_tokens=0),
            evaluation_marks=marks[:-1],
            checkpoint_marks=marks,
        )
        return [trunk] + [
            dataclasses.replace(
                run,
                optim=dataclasses.replace(run.optim, warmup_tokens=warmup),
                parent=trunk.run_id,
                branch_at_tokens=start,
            )
            for run, start in zip(ends, starts, strict=True)
        ]

    def run(
        self,
        params: float,
        tokens: float,
        seed: int = 0,
        evaluations: int = 1,
        model: ModelConfig | None = None,
    ) -> RunSpec:
        """The run that trains about `params` parameters on about `tokens` tokens.

        Args:
          params: target for the non-embedding-plus-head count; ignored where `model` is given.
          tokens: D, rounded to whole batches.
          seed: of initialization and data order.
          evaluations: evaluations at equal distances, the end included.
          model: this shape instead of the rule's.

        Raises:
          BadInput: less than one batch of tokens, or no shape near `params`.
        """
        if not 0 < tokens < math.inf:
            raise BadInput(f"tokens={tokens:g}: below one batch (batch_tokens={self.batch_tokens})")
        bounds.refuse("tokens", tokens, Allowed(0, 10**18, "no machine reads more"))
        size = self.count(model) if model else params
        rule = self.settled(size, tokens)
        if not tokens >= rule.batch_tokens:
            raise BadInput(f"tokens={tokens:g}: below one batch (batch_tokens={rule.batch_tokens})")
        bounds.refuse("evaluations", evaluations, Allowed(1, 10_000, "1 is the end of training"))
        model = model or self.model(params)
        mup = self.parametrization == "mup"
        total = rule.whole_batches(tokens)
        marks = {rule.whole_batches(total * part / evaluations) for part in range(1, evaluations)}
        return RunSpec(
            model=model,
            data=self.data,
            optim=OptimConfig(
                learning_rate=float(f"{self.learning_rate(self.count(model)):.3g}"),
                weight_decay=rule.decay_per_step if mup else self.weight_decay,
                decay="independent" if mup else "coupled",
                schedule="wsd",
                warmup_tokens=rule.warmup_tokens(self.count(model), total),
                cooldown_tokens=rule.whole_batches(total * self.cooldown_fraction),
            ),
            seed=seed,
            tokens=total,
            batch_tokens=rule.batch_tokens,
            evaluation_marks=tuple(sorted(mark for mark in marks if 0 < mark < total)),
        )
