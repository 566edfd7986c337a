"""Curves along training: the JSON-lines files of many runs, parsed in one go."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from analysis.logs.files import Read
from analysis.logs.load_run import Run
from core.files import whole_rows
from core.numbers import finite
from core.reading import Unreadable

EVALUATION_COLUMNS = {
    "tokens": pl.Float64,
    "name": pl.String,
    "value": pl.Float64,
    "stderr": pl.Float64,
    "attempt": pl.Float64,
}
METRIC_COLUMNS = {
    "step": pl.Float64,
    "tokens": pl.Float64,
    "loss": pl.Float64,
    "lr": pl.Float64,
    "grad_norm": pl.Float64,
    "tokens_per_second": pl.Float64,
    "attempt": pl.Float64,
}


@dataclasses.dataclass(frozen=True)
class Curves:
    """Rows along training.

    Attributes:
      frame: columns `run` and those of EVALUATION_COLUMNS or METRIC_COLUMNS; the last attempt of each mark.
      sha256: of the files read.
      warnings: torn lines, named by run.
    """

    frame: pl.DataFrame
    sha256: str
    warnings: tuple[str, ...]


def read_curves(
    runs: Sequence[Run], name: str, schema: Mapping[str, Any], unique: Sequence[str], read: Read
) -> Curves:
    """All rows of one JSON-lines file of many runs, as `read` gives it, parsed in one go."""
    digest = hashlib.sha256()
    warnings: list[str] = []
    names: list[str] = []
    counts: list[int] = []
    payloads: list[bytes] = []
    for run in runs:
        if run.has_doubtful(name):
            warnings.append(f"{run.run}/{name} is damaged and left out")
            continue
        try:
            payload = read(run.run, name)
        except Unreadable as error:
            warnings.append(f"{run.run}/{name} {error.why}")
            continue
        if payload is None:
            continue
        digest.update(f"{run.run} {len(payload)}\n".encode())
        digest.update(payload)
        clean, torn = (payload, 0) if _looks_whole(payload) else _cleaned(payload, schema)
        if torn:
            what = "line is" if torn == 1 else "lines are"
            warnings.append(f"{run.run}/{name}: {torn} {what} torn and left out")
        names.append(run.run)
        payloads.append(clean)
        counts.append(clean.count(b"\n"))
    empty = pl.DataFrame(schema={"run": pl.String, **schema})
    if not sum(counts):
        return Curves(empty, digest.hexdigest(), tuple(warnings))
    try:
        frame = _parse(payloads, schema)
    except pl.exceptions.ComputeError:
        cleaned = [_cleaned(payload, schema) for payload in payloads]
        warnings += [
            f"{run}/{name}: {torn} damaged lines left out"
            for run, (_, torn) in zip(names, cleaned, strict=True)
            if torn
        ]
        counts = [payload.count(b"\n") for payload, _ in cleaned]
        frame = _parse([payload for payload, _ in cleaned], schema) if sum(counts) else empty.drop("run")
    frame = frame.with_columns(run=pl.Series(np.repeat(np.array(names, dtype=object), counts), dtype=pl.String))
    frame = (
        frame.drop_nulls(list(unique))
        .with_columns(pl.col("attempt").fill_null(0.0))
        .with_row_index("line")
        # A later attempt replays what an earlier one had reached; within one attempt the later line stands.
        .sort("run", *unique, "attempt", "line")
        .unique(["run", *unique], keep="last", maintain_order=True)
        .sort("run", *reversed(unique))
        .select("run", *schema)
    )
    return Curves(frame, digest.hexdigest(), tuple(warnings))


def _parse(payloads: Sequence[bytes], schema: Mapping[str, Any]) -> pl.DataFrame:
    # ignore_errors makes a value of the wrong type null; a line that is no JSON is an error all the same.
    return pl.read_ndjson(io.BytesIO(b"".join(payloads)), schema=dict(schema), ignore_errors=True)


def _looks_whole(payload: bytes) -> bool:
    """Whether every line is `{...}` with a newline, and holds no NaN: then the fast parser can take it."""
    lines = payload.count(b"\n")
    return (
        payload.endswith(b"}\n")
        and payload.startswith(b"{")
        and payload.count(b"}\n") == lines
        and payload.count(b"\n{") == lines - 1
        and b"NaN" not in payload
        and b"Infinity" not in payload
    )


def _cleaned(payload: bytes, schema: Mapping[str, Any]) -> tuple[bytes, int]:
    """The rows that are whole, one a line, and how many lines are not; NaN and infinities become null."""
    rows, torn = whole_rows(payload.split(b"\n"))
    kept = [{key: _plain(row[key]) for key in schema if key in row} for row in rows]
    return "".join(json.dumps(row) + "\n" for row in kept).encode(), torn


def _plain(value: Any) -> float | str | None:
    return value if isinstance(value, str) else finite(value)
