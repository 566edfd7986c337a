"""Numbers as people write them (1e9, 10,000,000, 10.000,5, 1_000, 10M, 5 billion), and cells that say nothing."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

# Columns that count things: a suffix is a factor there, and one comma before three digits parts thousands.
COUNTS = frozenset({"params", "tokens", "flops", "unique_tokens", "examples", "scale", "n", "correct"})
COUNTS |= {"params_total", "params_non_embedding"}
FACTORS = {
    **dict.fromkeys(("k", "thousand"), 1e3),
    **dict.fromkeys(("m", "mn", "million"), 1e6),
    **dict.fromkeys(("b", "bn", "g", "billion"), 1e9),
    **dict.fromkeys(("t", "tn", "trillion"), 1e12),
}
# What stands in a cell of which a run has nothing to say; infinities are written by runs that diverged.
NOTHING = frozenset({
    "", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "nil", "nat", "-", "--", "---", "?", ".", "missing", "inf",
    "infinity", "crashed", "crash", "failed", "fail", "diverged", "error", "oom", "killed", "timeout", "pending",
    "running", "#value!", "#div/0!", "#ref!", "#num!",
})  # fmt: skip
SPACES = re.compile("[ \u00a0\u2007\u2009\u202f'\u2019_](?=\\d{3})")
NUMBER = re.compile(r"([+-]?)([\d.,]*\d[\d.,]*)(?:[eE]([+-]?\d+))?(?:\s*([A-Za-z]+))?")


@dataclass(frozen=True)
class Spelled:
    """A column read as numbers.

    Attributes:
      values: float64, NaN where a cell is no number.
      nothing: whether a cell says nothing: empty, NaN, infinite, or one of NOTHING.
      unclear: the first row, from 0, whose comma may part thousands or decimals; None where there is none.
    """

    values: np.ndarray
    nothing: np.ndarray
    unclear: int | None = None

    @property
    def wrong(self) -> np.ndarray:
        """Cells that say something else than a number."""
        return np.isnan(self.values) & ~self.nothing


def says_nothing(cell: Any) -> bool:
    """Whether a cell stands for a number that is not there."""
    if cell is None:
        return True
    if isinstance(cell, float):
        return not math.isfinite(cell)
    return isinstance(cell, str) and cell.strip().lower().lstrip("+-") in NOTHING


def spelled(columns: Mapping[str, Sequence[Any]], counts: frozenset[str], separator: str) -> dict[str, Spelled]:
    """Columns as numbers, by name; how one writes decimals says how the others do.

    Args:
      columns: cells, text or values. counts: names of columns that count things.
      separator: of the cells in the file; "" where cells are values.
    """
    marks = {name: _marks(cells) for name, cells in columns.items()}
    known = set[str]().union(*(found for found, _ in marks.values()))
    result = {}
    for name, cells in columns.items():
        found, unclear = marks[name]
        mark = found if len(found) == 1 else known if len(known) == 1 and not found else set()
        decimal, open_question = next(iter(mark), "."), None
        if not mark and not found and unclear is not None and name not in counts:
            # Semicolons part cells where commas part decimals.
            decimal, open_question = (",", None) if separator == ";" else (".", unclear)
        result[name] = _numbers(cells, decimal, name in counts, open_question)
    return result


def _marks(cells: Sequence[Any]) -> tuple[set[str], int | None]:
    """The decimal marks that cells give away, and the first cell whose one comma could be either."""
    texts = pl.Series([cell if isinstance(cell, str) else None for cell in cells], dtype=pl.String)
    if not texts.str.contains(r",|\..*\.").any():
        return set(), None
    found: set[str] = set()
    unclear = None
    for row, text in enumerate(texts):
        match = NUMBER.fullmatch(SPACES.sub("", text.strip())) if text else None
        if match is None:
            continue
        digits = match[2]
        commas, dots = digits.count(","), digits.count(".")
        last = max(",.", key=digits.rfind)
        if commas and dots:
            found.add(last)
        elif commas + dots > 1:
            found.add("." if commas else ",")
        elif commas + dots == 1:
            before, _, after = digits.partition(last)
            if len(after) != 3 or not 1 <= len(before) <= 3 or before.startswith("0"):
                found.add(last)
            elif commas and unclear is None:
                unclear = row
    return found, unclear


def _numbers(cells: Sequence[Any], decimal: str, count: bool, unclear: int | None) -> Spelled:
    values = np.full(len(cells), np.nan)
    if decimal == ".":
        texts = pl.Series([cell if isinstance(cell, str) else None for cell in cells], dtype=pl.String)
        quick = texts.str.strip_chars().cast(pl.Float64, strict=False).fill_null(float("nan"))
        values = quick.to_numpy().astype(np.float64)
    for row in np.flatnonzero(np.isnan(values)).tolist():
        values[row] = _value(cells[row], decimal, count)
    nothing = ~np.isfinite(values)
    nothing[nothing] = [
        not np.isnan(values[row]) or says_nothing(cells[row]) for row in np.flatnonzero(nothing).tolist()
    ]
    return Spelled(values, nothing, unclear)


def _value(cell: Any, decimal: str, count: bool) -> float:
    """One cell as a number, NaN where it is none."""
    if isinstance(cell, bool) or cell is None:
        return math.nan
    if not isinstance(cell, str):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
        except (TypeError, ValueError):
            return math.nan
    match = NUMBER.fullmatch(SPACES.sub("", cell.strip().replace("\u2212", "-")))
    if match is None:
        return math.nan if "," in cell else _plain(cell)
    sign, digits, power, unit = match.groups()
    thousands = "," if decimal == "." else "."
    if thousands in digits:
        whole = digits.partition(decimal)[0]
        if not re.fullmatch(rf"\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+", whole):
            return math.nan
        digits = whole.replace(thousands, "") + digits[len(whole) :]
    factor = 1.0 if unit is None else FACTORS.get(unit.lower(), math.nan) if count else math.nan
    return _plain(f"{sign}{digits.replace(decimal, '.')}e{power or 0}") * factor


def _plain(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def said(cell: object) -> str:
    """What is wrong with a cell that is no number."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return "is missing"
    if str(cell).strip().lower().lstrip("+-") == "nan":
        return "is NaN"
    shown = repr(cell)
    return f"{shown if len(shown) <= 40 else shown[:37] + '...'} is not a number"
