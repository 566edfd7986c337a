"""Trackio: a SQLite file that `trackio show` shows on this machine.

Its public `log` stamps every row with the present time, so rows are written by what it imports tables with.
"""

import datetime
import os
from pathlib import Path

from launchers.mirror.mirrored import MirroredRun

PACKAGE = "trackio"
EXTRA = "trackio"
SHOWN_BY = "TRACKIO_DIR={folder} trackio show"


def write(run: MirroredRun, folder: Path) -> None:
    storage = _storage(folder)
    storage.delete_run(run.sweep, run.run, run.run)
    settings = {**run.settings, "state": run.state, **run.final}
    storage.bulk_log(
        project=run.sweep,
        run=run.run,
        run_id=run.run,
        metrics_list=[dict(point.values) for point in run.points],
        steps=[point.tokens for point in run.points],
        timestamps=[
            datetime.datetime.fromtimestamp(point.time, datetime.UTC).isoformat() for point in run.points
        ],
        log_ids=[f"{run.run}-{point.tokens}" for point in run.points],
        config={**settings, "_Created": datetime.datetime.fromtimestamp(run.started, datetime.UTC).isoformat()},
    )


def is_there(run: str, folder: Path) -> bool:
    storage = _storage(folder)
    return any(run in storage.get_runs(project) for project in storage.get_projects())


def _storage(folder: Path):  # type: ignore[no-untyped-def]  # trackio's own, which need not be installed here
    os.environ["TRACKIO_DIR"] = str(folder.absolute())  # read when it is imported
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage
