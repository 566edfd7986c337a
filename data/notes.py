"""What a user should know of a corpus and its tokenizer before training on them, one line each."""

from collections.abc import Mapping
from typing import Any

from data.documents import SPLITS
from data.textfiles.find import said

Statistics = Mapping[str, Any]  # `TokenCache.statistics`


def notes(statistics: Statistics, corpus: str, tokenizer: str) -> list[str]:
    """Files that were not read, and text that the tokenizer does not give back."""
    lines = []
    skipped = said(statistics.get("skipped_files", {}))
    if skipped:
        lines.append(f"corpus {corpus}: not read: {skipped}")
    lost = {split: share for split in SPLITS if (share := lost_share(statistics, split))}
    if lost:
        parts = ", ".join(f"{share:.2%} of the bytes of {split}" for split, share in lost.items())
        lines.append(
            f"tokenizer {tokenizer}: decoding does not give back {parts}; a model is not charged for them, so its bits "
            "per byte are too low"
        )
    return lines + near(statistics, corpus)


def near(statistics: Statistics, corpus: str) -> list[str]:
    """Held-out text that stands in the training text almost word for word; none where nothing was found or counted."""
    counted = statistics.get("near_duplicates", {}).get("validation", {})
    documents = sum(row["documents"] for row in statistics["splits"].get("validation", {}).values())
    found = [f"{count:,} at Jaccard {at}" for at, count in counted.items() if count]
    if not found:
        return []
    return [
        f"corpus {corpus}: of {documents:,} validation documents, near-duplicates stand in the training text of "
        f"{', '.join(found)}; val/clean-JACCARD/loss is the loss without them, and --set data.near_duplicates=0.5 "
        "leaves their copies out of training"
    ]


def dropped(statistics: Statistics) -> str:
    """`2 empty (a.txt, b.txt), 300 duplicate`; empty where nothing was."""
    first = statistics.get("dropped_first", {})
    return ", ".join(
        f"{count:,} {reason}{named(first.get(reason, []), count)}"
        for reason, count in statistics["dropped"].items()
    )


def named(first: list[str], count: int) -> str:
    return f" ({', '.join(first)}{', ...' if count > len(first) else ''})" if first else ""


def lost_share(statistics: Statistics, split: str = "validation") -> float | None:
    """The share of the bytes of a split that decoding does not give back; None where the cache is older."""
    lost = statistics.get("lost")
    total = sum(row["bytes"] for row in statistics["splits"].get(split, {}).values())
    return None if lost is None else lost[split] / total if total else 0.0
