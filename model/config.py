"""What a network is: sizes and choices, nothing about data or training. Pure values, no JAX."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from core import bounds, discover
from core.bounds import INT32, Allowed
from core.errors import BadInput

ITEM_BYTES = {"float32": 4, "bfloat16": 2}
COMPUTE_DTYPES = tuple(ITEM_BYTES)
CHOICES = {
    "activation": ("swiglu", "gelu"),
    "compute_dtype": COMPUTE_DTYPES,
    "remat": ("none", "block", "dots"),
    "parametrization": ("standard", "mup"),
    "matmul_precision": ("default", "high", "highest"),
    "balance": ("auxiliary", "bias", "none"),
}
BASE = ("base_width", "base_depth", "base_head_width")
MOST_PARAMETERS = 1e13  # 160 TB of weights, gradients and Adam's moments

Axis = Annotated[int, Allowed(1, INT32, "XLA counts an axis in int32")]
AxisOrRule = Annotated[int, Allowed(1, INT32, "XLA counts an axis in int32", zero="the default rule")]
Blocks = Annotated[int, Allowed(1, 10_000)]


@functools.cache
def architectures() -> tuple[str, ...]:
    """Names of the files of model/blocks/."""
    files = sorted((Path(__file__).parent / "blocks").glob("*.py"))
    return tuple(file.stem for file in files if file.stem != "__init__")


def declared(architecture: str) -> Mapping[str, Any]:
    """The constants of a file of model/blocks/ that are literals (model/blocks/__init__.py says what they mean)."""
    return discover.declared(Path(__file__).parent / "blocks", architecture)


@functools.cache
def kind_of(architecture: str) -> str:
    """decoder, encoder or encoder_decoder, by the literals CAUSAL and SOURCE of its file."""
    said = declared(architecture)
    return "encoder_decoder" if said.get("SOURCE") else "decoder" if said.get("CAUSAL", True) else "encoder"


def of_some(default: Any) -> Any:
    """A field that only some architectures read: those whose file names it in `READS`. Another value than the default
    is refused for the rest."""
    return dataclasses.field(default=default, metadata={"identity": "if set", "of_some": True})


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A language model: a stack of equal blocks.

    Attributes:
      vocabulary: V, rows of the embedding table; at least the tokenizer's size.
      width: D, of the residual stream.
      depth: L, blocks.
      heads: H, query heads.
      kv_heads: key and value heads (grouped-query attention, Ainslie et al. 2023, arXiv 2305.13245);
        divides heads.
      head_width: K, even (rotary positions turn pairs); 0 means width / heads.
      ff_width: F, hidden width of the feed-forward; 0 means 4 width for gelu, and for swiglu
        8/3 width rounded up to a multiple of 8 (the same parameter count; Shazeer 2020, arXiv 2002.05202).
      activation: swiglu (gated, three matrices) or gelu (two matrices).
      tied: the head is the transposed embedding table.
      qk_norm: RMSNorm on queries and keys (Henry et al. 2020, arXiv 2010.04245).
      logit_softcap: cap * tanh(logits / cap), 0 for none (Gemma 2, arXiv 2408.00118).
      rope_base: base of rotary positions (Su et al. 2021, arXiv 2104.09864).
      norm_epsilon: added to the mean square in RMSNorm.
      compute_dtype: dtype of activations and products; parameters are always float32.
      remat: none keeps all activations; block recomputes each block in the backward pass; dots keeps the products
        with weights and recomputes the rest, attention included.
      scan: one compiled block scanned over depth; false unrolls (faster on a CPU at small depth,
        slower to compile).
      architecture: the block, a file of model/blocks/.
      matmul_precision: of float32 products on an accelerator. default is TensorFloat32 on an NVIDIA GPU (10 bits after
        the point) and one pass of bfloat16 on a TPU (7 bits); high is three passes on a TPU; highest is float32, at a
        fraction of the speed. A CPU always computes float32.
      window: W, positions that a query of sliding_window sees, its own among them; 0 for an architecture without one.
      parametrization: how initial scales, multipliers and learning rates follow from the shape: standard, or mup
        (maximal update; model/parametrization.py).
      base_width, base_depth, base_head_width: mup only, the shape at which mup is the standard parametrization, and
        to which the learning rate of a run refers.
      experts: E, networks of which every token meets a few; 0 means 8 (model/blocks/mixture_of_experts.py, as all
        fields from here on).
      experts_per_token: k, experts that a token meets; 0 means 2, or 1 where there is one.
      shared_experts: experts that every token meets besides, without a router.
      expert_ff_width: hidden width of one expert; 0 means ff_width.
      router_z_loss: weight of the squared log-partition of the router (Zoph et al. 2022, arXiv 2202.08906, eq. 5).
      balance: what keeps the load of the experts even. auxiliary is a loss (Fedus et al. 2021, arXiv 2101.03961, eqs. 4
        to 6); bias is added to the router's choice, and moves after every step against the load, without a loss (Wang
        et al. 2024, arXiv 2408.15664).
      balance_weight: of that loss, 0 means 0.01; or how far the bias moves in a step, 0 means 0.001.
    """

    vocabulary: Axis = 256
    width: Axis = 64
    depth: Blocks = 2
    heads: Axis = 2
    kv_heads: Axis = 2
    head_width: AxisOrRule = 0
    ff_width: AxisOrRule = 0
    activation: Literal["swiglu", "gelu"] = "swiglu"
    tied: bool = True
    qk_norm: bool = True
    logit_softcap: Annotated[
        float, Allowed(1, 1e6, "less keeps every probability near a guess, more caps no logit", zero="none")
    ] = 0.0
    rope_base: Annotated[float, Allowed(1, 1e12)] = 10_000.0
    norm_epsilon: Annotated[
        float,
        Allowed(1e-20, 1, "less is lost in float32, more outweighs every activation and nothing is trained"),
    ] = 1e-6
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "block", "dots"] = "none"
    scan: bool = True
    architecture: str = dataclasses.field(default="decoder", metadata={"identity": "if set"})
    matmul_precision: Literal["default", "high", "highest"] = dataclasses.field(
        default="default", metadata={"identity": "if set"}
    )
    parametrization: Literal["standard", "mup"] = dataclasses.field(
        default="standard", metadata={"identity": "if set"}
    )
    base_width: Axis = dataclasses.field(default=64, metadata={"identity": "if set"})
    base_depth: Blocks = dataclasses.field(default=2, metadata={"identity": "if set"})
    base_head_width: Axis = dataclasses.field(default=16, metadata={"identity": "if set"})
    window: Annotated[int, Allowed(1, INT32, zero="no window")] = of_some(0)
    experts: Annotated[int, Allowed(1, 65_536, zero="8")] = of_some(0)
    experts_per_token: Annotated[int, Allowed(1, 65_536, zero="2")] = of_some(0)
    shared_experts: Annotated[int, Allowed(0, 65_536)] = of_some(0)
    expert_ff_width: AxisOrRule = of_some(0)
    router_z_loss: Annotated[float, Allowed(1e-12, 1, "more outweighs the loss", zero="none")] = of_some(0.0)
    balance: Literal["auxiliary", "bias", "none"] = of_some("auxiliary")
    balance_weight: Annotated[float, Allowed(1e-12, 1, "more outweighs the loss", zero="the default rule")] = (
        of_some(0.0)
    )

    def __post_init__(self) -> None:
        bounds.check(self, "model.")
        if self.head_width == 0 and self.width % self.heads:
            raise BadInput(f"model.width={self.width}: must be a multiple of model.heads={self.heads}")
        if self.heads % self.kv_heads:
            raise BadInput(f"model.kv_heads={self.kv_heads}: must divide model.heads={self.heads}")
        if self.resolved_head_width % 2:
            raise BadInput(
                f"model.head_width={self.resolved_head_width}: must be even (rotary positions turn pairs)"
            )
        for key, allowed in {**CHOICES, "architecture": architectures()}.items():
            if getattr(self, key) not in allowed:
                raise BadInput(f"model.{key}={getattr(self, key)!r}: must be one of {', '.join(allowed)}")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        if self.parametrization == "mup" and not declared(self.architecture).get("MUP", True):
            raise BadInput(
                f"model.parametrization=mup: how model.architecture={self.architecture} must scale is not measured; "
                "must be standard"
            )
        for key in BASE:
            if self.parametrization == "standard" and getattr(self, key) != defaults[key]:
                raise BadInput(
                    f"model.{key}={getattr(self, key)}: only model.parametrization=mup has a base, not standard"
                )
        reads = self.declared.get("READS", ())
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if "of_some" in field.metadata and field.name not in reads and value != field.default:
                raise BadInput(
                    f"model.{field.name}={value}: model.architecture={self.architecture} has no such setting; it reads "
                    f"{', '.join(reads) or 'none of its own'}"
                )
            if field.name in self.declared.get("UNREAD", ()) and value != field.default:
                raise BadInput(
                    f"model.{field.name}={value}: model.architecture={self.architecture} does not read it; must be "
                    f"{field.default}"
                )
        if self.parametrization == "mup" and not self.declared.get("MUP", True):
            raise BadInput(
                f"model.parametrization=mup: how the learning rate of model.architecture={self.architecture} must "
                "follow the width is not measured here; must be standard"
            )
        if "window" in reads and not self.window:
            raise BadInput(
                f"model.window=0: model.architecture={self.architecture} needs one; must be at least 1, the positions "
                "that a query sees"
            )
        self._check_experts()
        if self.about_parameters > MOST_PARAMETERS:
            raise BadInput(
                f"model.width={self.width}: with depth {self.depth}, ff_width {self.resolved_ff_width} and vocabulary "
                f"{self.vocabulary} about {self.about_parameters:.3g} parameters; must be at most {MOST_PARAMETERS:g} "
                "(more than any machine can train)"
            )

    def _check_experts(self) -> None:
        """Refuse settings of experts that contradict each other."""
        count = self.resolved_experts
        if self.resolved_experts_per_token > count:
            raise BadInput(
                f"model.experts_per_token={self.experts_per_token}: must be at most model.experts={count}"
            )
        if self.balance == "none" and self.balance_weight:
            raise BadInput(
                f"model.balance_weight={self.balance_weight:g}: model.balance=none has no weight; must be 0"
            )

    @property
    def declared(self) -> Mapping[str, Any]:
        """The literals of the architecture's file."""
        return declared(self.architecture)

    @property
    def about_parameters(self) -> int:
        """Parameters of the matrices, as a decoder has them; the exact count is read off the tree (ledger.py)."""
        attention = 2 * (self.heads + self.kv_heads) * self.resolved_head_width
        hidden = (self.resolved_experts + self.shared_experts) * self.resolved_expert_ff_width
        feed_forward = (2 if self.activation == "gelu" else 3) * hidden
        embeddings = self.vocabulary * (1 if self.tied else 2)
        return self.width * (self.depth * (attention + feed_forward) + embeddings)

    @property
    def resolved_head_width(self) -> int:
        """K with the default rule applied."""
        return self.head_width or self.width // self.heads

    @property
    def resolved_ff_width(self) -> int:
        """F with the default rule applied."""
        return self.ff_width or self._default_ff_width(self.width)

    @property
    def resolved_experts(self) -> int:
        """E with the default rule applied; 1 for an architecture without."""
        return self.experts or (8 if "experts" in self.declared.get("READS", ()) else 1)

    @property
    def is_routed(self) -> bool:
        """Whether tokens are routed: there is more than one expert, or a shared one beside it."""
        return "experts" in self.declared.get("READS", ()) and (
            self.resolved_experts > 1 or self.shared_experts > 0
        )

    @property
    def resolved_experts_per_token(self) -> int:
        """k with the default rule applied."""
        return self.experts_per_token or min(2, self.resolved_experts)

    @property
    def resolved_expert_ff_width(self) -> int:
        """Hidden width of one expert with the default rule applied."""
        return self.expert_ff_width or self.resolved_ff_width

    @property
    def resolved_balance_weight(self) -> float:
        """The weight of `balance` with the default rule applied; 0 for none."""
        return self.balance_weight or {"auxiliary": 0.01, "bias": 0.001, "none": 0.0}[self.balance]

    @property
    def base_ff_width(self) -> int:
        """F of the base shape, by the default rule."""
        return self._default_ff_width(self.base_width)

    def _default_ff_width(self, width: int) -> int:
        return 4 * width if self.activation == "gelu" else 8 * -(-width // 3)
