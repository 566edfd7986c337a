"""Trackers: one file each, chosen by its name in `--to NAME`; tensorboard.py is the example to copy.

A file declares, as literals that are read without importing it:

  PACKAGE   what must be installed
  EXTRA     of pyproject.toml, that installs it
  SHOWN_BY  the command that shows a mirror; {folder} stands for its folder
"""

import importlib
from pathlib import Path
from typing import Protocol, cast

from launchers.mirror.mirrored import MirroredRun


class Tracker(Protocol):
    """The functions of a file of this folder."""

    @staticmethod
    def write(run: MirroredRun, folder: Path) -> None:
        """Make the mirror of a run in `folder`, or renew it: afterwards the run is there once, as its logs have it."""

    @staticmethod
    def is_there(run: str, folder: Path) -> bool:
        """Whether the mirror of a run, by its run_id, is still there."""


def tracker(name: str) -> Tracker:
    """The tracker of this name; its package is loaded."""
    return cast(Tracker, importlib.import_module(f"{__name__}.{name}"))
