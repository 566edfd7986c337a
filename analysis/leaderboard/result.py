"""Boards as JSON, for other programs, and as text, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.leaderboard.board import Board
from core.numbers import number

OVERALL = "all metrics"
RULE = "rank: 1 + those whose strength is higher with a paired interval of the difference above zero"


def to_json(
    boards: Sequence[Board],
    at: str,
    warnings: Sequence[str],
    left_out: Mapping[str, str],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """leaderboard.json."""
    return {
        "at": at or None,
        "level": boards[0].level,
        "draws": draws,
        "seed": seed,
        "rule": RULE,
        "boards": [_board(board) for board in boards],
        "warnings": list(warnings),
        "left_out": dict(left_out),
    }


def _board(board: Board) -> dict[str, Any]:
    return {
        "metric": board.metric,
        "items": board.items,
        "tied": board.tied,
        "separated": board.separated,
        "standings": [
            {
                "rank": one.rank,
                "label": one.label,
                "strength": one.strength,
                "strength_interval": list(one.strength_interval),
                "value": one.value,
                "interval": list(one.interval),
                "win_share": one.win_share,
            }
            for one in board.standings
        ],
        "wins": board.wins.tolist(),
    }


HEADER = ("rank", "strength", "interval", "value", "interval", "wins", "run")


def rows_of(board: Board) -> list[tuple[str, ...]]:
    """The cells under `HEADER`."""
    return [
        (
            str(one.rank),
            f"{one.strength:+.3f}",
            f"[{one.strength_interval[0]:+.3f}, {one.strength_interval[1]:+.3f}]",
            number(one.value),
            f"[{number(one.interval[0])}, {number(one.interval[1])}]",
            f"{one.win_share:.1%}",
            one.label,
        )
        for one in board.standings
    ]


def lines_of(board: Board) -> list[str]:
    """A table of text."""
    cells = [HEADER, *rows_of(board)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(HEADER) - 1)]
    table = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in cells
    ]
    return [title_of(board), *table]


def title_of(board: Board) -> str:
    """What is ranked by what."""
    return f"{board.metric}: {len(board.standings)} on {board.items} items, {board.level:.0%} intervals"


def warnings_of(board: Board) -> list[str]:
    """What a careful reader must know of a board."""
    found = []
    if board.separated:
        found.append(
            f"{board.metric}: some win or lose every comparison with the others, so that their strengths have no "
            "finite value; half an item is added to each side of every pair"
        )
    if board.tied > 0.5:
        found.append(f"{board.metric}: {board.tied:.0%} of the comparisons are ties, half a win for each")
    return found
