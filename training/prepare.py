"""What can be checked and built before any run starts: the corpus, its tokens, the fit of specs to them."""

import functools
import sys
from collections.abc import Iterable
from pathlib import Path

from core.codec import to_json
from core.epochs import Reading, reading_of
from core.errors import BadInput, writes
from core.records import CorpusRecord, TaskRecord
from core.rundir import SweepDirectory
from data.cache import TokenCache, open_or_build, train_tokens
from data.config import DataConfig
from data.loader import TrainLoader, validation_bytes
from data.notes import lost_share, notes
from data.skills import stream_fingerprint
from training.same_text import check_sweep
from training.spec import RunSpec


def check_vocabulary(spec: RunSpec, cache: TokenCache) -> None:
    """Raises BadInput where the tokenizer and the objective have more ids than the model's embedding table has rows.

    The tokenizer's ids stay; those of an objective (mask token, sentinels) are the last rows of the table.
    """
    if (special := spec.plan.special) and cache.vocabulary + special > spec.model.vocabulary:
        raise BadInput(
            f"model.vocabulary={spec.model.vocabulary}: the tokenizer {spec.data.tokenizer} has {cache.vocabulary} "
            f"tokens, and objective={spec.objective} needs {special} more; use at least {cache.vocabulary + special}"
        )
    if cache.vocabulary > spec.model.vocabulary:
        raise BadInput(
            f"model.vocabulary={spec.model.vocabulary}: the tokenizer {spec.data.tokenizer} has "
            f"{cache.vocabulary} tokens; use at least that"
        )


def corpus_record(spec: RunSpec, cache: TokenCache) -> CorpusRecord:
    """What env.json says of the text that a run reads."""
    record: CorpusRecord = {
        "name": spec.data.corpus,
        "fingerprint": cache.fingerprint,
        "corpus_fingerprint": cache.corpus_fingerprint,
        "vocabulary": cache.vocabulary,
        "skills": stream_fingerprint(spec.data.skills, spec.data.skill_tokens),
        "train_tokens": cache.fresh_tokens,
        "lost": lost_share(cache.statistics),
    }
    if cache.mixture:
        record["mixture"] = [one.split("train").token_count for one in cache.mixture]
    return record


def readings(specs: Iterable[RunSpec], cache_root: Path) -> list[Reading | None]:
    """How often each run reads its text; None where its token cache is not built yet."""
    known = functools.cache(lambda data: train_tokens(data, cache_root))
    return [reading_of(to_json(spec.data), spec.tokens, known(spec.data)) for spec in specs]


def check_prepared(directory: Path, spec: RunSpec, cache: TokenCache) -> None:
    """Raises BadInput where the run would read other tokens here than where it was prepared."""
    prepared = SweepDirectory(directory.absolute().parent).read_prepared().get(spec.run_id, cache.fingerprint)
    if prepared != cache.fingerprint:
        raise BadInput(
            f"data.corpus={spec.data.corpus!r}: here it is another text, or data.tokenizer={spec.data.tokenizer!r} "
            f"another tokenizer, than what was prepared for this run (fingerprint {prepared[:12]}, here "
            f"{cache.fingerprint[:12]}); start the sweep again with what it is to read"
        )


def prepare(
    specs: Iterable[RunSpec], cache_root: Path, *, progress: bool = True, sweep: Path | None = None
) -> dict[str, TaskRecord]:
    """Build every token cache that the runs read, and refuse runs that cannot read theirs.

    Args:
      sweep: runs/<sweep>, where what each run is to read is written down, for workers to compare; None for nowhere.

    Returns:
      What tasks.json will say of each task that the runs are scored on, by name.

    Raises:
      BadInput: a corpus is missing or empty, its splits are shorter than what the run reads, a model's
        vocabulary is smaller than the tokenizer's, or a task is too long or in the training text.
    """
    records: dict[str, TaskRecord] = {}
    fingerprints: dict[str, str] = {}
    begin: dict[str, tuple[RunSpec, CorpusRecord]] = {}
    caches: dict[DataConfig, TokenCache] = {}
    told: dict[str, None] = {}
    for spec in specs:
        spec.refuse_imported()
        if spec.data not in caches:
            caches[spec.data] = open_or_build(spec.data, cache_root, progress=progress)
            told |= dict.fromkeys(notes(caches[spec.data].statistics, spec.data.corpus, spec.data.tokenizer))
            validation_bytes(caches[spec.data], spec.data)
            for one, part in zip(spec.data.parts(), caches[spec.data].mixture, strict=True):
                told |= dict.fromkeys(notes(part.statistics, one.corpus, one.tokenizer))
                validation_bytes(part, one)
        check_vocabulary(spec, caches[spec.data])
        fingerprints[spec.run_id] = caches[spec.data].fingerprint
        if sweep is not None and not SweepDirectory(sweep).run(spec.run_id).environment.exists():
            begin[spec.run_id] = (spec, corpus_record(spec, caches[spec.data]))
        TrainLoader(
            caches[spec.data], spec.data, batch_tokens=spec.batch_tokens, seed=spec.seed, prefetch=False
        )
        if spec.tasks:
            from training.evaluate.tasks import held_out_tasks  # here: loads JAX, for runs with tasks only

            records |= held_out_tasks(spec.tasks, spec.task_items, spec.data, cache_root).records
    if sweep is not None and fingerprints:
        with writes(sweep):
            check_sweep(SweepDirectory(sweep), begin)
            SweepDirectory(sweep).write_prepared(fingerprints)
    if progress:
        sys.stderr.writelines(f"{line}\n" for line in told)
    return records
