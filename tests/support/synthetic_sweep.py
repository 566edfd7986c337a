"""Run directories as training leaves them, from a known law: what analysis is tested on."""

import json
from pathlib import Path

import numpy as np

from tests.support.run_records import an_environment

TRUTH = {"E": 1.0, "A": 40.0, "B": 180.0, "alpha": 0.34, "beta": 0.36}


def truth_loss(params, tokens, truth=TRUTH):
    """Nats per token of the law that the synthetic runs follow (Hoffmann et al. 2022, eq. 2)."""
    return (
        truth["E"]
        + truth["A"] * np.asarray(params, float) ** -truth["alpha"]
        + truth["B"] * np.asarray(tokens, float) ** -truth["beta"]
    )


def write_sweep(
    root,
    name="quickstart",
    widths=(16, 32, 48, 64, 96),
    tokens=(524_288, 1_048_576, 2_097_152, 4_194_304),
    seeds=(0,),
    noise=0.002,
    truth=TRUTH,
    rows=24,
    schedule="wsd",
    unique_tokens=0,
    env=None,
    pairs=None,
):
    """Write one complete run for each (width, tokens, seed) and return the sweep's directory.

    Args:
      noise: standard deviation of log loss of the final evaluation.
      rows: lines of metrics.jsonl.
      pairs: (width, tokens) to write instead of the grid.
    """
    sweep = Path(root) / name
    generator = np.random.default_rng(7)
    for width, count in pairs or [(w, t) for w in widths for t in tokens]:
        for seed in seeds:
            loss = float(truth_loss(params_of(width), count, truth) * np.exp(noise * generator.normal()))
            write_run(sweep, width, count, seed, loss, rows, schedule, unique_tokens, env or {}, truth)
    return sweep


def params_of(width, depth=2, vocabulary=256):
    """Non-embedding parameters plus head of a SwiGLU network with a free head."""
    return 12 * depth * width * width + vocabulary * width


def run_name(width, tokens, seed):
    return f"w{width}-l2-t{tokens}-s{seed}-{(width * 7919 + tokens * 31 + seed) % 16**8:08x}"


def write_run(
    sweep, width, tokens, seed, loss, rows=24, schedule="wsd", unique_tokens=0, env=None, truth=TRUTH, name=""
):
    """Write the directory of one complete run and return it."""
    run = sweep / (name or run_name(width, tokens, seed))
    run.mkdir(parents=True)
    n, head = params_of(width), 256 * width
    batch = 8192
    spec = {
        "model": {"vocabulary": 256, "width": width, "depth": 2, "heads": 2},
        "data": {
            "corpus": "pysource",
            "domain": "all",
            "tokenizer": "byte",
            "sequence_length": 128,
            "validation_tokens": 131072,
            "unique_tokens": unique_tokens,
        },
        "optim": {
            "learning_rate": 3e-3,
            "schedule": schedule,
            "cooldown_tokens": tokens // 5 // batch * batch if schedule == "wsd" else 0,
        },
        "seed": seed,
        "tokens": tokens,
        "batch_tokens": batch,
        "evaluation_marks": [],
        "parent": None,
        "branch_at_tokens": None,
    }
    ledger = {
        "params": {"total": n + head, "non_embedding": n - head, "non_embedding_plus_head": n},
        "flops_per_token": {
            "exact": 6.3 * n,
            "palm": 6.6 * n,
            "6N_total": 6.0 * (n + head),
            "6N_non_embedding": 6.0 * (n - head),
            "6N_non_embedding_plus_head": 6.0 * n,
        },
    }
    marks = sorted({int(tokens * 2.0**-k) // batch * batch for k in range(4)} - {0})
    path = [float(truth_loss(n, mark, truth)) * (1.04 if mark < tokens else 1.0) for mark in marks]
    path[-1] = loss
    bits = 1 / np.log(2)
    result = {
        "run": run.name,
        "role": "run",
        "tokens": tokens,
        "trained_tokens": tokens,
        "steps": tokens // batch,
        "train_loss": loss * 0.995,
        "evals": {"val/loss": loss, "val/bits_per_byte": loss * bits},
        "params": ledger["params"],
        "flops": {key: value * tokens for key, value in ledger["flops_per_token"].items()},
        "wall_seconds": 1.1 * tokens * n / 2e10,
        "train_seconds": tokens * n / 2e10,
        "tokens_per_second": 2e10 / n,
        "compile_seconds": 2.0,
        "attempts": 1,
    }
    recorded = an_environment(**(env or {}))
    for name, value in (("spec", spec), ("ledger", ledger), ("result", result), ("env", recorded)):
        (run / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n")
    evaluations = [
        {"tokens": mark, "name": name, "value": value * scale, "n": 131072, "stderr": 0.004, "attempt": 1}
        for mark, value in zip(marks, path, strict=True)
        for name, scale in (("val/loss", 1.0), ("val/bits_per_byte", bits))
    ]
    steps = np.unique(np.linspace(1, tokens // batch, min(rows, tokens // batch)).astype(int))
    metrics = [
        {
            "step": int(step),
            "tokens": int(step) * batch,
            "flops": float(step * batch * 6.3 * n),
            "seconds": step * 0.01,
            "attempt": 1,
            "loss": float(truth_loss(n, step * batch, truth)) * 1.05,
            "lr": 3e-3,
            "grad_norm": 0.5,
            "tokens_per_second": 2e10 / n,
            "mfu": 0.3,
        }
        for step in steps
    ]
    for name, lines in (("evals", evaluations), ("metrics", metrics)):
        (run / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run
