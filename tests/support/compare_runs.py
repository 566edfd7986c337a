"""What two runs left behind, compared."""

import json
from pathlib import Path

import pytest

from core.files import read_json_lines


def rows(directory: Path, name: str = "metrics.jsonl") -> dict:
    """The last row of each (tokens, name)."""
    return {(row["tokens"], row.get("name")): row for row in read_json_lines(directory / name)}


def assert_equal_runs(mine: Path, its: Path, relative: float) -> None:
    """Every logged number of one run within `relative` of the other's; 0 asks for the same bits."""
    for name, fields in (("metrics.jsonl", ("loss", "grad_norm", "lr")), ("evals.jsonl", ("value", "stderr"))):
        left, right = rows(mine, name), rows(its, name)
        assert left.keys() == right.keys()
        assert left
        for key, row in right.items():
            assert row.keys() == left[key].keys()
            for field in fields:
                tolerance = relative if field in ("loss", "value") else 30 * relative
                assert left[key][field] == pytest.approx(row[field], rel=tolerance, abs=0), (name, key, field)
            assert left[key].get("flops") == row.get("flops")
    left, right = (json.loads((path / "result.json").read_text()) for path in (mine, its))
    assert left.keys() == right.keys()
    assert left["evals"] == pytest.approx(right["evals"], rel=relative, abs=0)
    assert left["train_loss"] == pytest.approx(right["train_loss"], rel=relative, abs=0)
    same = ("run", "role", "tokens", "trained_tokens", "steps", "params", "flops")
    assert [left[key] for key in same] == [right[key] for key in same]
