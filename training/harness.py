"""`python -m training.harness RUN --tasks DIR`: lm-evaluation-harness on a trained run, in this process, offline."""

import dataclasses
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from core.bounds import Allowed
from core.cli import parse
from core.errors import BadInput, exit_on_bad_input
from training.evaluate.ended import end, say
from training.processes.start import configure_jax

ABOUT = """Score trained runs with lm-evaluation-harness (extra lm-eval).

python -m training.harness runs/quickstart/RUN --tasks my_tasks
python -m training.harness runs/quickstart --tasks my_tasks --include arc_easy --limit 200
"""
# Nothing is downloaded: no task of a hub, no metric, no tokenizer.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}
EXPECTED = ("using default", "Using gen_kwargs", "using preconfigured rule")  # of what a definition leaves out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line."""

    run: Positional[Path]
    """runs/<sweep>/<run>, or runs/<sweep> for its complete runs"""
    tasks: Path
    """folder of task definitions (.yaml)"""
    include: tuple[str, ...] = ()
    """names of tasks, groups or tags in it; else all"""
    limit: Annotated[int | None, Allowed(1, 1_000_000)] = None
    """documents of each task"""
    batch: Annotated[int | None, Allowed(1, 65_536)] = None
    """sequences computed at once; else by memory"""
    cache: Path = Path("cache")
    """corpora, tokens, compiled programs"""


@exit_on_bad_input()
def main(arguments: Sequence[str] | None = None) -> int:
    """Score what is missing and say what was done; 1 where a complete run could not be scored."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse(Arguments, given, "python -m training.harness", about=ABOUT)
    if importlib.util.find_spec("lm_eval") is None:
        raise BadInput(
            "lm-evaluation-harness is not installed; pip install 'lm-eval>=0.4.13,<0.5' (the extra lm-eval)"
        )
    os.environ.update(OFFLINE)
    # Documents are read anew in every call: a file that changed is never answered from a cache.
    os.environ["HF_DATASETS_CACHE"] = str(options.cache.absolute() / "lm-eval" / str(os.getpid()))
    configure_jax(options.cache)
    logging.getLogger("lm_eval").addHandler(HarnessNotes())
    from training.evaluate import harness_fill, harness_tasks  # here: they load slowly, and need the harness

    runs = harness_fill.directories(options.run)
    try:
        definitions = harness_tasks.read(options.tasks, options.include, options.limit)
        summary = harness_fill.score_runs(runs, definitions, options.limit, options.batch, options.cache, say)
    finally:
        harness_fill.forget(Path(os.environ["HF_DATASETS_CACHE"]))
    done = f"{options.run}: {len(summary.scored)} scored, {len(summary.present)} already there"
    return end(done, len(summary.incomplete), summary.failed)


class HarnessNotes(logging.Handler):
    """Warnings of the harness, each said once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())[:300]
        if text not in self.said and not any(words in text for words in EXPECTED):
            self.said.add(text)
            sys.stderr.write(f"note: lm_eval: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
