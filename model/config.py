"""What a network is: sizes and choices, nothing about data or training. Pure values, no JAX."""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated, Literal

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


@functools.cache
def kind_of(architecture: str) -> str:
    """decoder, encoder or encoder_decoder, by the literals CAUSAL and SOURCE of a file of model/blocks/."""
    said = discover.declared(Path(__file__).parent / "blocks", architecture)
    return "encoder_decoder" if said.get("SOURCE") else "decoder" if said.get("CAUSAL", True) else "encoder"


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
      parametrization: how initial scales, multipliers and learning rates follow from the shape: standard, or mup
        (maximal update; model/parametrization.py).
      base_width, base_depth, base_head_width: mup only, the shape at which mup is the standard parametrization, and
        to which the learning rate of a run refers.
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
        for key in BASE:
            if self.parametrization == "standard" and getattr(self, key) != defaults[key]:
                raise BadInput(
                    f"model.{key}={getattr(self, key)}: only model.parametrization=mup has a base, not standard"
                )
        if self.about_parameters > MOST_PARAMETERS:
            raise BadInput(
                f"model.width={self.width}: with depth {self.depth}, ff_width {self.resolved_ff_width} and vocabulary "
                f"{self.vocabulary} about {self.about_parameters:.3g} parameters; must be at most {MOST_PARAMETERS:g} "
                "(more than any machine can train)"
            )

    @property
    def about_parameters(self) -> int:
        """Parameters of the matrices, as a decoder has them; the exact count is read off the tree (ledger.py)."""
        attention = 2 * (self.heads + self.kv_heads) * self.resolved_head_width
        feed_forward = (2 if self.activation == "gelu" else 3) * self.resolved_ff_width
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
    def base_ff_width(self) -> int:
        """F of the base shape, by the default rule."""
        return self._default_ff_width(self.base_width)

    def _default_ff_width(self, width: int) -> int:
        return 4 * width if self.activation == "gelu" else 8 * -(-width // 3)
