"""How often a run reads its text: distinct tokens and passes over them, from its settings and the corpus's size."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from core.numbers import finite, number, short_count

# A token cache is <root>/tokens/<name>/, and this file of it says what it holds.
CACHES: Final = "tokens"
CACHE_META: Final = "meta.json"


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a run reads of its text.

    Attributes:
      corpus_tokens: distinct tokens of the train split, in whole sequences; None where that is not known.
      unique_tokens: distinct tokens that the run reads, those of skills included.
      epochs: passes over the tokens of the corpus that it may read.
    """

    corpus_tokens: int | None
    unique_tokens: int
    epochs: float

    @property
    def repeats(self) -> bool:
        return self.epochs > 1


def reading_of(data: Mapping[str, Any], tokens: float, train_tokens: float | None) -> Reading | None:
    """What a run on `tokens` tokens reads; None where its settings and `train_tokens` do not tell.

    Args:
      data: the data of its spec, as JSON.
      train_tokens: of the train split; None where unknown, which a run that sets data.unique_tokens need not know.
    """
    length = finite(data.get("sequence_length")) or 0
    corpus = int((train_tokens - 1) // length * length) if train_tokens and length >= 1 else None
    limits = [limit for limit in (corpus, finite(data.get("unique_tokens"))) if limit]
    if not limits or min(limits) < 1:
        return None
    skills = [round(tokens * share) for share in _shares(str(data.get("skills") or ""))]
    own, skill_tokens = tokens - sum(skills), finite(data.get("skill_tokens")) or 0
    unique = min(own, *limits) + sum(min(read, skill_tokens) for read in skills)
    return Reading(corpus, int(unique), round(own / min(limits), 4))


def _shares(skills: str) -> list[float]:
    """Shares of the training text: 0.2 and 0.05 of copying@0.2+facts@0.05."""
    shares = []
    for part in skills.split("+") if skills else []:
        try:
            shares.append(float(part.rpartition("@")[2]))
        except ValueError:
            return []
    return shares


def repeated_line(readings: Iterable[Reading | None]) -> str:
    """One line for the screen: how many runs read their text more than once, and how often; empty where none does."""
    known = list(readings)
    repeated = [reading for reading in known if reading is not None and reading.repeats]
    if not repeated:
        return ""
    most = max(repeated, key=lambda reading: reading.epochs)
    held = min(most.corpus_tokens or most.unique_tokens, most.unique_tokens)
    times = sorted({number(reading.epochs) for reading in repeated}, key=float)
    span = f"{times[0]} to {times[-1]}" if len(times) > 1 else times[0]
    verb = "reads its" if len(repeated) == 1 else "read their"
    return (
        f"repeated text: {len(repeated)} of {len(known)} runs {verb} training text more than once, {span} epochs "
        f"of {short_count(held)} distinct tokens"
    )


def known_corpora(roots: Iterable[Path]) -> dict[str, int]:
    """Tokens of the train split by fingerprint, of every token cache below these folders."""
    found: dict[str, int] = {}
    for root in roots:
        for path in sorted((root / CACHES).glob(f"*/{CACHE_META}")):
            try:
                meta = json.loads(path.read_bytes())
                found[str(meta["fingerprint"])] = int(meta["splits"]["train"]["tokens"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue  # a damaged cache tells nothing; who opens it says so
    return found
