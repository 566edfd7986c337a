"""Several corpora in fixed proportions: `pysource:code=0.7,pysource:docs=0.3` as `data.mixture`.

Each corpus has its own token cache and its own order of windows. Which windows of a run are of which corpus is a fixed
pattern of 100 (data/skills.py), so that a position of the run determines its window, and a shorter run is the beginning
of a longer one. `data.corpus` stays the text that a run is judged on and that words and merges of a tokenizer come
from, so that mixtures are compared on one and the same text; each corpus of the mixture has a loss of its own besides.
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Sequence

from core.errors import BadInput
from core.reading import shown
from data import corpora

FORM = "CORPUS=SHARE or CORPUS:DOMAIN=SHARE joined by commas, with shares of whole percents that add up to 1"


@dataclasses.dataclass(frozen=True)
class MixturePart:
    """One corpus of a mixture and its share of the training windows in percent.

    Attributes:
      name: as the user wrote it; in names of losses a slash is an underscore.
    """

    name: str
    corpus: str
    domain: str
    percent: int

    @property
    def label(self) -> str:
        """Its name in val/LABEL/loss."""
        return self.name.replace("/", "_")


@functools.lru_cache(maxsize=64)
def parse_mixture(text: str) -> tuple[MixturePart, ...]:
    """The parts of `DataConfig.mixture`; none for the empty text.

    Raises:
      BadInput: another form, fewer than two corpora, one twice, or shares that do not add up to 1.
    """
    if not text:
        return ()
    ahead = "|".join(map(re.escape, corpora.kinds()))
    parts = [_part(word) for word in re.split(rf",(?=(?:{ahead})\b)", text)]
    total = sum(part.percent for part in parts)
    if total != 100:
        raise BadInput(f"data.mixture={shown(text)}: shares add up to {total / 100:.2f}; must be 1")
    if len(parts) < 2:
        raise BadInput(f"data.mixture={shown(text)}: must be two corpora or more, or data.corpus alone")
    if len({(part.corpus, part.domain) for part in parts}) < len(parts):
        raise BadInput(f"data.mixture={shown(text)}: a corpus is named twice")
    return tuple(parts)


def _part(word: str) -> MixturePart:
    name, equals, share = word.rpartition("=")
    if not (name and equals and re.fullmatch(r"0?\.[0-9]{1,2}", share) and float(share) > 0):
        raise BadInput(f"data.mixture={shown(word)}: must be {FORM}")
    kind, _, rest = name.partition(":")
    if kind not in corpora.kinds():
        raise BadInput(f"data.mixture={shown(word)}: the corpus must be {corpora.forms()}")
    corpus = corpora.load(kind)
    if ":" in corpus.FORM:
        return MixturePart(name, name, corpus.DOMAINS[0], round(100 * float(share)))
    if (domain := rest or corpus.DOMAINS[0]) not in corpus.DOMAINS:
        allowed = ", ".join(corpus.DOMAINS)
        raise BadInput(f"data.mixture={shown(word)}: the domain of {kind} must be one of {allowed}")
    return MixturePart(name, kind, domain, round(100 * float(share)))


def located(text: str) -> str:
    """The same mixture with paths from the root on."""
    parts = parse_mixture(text)
    return ",".join(
        f"{part.name if part.corpus != part.name else corpora.located(part.corpus)}={part.percent / 100:g}"
        for part in parts
    )


def fingerprint_with(own: str, parts: Sequence[MixturePart], fingerprints: Sequence[str]) -> str:
    """SHA-256 of what decides every token that a run on a mixture reads."""
    decides = [own, [[part.percent, one] for part, one in zip(parts, fingerprints, strict=True)]]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def fresh_tokens(parts: Sequence[MixturePart], train_tokens: Sequence[int]) -> int:
    """Tokens that a run may read before a corpus of the mixture repeats."""
    return min(int(count * 100 / part.percent) for part, count in zip(parts, train_tokens, strict=True))


def epochs(text: str, tokens: int, train_tokens: Sequence[int]) -> dict[str, float]:
    """Passes over each corpus of a mixture in a run on `tokens` tokens, by its name."""
    parts = parse_mixture(text)
    return {
        part.name: round(tokens * part.percent / 100 / count, 4)
        for part, count in zip(parts, train_tokens, strict=True)
    }
