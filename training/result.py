"""result.json: the mark of a complete run, and what it came to."""

from pathlib import Path

from core.codec import to_json
from core.epochs import reading_of
from core.records import RunResult
from core.rundir import RunDirectory
from training.cost import ledger_of
from training.log import Clock
from training.spec import RunSpec


def write_result(directory: Path, spec: RunSpec, clock: Clock, attempt: int, wall_seconds: float) -> None:
    """Write what a run has come to, from the logs on disk: they are what a reader of the run will see."""
    files = RunDirectory(directory)
    rows, _ = files.read_metrics()
    losses = {row["tokens"]: row["loss"] for row in rows}
    tail = [loss for tokens, loss in losses.items() if tokens > 0.95 * spec.tokens]
    evaluations, _ = files.read_evaluations()
    counts = ledger_of(spec)
    train_tokens = files.read_environment()["corpus"].get("train_tokens")
    reading = reading_of(to_json(spec.data), spec.tokens, train_tokens)
    result: RunResult = {
        "run": spec.run_id,
        "role": "trunk" if spec.is_trunk else "branch" if spec.parent else "run",
        "tokens": spec.tokens,
        "trained_tokens": spec.trained_tokens,
        "steps": spec.steps,
        "train_loss": sum(tail) / len(tail),
        "evals": {row["name"]: row["value"] for row in evaluations if row["tokens"] == spec.tokens},
        "params": counts["params"],
        "flops": {name: value * spec.tokens for name, value in counts["flops_per_token"].items()},
        "wall_seconds": round(wall_seconds, 3),
        "train_seconds": round(clock.training, 3),
        "compile_seconds": round(clock.compiling, 3),
        "tokens_per_second": round(spec.trained_tokens / clock.training, 1),
        "attempts": attempt,
    }
    if reading:
        result["corpus_tokens"] = reading.corpus_tokens
        result["unique_tokens"] = reading.unique_tokens
        result["epochs"] = reading.epochs
    files.write_result(result)
