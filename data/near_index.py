"""Near-duplicates between the splits of a corpus: counted when it is built, and left out of training where asked."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from core.errors import BadInput
from data.documents import SPLITS
from data.index import CorpusIndex, fingerprint_of, read_documents
from data.near_duplicates import FORMAT, counts, nearest
from data.parts import Parts

REMOVED = "near-duplicate of held-out text"  # a reason among those that documents are dropped for
HELD_OUT = tuple(split for split in SPLITS if split != "train")

Similarity = Mapping[
    str, np.ndarray
]  # of each document of a split, the largest Jaccard with one of the other side


def similarity_of(index: CorpusIndex, parts: Parts) -> Similarity:
    """How near each training document comes to a held-out one, and each held-out one to training. float32 (documents,)

    Args:
      parts: what an interrupted build has finished; this one adds to it.
    """
    made_from = [FORMAT, index.fingerprint]
    known = parts.read("near", made_from)
    if known is not None:
        return known
    own = [read_documents(index.source, index.splits[split]) for split in HELD_OUT]
    found = nearest(
        read_documents(index.source, index.splits["train"]), (text for part in own for text in part)
    )
    ends = np.cumsum([len(index.splits[split].lengths) for split in HELD_OUT])[:-1]
    similarity = {
        "train": found.train,
        **dict(zip(HELD_OUT, np.split(found.held_out, ends), strict=True)),
    }
    parts.keep("near", made_from, similarity)
    return similarity


def without_near(index: CorpusIndex, similarity: Similarity, threshold: float) -> CorpusIndex:
    """The corpus without the training documents whose Jaccard with a held-out one is at least `threshold`.

    Training documents go, and held-out ones stay, so that runs with and without are evaluated on the same text.

    Raises:
      BadInput: nothing is left to train on.
    """
    # A share is kept in float32: 0.9 there is a little below 0.9.
    kept = np.flatnonzero(similarity["train"] < np.float32(threshold))
    removed = len(similarity["train"]) - len(kept)
    if not len(kept):
        raise BadInput(
            f"data.near_duplicates={threshold:g}: leaves none of {removed} training documents; must be larger, or 0 to "
            "keep them"
        )
    splits = {**index.splits, "train": index.splits["train"].take(kept)}
    return dataclasses.replace(
        index,
        splits=splits,
        dropped={**index.dropped, REMOVED: removed} if removed else index.dropped,
        fingerprint=fingerprint_of(splits, index.domains) if removed else index.fingerprint,
    )


def statistics(similarity: Similarity) -> dict[str, dict[str, int]]:
    """{split: {threshold: documents}}, of those with a near-duplicate on the other side."""
    return {split: counts(similarity[split]) for split in SPLITS}
