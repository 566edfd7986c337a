"""Which folder a sweep lies in where no --name says so: the experiment's, or one that is named after what is set."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.codec import flat_keys, to_json
from core.rundir import SweepDirectory
from experiments.spec import Sweep

MOST = 100  # characters of a folder's name
HASHED = 8  # hex digits behind a name that does not say all
UNSAFE = re.compile(r"[^A-Za-z0-9._]+")  # a dash joins the parts


@dataclasses.dataclass(frozen=True)
class SweepFolder:
    """runs/<name>, and where that is not what the command line suggests, a line that says why."""

    path: Path
    said: str = ""


def folder_of(
    runs: Path, experiment: str, plain: Sweep, sweep: Sweep, settings: Mapping[str, str]
) -> SweepFolder:
    """The folder of an experiment whose runs may be changed by --set.

    Before such a sweep had a folder of its own, it was trained into the experiment's: one that began there goes on
    there.

    Args:
      runs: folder of sweeps.
      plain, sweep: the runs without and with the settings.
      settings: of --set, by dotted key.
    """
    usual = runs / experiment
    if sweep.runs == plain.runs:
        return SweepFolder(usual)
    own = runs / named_after(experiment, to_json(sweep.runs[0]), settings)
    names = {run.run_id for one in (sweep, sweep.located()) for run in one}
    names -= {run.run_id for one in (plain, plain.located()) for run in one}
    if not _has_any(own, names) and _has_any(usual, names):
        said = f"{usual} has runs of these settings, so they go on there; --name takes another folder"
        return SweepFolder(usual, said)
    return SweepFolder(own)


def named_after(experiment: str, run: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    """quickstart-qk_norm-false-width-96: letters, digits, dots, dashes and underscores, at most MOST of them.

    The same settings have the same name however they are typed and in whatever order. Where two others could have it
    too, since a value was shortened or holds other characters, the name ends in a hash of all of them.

    Args:
      run: one of the runs as JSON, which has the values as they were understood.
    """
    values = {key: _at(run, key) for key in sorted(settings)}
    exact, parts = True, [experiment]
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        safe = UNSAFE.sub("-", text).strip("-.")
        # A number's own minus is the one dash that leaves no doubt.
        safe = f"-{safe}" if isinstance(value, int | float) and text.startswith("-") else safe
        exact &= safe == text
        parts += [_short(key, run), safe or "none"]
    name = "-".join(parts)
    if exact and len(name) <= MOST:
        return name
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:HASHED]
    return f"{name[: MOST - HASHED - 1].rstrip('-.')}-{digest}"


def _short(key: str, run: Mapping[str, Any]) -> str:
    """The last part of a dotted key, where no other key ends in it and it says what it is."""
    end = key.rpartition(".")[2]
    alone = sum(known.rpartition(".")[2] == end for known in flat_keys(run)) == 1
    return end if alone and end != "name" else key


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _has_any(folder: Path, names: set[str]) -> bool:
    return folder.is_dir() and any(SweepDirectory(folder).run(name).is_run() for name in names)
