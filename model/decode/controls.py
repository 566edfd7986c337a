"""How the next token may be chosen: numbers and their ranges. Pure values, no JAX: a command line has them as flags."""

import dataclasses
from typing import Annotated, Literal, get_args

from core import bounds
from core.bounds import INT32, Allowed
from core.errors import BadInput

Temperature = Annotated[float, Allowed(1e-4, 1e4, zero="the likeliest token")]
TopK = Annotated[int, Allowed(1, INT32, zero="all tokens")]
TopP = Annotated[float, Allowed(1e-9, 1)]
MinP = Annotated[float, Allowed(0, 1)]
Penalty = Annotated[float, Allowed(-1000, 1000)]
Repetition = Annotated[float, Allowed(1e-3, 1e3)]
Counted = Literal["generated", "all"]


@dataclasses.dataclass(frozen=True)
class Controls:
    """How tokens are drawn. The defaults draw from the network's own distribution.

    Attributes:
      temperature: t; scores are divided by it. 0 takes the likeliest token.
      top_k: only the k likeliest tokens, and those that tie with the last of them; 0 for all.
      top_p: only the likeliest tokens, as few as hold this probability together (Holtzman et al. 2020, arXiv
        1904.09751); 1 for all.
      min_p: only tokens at least this share as likely as the likeliest (Nguyen et al. 2024, arXiv 2407.01082); 0 for
        all.
      frequency_penalty: taken off a token's score for every time that it was there.
      presence_penalty: taken off a token's score once it was there.
      repetition_penalty: a score above 0 of a token that was in prompt or answer is divided by it, one below 0 is
        multiplied (Keskar et al. 2019, arXiv 1909.05858); 1 for none.
      penalty_counts: which tokens the first two penalties count: `generated`, as OpenAI and vLLM, or `all`, the
        prompt's as well.
    """

    temperature: Temperature = 1.0
    top_k: TopK = 0
    top_p: TopP = 1.0
    min_p: MinP = 0.0
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    repetition_penalty: Repetition = 1.0
    penalty_counts: Counted = "generated"

    def __post_init__(self) -> None:
        bounds.check(self, "")
        if self.penalty_counts not in get_args(Counted):
            raise BadInput(f"penalty_counts={self.penalty_counts!r}: must be generated or all")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    @property
    def used(self) -> frozenset[str]:
        """Names of the controls that do something: what a program is compiled for. Their values are its arguments."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        return frozenset(name for name, value in defaults.items() if getattr(self, name) != value) | (
            {"greedy"} if self.greedy else frozenset()
        )

    @property
    def values(self) -> dict[str, float]:
        """The numbers among them."""
        numbers = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in numbers.items() if not isinstance(value, str)}


MostTokens = Annotated[int, Allowed(1, 1_000_000)]  # of a text
Samples = Annotated[int, Allowed(1, 100_000)]  # texts of a prompt
NAMES = tuple(field.name for field in dataclasses.fields(Controls))
