"""What can be checked and built before any run starts: the corpus, its tokens, the fit of specs to them."""

import functools
from collections.abc import Iterable
from pathlib import Path

from core.codec import to_json
from core.epochs import Reading, reading_of
from core.errors import BadInput
from core.records import TaskRecord
from data.cache import TokenCache, open_or_build, train_tokens
from data.config import DataConfig
from data.loader import TrainLoader, validation_bytes
from training.spec import RunSpec


def check_vocabulary(spec: RunSpec, cache: TokenCache) -> None:
    """Raises BadInput where the tokenizer has more tokens than the model's embedding table has rows."""
    if cache.vocabulary > spec.model.vocabulary:
        raise BadInput(
            f"model.vocabulary={spec.model.vocabulary}: the tokenizer {spec.data.tokenizer} has "
            f"{cache.vocabulary} tokens; use at least that"
        )


def readings(specs: Iterable[RunSpec], cache_root: Path) -> list[Reading | None]:
    """How often each run reads its text; None where its token cache is not built yet."""
    known = functools.cache(lambda data: train_tokens(data, cache_root))
    return [reading_of(to_json(spec.data), spec.tokens, known(spec.data)) for spec in specs]


def prepare(specs: Iterable[RunSpec], cache_root: Path, *, progress: bool = True) -> dict[str, TaskRecord]:
    """Build every token cache that the runs read, and refuse runs that cannot read theirs.

    Returns:
      What tasks.json will say of each task that the runs are scored on, by name.

    Raises:
      BadInput: a corpus is missing or empty, its splits are shorter than what the run reads, a model's
        vocabulary is smaller than the tokenizer's, or a task is too long or in the training text.
    """
    records: dict[str, TaskRecord] = {}
    caches: dict[DataConfig, TokenCache] = {}
    for spec in specs:
        if spec.data not in caches:
            caches[spec.data] = open_or_build(spec.data, cache_root, progress=progress)
            validation_bytes(caches[spec.data], spec.data)
        check_vocabulary(spec, caches[spec.data])
        TrainLoader(
            caches[spec.data], spec.data, batch_tokens=spec.batch_tokens, seed=spec.seed, prefetch=False
        )
        if spec.tasks:
            from training.evaluate.tasks import held_out_tasks  # here: loads JAX, for runs with tasks only

            records |= held_out_tasks(spec.tasks, spec.task_items, spec.data, cache_root).records
    return records
