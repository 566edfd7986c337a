"""What a run reads: corpus, tokenizer, sequence length. Pure values; nothing is opened here."""

import dataclasses
from typing import Annotated

from core import bounds
from core.bounds import INT32, Allowed
from core.errors import BadInput
from core.names import MOST_PATH_BYTES
from core.paths import absolute
from core.reading import shown
from data import corpora
from data.mixture import located as located_mixture
from data.mixture import parse_mixture

FILE = "file:"
TOKENIZER_FORMS = "byte, char, word:SIZE, bpe:SIZE or file:PATH"
# word: separator, unknown and one word; bpe: separator and every byte.
SMALLEST_SIZES = {"word": 3, "bpe": 257}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The text of a run and how it becomes sequences of tokens.

    Attributes:
      corpus: a kind of data/corpora/: pysource (Python source and documentation on this machine), text:PATH (a file
        of the user's text, or a folder of them), or tfds:NAME (any TFDS text corpus, `tfds:lm1b`).
      domain: part of the corpus: all, and of pysource code or docs.
      tokenizer: byte, char, word:SIZE, bpe:SIZE (trained on the train split), or file:PATH (a tokenizer.json).
      sequence_length: T, tokens a sequence.
      validation_tokens: length of the fixed held-out slice that every evaluation reads, a multiple of
        sequence_length once rounded down.
      unique_tokens: train on this many distinct tokens, repeated (Muennighoff et al. 2023, arXiv 2305.16264);
        0 means the whole train split.
      skills: synthetic tasks in the training text with their shares of it, TASK@SHARE joined by +, such as
        associative-recall:pairs=4@0.2+facts@0.05; the rest is the corpus.
      skill_tokens: distinct tokens of each skill; a run that reads more of one repeats them.
      mixture: train on several corpora instead, CORPUS=SHARE joined by commas, such as
        pysource:code=0.7,pysource:docs=0.3; `corpus` is then the text that is held out (data/mixture.py).
      near_duplicates: leave training documents out whose Jaccard similarity with a held-out one is at least this
        (data/near_duplicates.py); 0 keeps all, and only counts them.
    """

    corpus: str = "pysource"
    domain: str = "all"
    tokenizer: str = "byte"
    sequence_length: Annotated[int, Allowed(2, 2**24, "positions are exact in float32 up to there")] = 128
    validation_tokens: Annotated[int, Allowed(1, 10**12)] = 131_072
    unique_tokens: Annotated[int, Allowed(0, 10**18)] = 0
    # Left out of a run's identity at their defaults: runs from before these fields keep their names.
    skills: str = dataclasses.field(default="", metadata={"identity": "if set"})
    skill_tokens: Annotated[int, Allowed(1, 10**12)] = dataclasses.field(
        default=4_194_304, metadata={"identity": "if set"}
    )
    near_duplicates: Annotated[
        float, Allowed(0.5, 1, "below, not all that are near would be found", zero="keep them")
    ] = dataclasses.field(default=0.0, metadata={"identity": "if set"})
    mixture: str = dataclasses.field(default="", metadata={"identity": "if set"})

    def __post_init__(self) -> None:
        bounds.check(self, "data.")
        for key in ("corpus", "tokenizer", "skills", "mixture"):
            text = getattr(self, key)
            if len(text) > MOST_PATH_BYTES or "\0" in text:
                raise BadInput(
                    f"data.{key}={shown(text)}: must be at most {MOST_PATH_BYTES} letters without NUL"
                )
        corpus, _ = corpora.find(self.corpus)
        if self.domain not in corpus.DOMAINS:
            allowed = ", ".join(corpus.DOMAINS)
            raise BadInput(f"data.domain={self.domain!r}: of {self.corpus} it must be one of {allowed}")
        kind, _, rest = self.tokenizer.partition(":")
        sized = kind in SMALLEST_SIZES and rest.isascii() and rest.isdigit() and len(rest) < 20
        if not (self.tokenizer in ("byte", "char") or sized or (self.tokenizer.startswith(FILE) and rest)):
            raise BadInput(f"data.tokenizer={self.tokenizer!r}: must be {TOKENIZER_FORMS}")
        if sized and not SMALLEST_SIZES[kind] <= int(rest) <= INT32:
            raise BadInput(
                f"data.tokenizer={self.tokenizer!r}: SIZE must be at least {SMALLEST_SIZES[kind]}, at most {INT32}"
            )
        if self.validation_tokens < self.sequence_length:
            raise BadInput(
                f"data.validation_tokens={self.validation_tokens}: must be at least "
                f"data.sequence_length={self.sequence_length}"
            )
        if self.unique_tokens and self.unique_tokens < self.sequence_length:
            raise BadInput(
                f"data.unique_tokens={self.unique_tokens}: must be at least "
                f"data.sequence_length={self.sequence_length}, or 0 for the whole split"
            )
        if self.skill_tokens <= self.sequence_length:
            raise BadInput(
                f"data.skill_tokens={self.skill_tokens}: must be more than "
                f"data.sequence_length={self.sequence_length}"
            )
        if self.skills:
            from data.skills import parse_skills  # only runs with skills pay for loading the tasks

            parse_skills(self.skills)

        if self.mixture:
            self._check_mixture()

    def _check_mixture(self) -> None:
        parse_mixture(self.mixture)
        for key, why in (("skills", "the rest is one corpus"), ("unique_tokens", "it would be of one corpus")):
            if getattr(self, key):
                raise BadInput(
                    f"data.{key}={shown(getattr(self, key))}: cannot be combined with data.mixture ({why})"
                )
        if not (self.tokenizer == "byte" or self.tokenizer.startswith(FILE)):
            raise BadInput(
                f"data.tokenizer={self.tokenizer!r}: each corpus of data.mixture would train its own; must be byte or "
                "file:PATH"
            )

    def parts(self) -> "tuple[DataConfig, ...]":
        """What each corpus of the mixture would be as the only one of a run; none without a mixture."""
        return tuple(
            dataclasses.replace(self, corpus=part.corpus, domain=part.domain, mixture="")
            for part in parse_mixture(self.mixture)
        )

    def located(self) -> "DataConfig":
        """The same with every path from the root on: it means the same wherever a worker stands.

        Raises:
          BadInput: nobody knows the home of a path.
        """
        tokenizer = self.tokenizer
        if tokenizer.startswith(FILE):
            path = absolute(tokenizer.removeprefix(FILE), f"data.tokenizer={tokenizer!r}")
            tokenizer = f"{FILE}{path}"
        mixture = self.mixture
        if mixture:
            mixture = located_mixture(mixture)
        return dataclasses.replace(
            self, corpus=corpora.located(self.corpus), tokenizer=tokenizer, mixture=mixture
        )
