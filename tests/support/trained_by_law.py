"""Runs of any sweep as training leaves them, by the project's own writers, with losses of a known law: no training."""

import dataclasses
import hashlib
import math
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from core.codec import to_json
from core.epochs import reading_of
from core.files import JsonLines
from core.records import BITS_PER_BYTE, LOSS
from core.rundir import RunDirectory
from experiments.spec import Sweep
from tests.support.run_records import a_result, a_task, an_environment
from tests.support.synthetic_sweep import truth_loss
from training.cost import ledger_of, parameter_count
from training.records import write_spec
from training.spec import RunSpec

BITS_OF_A_TOKEN = {"byte": 1.0, "char": 1.02, "word": 1.6, "bpe": 1.4, "file": 1.4}  # over those of a byte
STEPS = 12  # rows of metrics.jsonl


def write_runs(
    folder: Path,
    specs: Sweep | Iterable[RunSpec],
    finished: Collection[str] | None = None,
    failed: Collection[str] = (),
    noise: float = 0.004,
    corpus_tokens: int | None = 10**12,
) -> Path:
    """Write the directory of every run and return the sweep's.

    Args:
      finished: run_ids that are complete; None for all. Of the others every second has begun.
      failed: run_ids that ended in an error.
      noise: standard deviation of log loss.
      corpus_tokens: distinct tokens of the train split; None to leave out how often the text was read.
    """
    for place, spec in enumerate(specs):
        run = RunDirectory(folder / spec.run_id)
        write_spec(run.path, spec)
        complete = finished is None or spec.run_id in finished
        if complete or spec.run_id in failed or place % 2:
            _begin(run, spec, corpus_tokens)
            _log(run, spec, spec.tokens if complete else spec.tokens // 2, noise)
        if complete:
            _finish(run, spec, corpus_tokens)
        elif spec.run_id in failed:
            run.write_error("FloatingPointError: loss is NaN at step 7")
    return folder


def loss_of(spec: RunSpec, tokens: int, noise: float = 0.0) -> float:
    """Nats per token: a law in size and in distinct tokens, a penalty for a peak off the best, and luck."""
    params = parameter_count(spec)
    unique = spec.data.unique_tokens or tokens
    worth = min(tokens, unique) * (1 + 8 * (1 - math.exp(-max(0.0, tokens / unique - 1) / 8)))
    off = math.log(spec.optim.learning_rate / (6e-3 * (params / 1e5) ** -0.3))
    bits = BITS_OF_A_TOKEN[spec.data.tokenizer.partition(":")[0]]
    luck = np.random.default_rng(int(hashlib.sha256(spec.run_id.encode()).hexdigest()[:8], 16)).normal()
    return float(bits * truth_loss(params, worth) * (1 + 0.01 * off**2) * math.exp(noise * luck))


def _begin(run: RunDirectory, spec: RunSpec, corpus_tokens: int | None) -> None:
    environment = an_environment()
    environment["corpus"]["train_tokens"] = corpus_tokens
    if corpus_tokens is None:
        del environment["corpus"]["train_tokens"]
    run.write_environment(environment)  # type: ignore[arg-type]
    run.write_ledger(ledger_of(spec))
    if spec.tasks:
        run.write_tasks({name: a_task(items=spec.task_items, choice_chance=0.25) for name in spec.tasks})  # type: ignore[misc]


def _log(run: RunDirectory, spec: RunSpec, until: int, noise: float) -> None:
    with JsonLines(run.metrics) as rows:
        first, batch = spec.branch_at_tokens or 0, spec.batch_tokens
        ends = {first + (until - first) * part // STEPS // batch * batch for part in range(1, STEPS + 1)}
        for step in sorted(ends):
            if step > first:
                loss = loss_of(spec, step, noise) * 1.02
                rows.append(
                    {
                        "step": step // batch,
                        "tokens": step,
                        "flops": 1.0 * step,
                        "seconds": 1e-6 * step,
                        "attempt": 1,
                        "loss": loss,
                        "lr": spec.optim.learning_rate,
                        "grad_norm": 0.5,
                        "tokens_per_second": 1e6,
                        "mfu": None,
                    }
                )
    with JsonLines(run.evaluations) as rows:
        for mark in (mark for mark in spec.all_marks if 0 < mark <= until):
            for name, value, count in _evaluated(spec, mark, noise):
                rows.append(
                    {"tokens": mark, "name": name, "value": value, "n": count, "stderr": 0.004, "attempt": 1}
                )


def _evaluated(spec: RunSpec, tokens: int, noise: float) -> list[tuple[str, float, int]]:
    loss = loss_of(spec, tokens, noise)
    bits = loss / math.log(2) / BITS_OF_A_TOKEN[spec.data.tokenizer.partition(":")[0]]
    found = [(LOSS, loss, spec.data.validation_tokens), (BITS_PER_BYTE, bits, spec.data.validation_tokens)]
    size = math.log10(parameter_count(spec))
    for place, task in enumerate(spec.tasks):
        rise = 0.9 / (1 + math.exp(-12 * (size - 4.4 - 0.1 * place)))
        correct = round(rise * spec.task_items) / spec.task_items
        for metric, value in (("exact_match", correct), ("chance", 0.0), ("choice_chance", 0.25),
                              ("choice_accuracy", 0.25 + 0.7 * correct), ("nll_per_token", 3 - 2 * rise),
                              ("brier", 0.8 - 0.5 * rise)):  # fmt: skip
            found.append((f"task/{task}/{metric}", value, spec.task_items))
    return found


def _finish(run: RunDirectory, spec: RunSpec, corpus_tokens: int | None) -> None:
    ledger, (rows, _) = ledger_of(spec), run.read_evaluations()
    reading = reading_of(to_json(spec.data), spec.tokens, corpus_tokens)
    known = {} if reading is None else dataclasses.asdict(reading)
    run.write_result(
        a_result(  # type: ignore[arg-type]
            spec.run_id,
            spec.tokens,
            role="trunk" if spec.is_trunk else "branch" if spec.parent else "run",
            trained_tokens=spec.trained_tokens,
            steps=spec.steps,
            evals={row["name"]: row["value"] for row in rows if row["tokens"] == spec.tokens},
            params=ledger["params"],
            flops={name: value * spec.tokens for name, value in ledger["flops_per_token"].items()},
            **known,
        )
    )
