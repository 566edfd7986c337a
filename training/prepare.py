"""What can be checked and built before any run starts: the corpus, its tokens, the fit of specs to them."""

from collections.abc import Iterable
from pathlib import Path

from data.cache import open_or_build

from errors import BadInput
from training.config import RunSpec


def prepare(specs: Iterable[RunSpec], cache_root: Path, *, progress: bool = True) -> None:
    """Build every token cache that the runs read, and refuse runs that cannot read theirs.

    Raises:
      BadInput: a corpus is missing or empty, its split is shorter than one sequence or the held-out slice, or a
        model's vocabulary is smaller than the tokenizer's.
    """
    caches = {}
    for spec in specs:
        if spec.data not in caches:
            caches[spec.data] = open_or_build(spec.data, cache_root, progress=progress)
        if caches[spec.data].vocabulary > spec.model.vocabulary:
            raise BadInput(
                f"model.vocabulary={spec.model.vocabulary}: the tokenizer {spec.data.tokenizer} has "
                f"{caches[spec.data].vocabulary} tokens; use at least that"
            )
