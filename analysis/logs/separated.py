"""Text with a separator between cells: CSV, TSV, semicolons, bars, blanks; comments and blank lines are left out."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from analysis.logs.spelled import COUNTS, says_nothing, spelled
from core.errors import BadInput

SEPARATORS = (",", ";", "\t", "|")
COMMENT = "#"
RULE = re.compile(r":?-{2,}:?")  # under the header of a Markdown table


def separated(path: Path, text: str) -> tuple[list[str], list[list[str | None]], str]:
    """The names of the columns ("" where one has none), the rows, each as long, and the separator.

    Raises:
      BadInput: quotes that do not close, or a row with more cells than the header.
    """
    lines, comments = _without_comments(text)
    separator, lines = _separator(lines)
    if separator == " ":
        rows: list[list[str]] = [line.split() for line in lines if line.strip()]
    else:
        reader = csv.reader(io.StringIO("".join(lines), newline=""), delimiter=separator, strict=True)
        try:
            rows = [row for row in reader if any(cell.strip() for cell in row)]
        except csv.Error as error:
            raise BadInput(f"{path}: not a table; read as CSV, line {reader.line_num}: {error}") from None
    if not rows:
        raise BadInput(f"{path}: no rows; only comments")
    header = [" ".join(name.split()) for name in rows[0]]
    if comments and all_numbers(header):
        # A header behind a comment sign, as numpy.savetxt writes it.
        above = comments[-1].lstrip(COMMENT).split(None if separator == " " else separator)
        above = [" ".join(name.split()) for name in above]
        if len(above) == len(header) and not all_numbers(above):
            header, rows = above, [[], *rows]
    body = [row for row in rows[1:] if not all(RULE.fullmatch(cell.strip()) for cell in row if cell.strip())]
    return header, list(_evened(path, body, len(header))), separator


def all_numbers(cells: list[str]) -> bool:
    """Whether most cells of a line are numbers: a header's are names."""
    there = [cell for cell in cells if not says_nothing(cell)]
    read = spelled({"n": there}, COUNTS, "")["n"]
    return bool(there) and int(np.isfinite(read.values).sum()) * 2 > len(there)


def _evened(path: Path, rows: list[list[str]], width: int) -> Iterator[list[str | None]]:
    for number, row in enumerate(rows, start=1):
        if any(cell.strip() for cell in row[width:]):
            raise BadInput(
                f"{path}: not a table; row {number} has {len(row)} cells, the header {width} (a comma within a number "
                "or a text needs quotes around it)"
            )
        yield [*row[:width], *[None] * (width - len(row))]


def _without_comments(text: str) -> tuple[list[str], list[str]]:
    """Lines with their endings, and those that begin with a comment sign outside of quotes."""
    kept, comments, quotes = [], [], 0
    for line in io.StringIO(text, newline=""):
        if quotes % 2 == 0 and line.lstrip().startswith(COMMENT):
            comments.append(line.strip())
        else:
            kept.append(line)
            quotes += line.count('"')
    return kept, comments


def _separator(lines: list[str]) -> tuple[str, list[str]]:
    """What parts cells, and the lines without what only says so."""
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    lines = lines[first:]
    head = re.sub(r'"[^"]*"', "", lines[0]).strip("\r\n") if lines else ""
    told = re.fullmatch(r"sep=(.)", head.strip(" "))  # Excel
    if told:
        return told[1], lines[1:]
    separator = max(SEPARATORS, key=head.count)
    if head.count(separator):
        return separator, lines
    widths = {len(line.split()) for line in lines if line.strip()}
    return (" " if len(widths) == 1 and widths != {1} else ","), lines
