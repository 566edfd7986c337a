"""result.json: the mark of a complete run, and what it came to."""

from collections.abc import Collection
from pathlib import Path

from core.codec import to_json
from core.epochs import reading_of
from core.records import RunResult
from core.rundir import RunDirectory
from data.mixture import epochs
from training.cost import ledger_of
from training.log import Clock
from training.lost import RowsAreLost, evaluations_of, losses_of, tail_steps
from training.spec import RunSpec


def write_result(
    directory: Path, spec: RunSpec, clock: Clock, attempt: int, wall_seconds: float, wanted: Collection[str]
) -> None:
    """Write what a run has come to, from the logs on disk: they are what a reader of the run will see.

    Args:
      wanted: names of what is evaluated at the end.

    Raises:
      RowsAreLost: a loss is missing, or the last one is no finite number.
    """
    files = RunDirectory(directory)
    losses, evaluations = losses_of(files), evaluations_of(files).get(spec.tokens, {})
    for path, missing in (
        (
            files.metrics,
            [f"the loss at {tokens} tokens" for tokens in tail_steps(spec) if tokens not in losses],
        ),
        (files.evaluations, [f"{name} at the end" for name in wanted if name not in evaluations]),
    ):
        if missing:
            raise RowsAreLost(
                f"{path}: {missing[0]} is missing or no finite number, so the run is not complete"
            )
    tail = [losses[tokens] for tokens in tail_steps(spec)]
    counts = ledger_of(spec)
    train_tokens = files.read_environment()["corpus"].get("train_tokens")
    reading = reading_of(to_json(spec.data), spec.tokens, train_tokens)
    result: RunResult = {
        "run": spec.run_id,
        "role": spec.kind,
        "tokens": spec.tokens,
        "trained_tokens": spec.trained_tokens,
        "steps": spec.steps,
        "train_loss": sum(tail) / len(tail),
        "evals": evaluations,
        "params": counts["params"],
        "flops": {name: value * spec.tokens for name, value in counts["flops_per_token"].items()},
        "wall_seconds": round(wall_seconds, 3),
        "train_seconds": round(clock.training, 3),
        "compile_seconds": round(clock.compiling, 3),
        "tokens_per_second": round(spec.trained_tokens / clock.training, 1),
        "attempts": attempt,
        "checkpoints": files.checkpoint_tokens(),
    }
    if reading:
        result["corpus_tokens"] = reading.corpus_tokens
        result["unique_tokens"] = reading.unique_tokens
        result["epochs"] = reading.epochs
    if mixture := files.read_environment()["corpus"].get("mixture"):
        result["epochs_by_corpus"] = epochs(spec.data.mixture, spec.tokens, mixture)
    files.write_result(files.seal(result))
