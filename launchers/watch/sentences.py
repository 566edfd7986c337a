"""How far a sweep is, in words: the same on the page and in the terminal."""

import datetime
import time

from core.numbers import percent, short_count
from launchers.local.progress import duration
from launchers.watch.totals import Totals


def headline(totals: Totals) -> str:
    """How many runs are where, one line."""
    done = totals.states.get("complete", 0)
    others = {state: count for state, count in totals.states.items() if state != "complete"}
    return ", ".join(
        [f"{done} of {totals.runs} runs done", *(f"{count} {state}" for state, count in others.items())]
    )


def progress(totals: Totals) -> str:
    """Share of the FLOPs, speed, time left and when it ends, one line."""
    said = [f"{percent(totals.done / totals.all)} of {totals.all:.3g} FLOPs"] if totals.all else []
    if totals.unknown:
        said.append(f"{totals.unknown} runs of unknown cost not counted")
    if totals.tokens_per_second:
        said.append(f"{short_count(totals.tokens_per_second)} tokens/s")
    if totals.seconds_left is not None:
        end = datetime.datetime.fromtimestamp(time.time() + totals.seconds_left)
        today = end.date() == datetime.datetime.now().date()
        said.append(
            f"about {duration(totals.seconds_left)} left, ends {end:%H:%M}{'' if today else f' on {end:%Y-%m-%d}'}"
        )
    elif totals.left:
        said.append("nothing is running")
    return "; ".join(said)
