"""result.json: the mark of a complete run, and what it came to."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from core.files import read_json_lines, write_json
from training.cost import ledger_of
from training.log import Clock
from training.spec import RunSpec


def write_result(directory: Path, spec: RunSpec, clock: Clock, attempt: int, wall_seconds: float) -> None:
    """Write what a run has come to, from the logs on disk: they are what a reader of the run will see."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a torn line of an earlier attempt was reported where it happened
        losses = {row["tokens"]: row["loss"] for row in read_json_lines(directory / "metrics.jsonl")}
        evals = {
            row["name"]: row["value"]
            for row in read_json_lines(directory / "evals.jsonl")
            if row["tokens"] == spec.tokens
        }
    tail = [loss for tokens, loss in losses.items() if tokens > 0.95 * spec.tokens]
    counts = ledger_of(spec)
    flops_per_token = cast(Mapping[str, float], counts["flops_per_token"])
    write_json(
        directory / "result.json",
        {
            "run": spec.run_id,
            "role": "trunk" if spec.is_trunk else "branch" if spec.parent else "run",
            "tokens": spec.tokens,
            "trained_tokens": spec.trained_tokens,
            "steps": spec.steps,
            "train_loss": sum(tail) / len(tail),
            "evals": evals,
            "params": counts["params"],
            "flops": {name: value * spec.tokens for name, value in flops_per_token.items()},
            "wall_seconds": round(wall_seconds, 3),
            "train_seconds": round(clock.training, 3),
            "compile_seconds": round(clock.compiling, 3),
            "tokens_per_second": round(spec.trained_tokens / clock.training, 1),
            "attempts": attempt,
        },
    )
