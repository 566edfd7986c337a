"""`python launch.py status runs/SWEEP --watch`: the sweep in the terminal, until no run is left."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from core import stop
from core.numbers import finite, short_count
from launchers.status import RunStatus, show_status
from launchers.watch.sentences import headline, progress
from launchers.watch.totals import ORDER, goes_on
from launchers.watch.watched import Look, Watched

WIDTH = 80
OTHER_LINES = 5  # of the screen: headline, progress, heading, what is not shown, the cursor


def watch_in_terminal(directory: Path, every: float) -> None:
    """Show the sweep again and again until nothing is left or running, then its whole status. Ctrl-C ends it.

    Where standard output is no terminal, a line is printed where something has changed.
    """
    console = Console(highlight=False, markup=False)
    watched, said = Watched(directory), ""
    live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
    try:
        if live:
            live.start()
        while True:
            look = watched.look()
            if live:
                live.update(screen(look, console.size.height - OTHER_LINES), refresh=True)
            elif (line := look.problem or f"{headline(look.totals)}; {progress(look.totals)}") != said:
                said = line
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
            if look.rows and not goes_on(look.rows):
                break
            time.sleep(every)
    except stop.StopRequested:
        return
    finally:
        if live:
            live.stop()
    show_status(directory)


def screen(look: Look, most: int) -> Group | Text:
    """What is shown at one moment, at most 80 columns wide and `most` runs long."""
    if look.problem:
        return Text(look.problem)
    table = Table(box=None, header_style="bold", width=WIDTH, padding=(0, 1, 0, 0))
    for heading, right in (("run", False), ("state", False), ("tokens", True), ("loss", True), ("", True)):
        table.add_column(
            heading,
            justify="right" if right else "left",
            overflow="ellipsis",
            no_wrap=True,
            ratio=1 if not heading else None,
        )
    rows = sorted(look.rows, key=lambda row: (ORDER.index(row.state), row.run))
    for row in rows[: max(3, most)]:
        table.add_row(*_cells(row, look))
    hidden = len(rows) - max(3, most)
    more = [Text(f"and {hidden} more")] if hidden > 0 else []
    return Group(Text(headline(look.totals), style="bold"), Text(progress(look.totals)), table, *more)


def _cells(row: RunStatus, look: Look) -> Iterator[str]:
    total = f"/{short_count(row.total_tokens)}" if row.total_tokens else ""
    yield row.run
    yield row.state
    yield f"{short_count(row.tokens)}{total}"
    yield "" if row.loss is None else f"{row.loss:.4f}"
    speed = finite(look.last.get(row.run, {}).get("tokens_per_second"))
    yield f"{short_count(speed)} tokens/s" if speed else row.note
