"""Weights & Biases, offline: a folder a run, to be sent with `wandb sync` from a machine that has a network.

The id of a run is its run_id, so that a mirror that is made again replaces the one before, here and where it is sent.
Of this machine the list of installed packages is sent and nothing else: no host, no user, no code.
"""

import datetime
import os
import shutil
import tempfile
from pathlib import Path

from launchers.mirror.mirrored import MirroredRun

PACKAGE = "wandb"
EXTRA = "wandb"
SHOWN_BY = "wandb sync {folder}/offline-run-*"


def write(run: MirroredRun, folder: Path) -> None:
    import wandb  # an extra: nothing else of the project may need it

    settings = wandb.Settings(
        mode="offline", silent=True, console="off", save_code=False, disable_git=True, disable_code=True,
        x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as making:
        made = wandb.init(
            project=run.sweep, id=run.run, name=run.run, resume="allow", config=dict(run.settings),
            tags=[run.state], dir=making, settings=settings, reinit="create_new",
        )  # fmt: skip
        for point in run.points:
            made.log({**point.values, "tokens": point.tokens, "_timestamp": point.time}, step=point.tokens)
        made.summary.update(dict(run.final))
        made.finish(exit_code=1 if run.state == "failed" else 0)
        (written,) = Path(making).glob("*wandb/offline-run-*")
        for earlier in _folders(run.run, folder):
            shutil.rmtree(earlier)
        started = datetime.datetime.fromtimestamp(run.started, datetime.UTC)
        os.replace(written, folder / f"offline-run-{started:%Y%m%d_%H%M%S}-{run.run}")


def is_there(run: str, folder: Path) -> bool:
    return any((place / f"run-{run}.wandb").is_file() for place in _folders(run, folder))


def _folders(run: str, folder: Path) -> list[Path]:
    """At most one, unless the start of the run was changed."""
    return [path for path in folder.glob("offline-run-*") if path.name[28:] == run]
