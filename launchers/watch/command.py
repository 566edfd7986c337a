"""`python launch.py watch runs/SWEEP`: a sweep while it trains, as a page on this machine that renews itself."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from core import stop
from core.bounds import Allowed
from core.cli import parse
from core.errors import EXIT_COMPLETE
from launchers.sweeps import check_sweep

ABOUT = """Show how a sweep goes, as a page on 127.0.0.1 that renews itself; Ctrl-C ends it.

python launch.py watch runs/quickstart
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchFlags:
    """The command line."""

    sweep: Positional[Path]
    """runs/<sweep>"""
    port: Annotated[int, Allowed(0, 65_535)] = 0
    """of 127.0.0.1; 0 takes a free one"""
    every: Annotated[float, Allowed(0.2, 3600)] = 5.0
    """seconds between two looks at the logs"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; returns exit status 0."""
    given = sys.argv[1:] if arguments is None else arguments
    flags = parse(WatchFlags, given, "python launch.py watch", about=ABOUT)
    check_sweep(flags.sweep, flags.sweep.parent)
    # here: what draws loads slowly, and a mistyped flag is refused before
    from launchers.watch.page import WatchPage
    from launchers.watch.server import WatchServer

    try:
        with WatchServer(WatchPage(flags.sweep), flags.port, flags.every) as server:
            sys.stdout.write(f"{flags.sweep}: {server.address} (Ctrl-C ends it)\n")
            sys.stdout.flush()
            server.serve_forever()
    except stop.StopRequested:
        sys.stdout.write("\n")
    return EXIT_COMPLETE
