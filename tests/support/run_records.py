"""Records of a run as training writes them, for tests that train nothing."""

from typing import Any


def a_result(run: str, tokens: int = 1024, loss: float = 2.0, **changes: Any) -> dict[str, Any]:
    """A result.json."""
    return {
        "run": run,
        "role": "run",
        "tokens": tokens,
        "trained_tokens": tokens,
        "steps": 1,
        "train_loss": loss,
        "evals": {"val/loss": loss, "val/bits_per_byte": loss * 1.44},
        "params": {"total": 3, "non_embedding": 1, "non_embedding_plus_head": 2},
        "flops": {"exact": 12.0 * tokens},
        "wall_seconds": 3.0,
        "train_seconds": 2.0,
        "compile_seconds": 1.0,
        "tokens_per_second": tokens / 2.0,
        "attempts": 1,
        **changes,
    }


def an_attempt(number: int = 1, **changes: Any) -> dict[str, Any]:
    """One of the attempts in an env.json."""
    return {
        "attempt": number,
        "started": "2026-01-02T03:04:05+00:00",
        "commit": "c" * 40,
        "python": "3.11.9",
        "packages": {"jax": "0.10.2", "jaxlib": "0.10.2"},
        "host": "here",
        "platform": "cpu",
        "device": "cpu",
        "devices": 1,
        "mesh": {"data": 1, "fsdp": 1, "tensor": 1},
        "implementations": {"loss": {"name": "whole", "reason": "small"}},
        "processes": 1,
        "cpus": [0],
        **changes,
    }


def an_environment(*attempts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An env.json; of one attempt if none is given."""
    return {
        "started": "2026-01-02T03:04:05+00:00",
        "commit": "c" * 40,
        "corpus": {
            "name": "pysource",
            "fingerprint": "f" * 64,
            "corpus_fingerprint": "e" * 64,
            "vocabulary": 256,
            "skills": "",
            "train_tokens": 10**12,
        },
        "mfu": {"convention": "palm", "peak_flops_per_device": None},
        "attempts": list(attempts) or [an_attempt()],
        **changes,
    }


def a_task(**changes: Any) -> dict[str, Any]:
    """What a tasks.json says of one task."""
    return {
        "family": "copying",
        "items": 500,
        "chance": 0.0,
        "choice_chance": 0.25,
        "positive_control": False,
        "memorised": False,
        "fingerprint": "a" * 16,
        "overlap": {"gram_tokens": 13, "items": 500, "items_found": 0, "grams": 900, "grams_found": 40},
        **changes,
    }
