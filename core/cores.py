"""CPU cores that this process may use: those that the scheduler gives it, within a container's quota of time."""

import math
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process can keep busy, at least 1.

    A container may see all cores of its machine and get the time of two of them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(cores, quota())))


def quota(root: Path = ROOT, own: Path = OWN) -> float:
    """Cores' worth of time that the process's control groups allow: the least of its group and those above.

    Reads cpu.max of version 2, cpu.cfs_quota_us and cpu.cfs_period_us of version 1; infinite where there is no limit.

    Args:
      root: where control groups are mounted.
      own: the list of the groups that this process is in.
    """
    try:
        lines = own.read_text(encoding="utf-8").split("\n")
    except OSError:
        return math.inf
    found = [math.inf]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not path:
            continue
        names = controllers.split(",")
        if controllers == "":
            tops, read = [root, root / "unified"], _version_2
        elif "cpu" in names:
            tops, read = [root / controllers, root / "cpu"], _version_1
        else:
            continue
        inner = path.strip("/")
        for top in tops:
            # Within a container the path may be that of the host, which is not mounted: the top is its own group then.
            group = top / inner
            for folder in [group, *group.parents]:
                found.append(read(folder))
                if folder == top:
                    break
    return min(found)


def _version_2(group: Path) -> float:
    words = _words(group / "cpu.max")
    return _share(*words) if len(words) == 2 else math.inf


def _version_1(group: Path) -> float:
    words = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
    return _share(*words) if len(words) == 2 else math.inf


def _share(most: str, period: str) -> float:
    """Microseconds of processor time in each period; "max" or -1 for no limit."""
    try:
        share = int(most) / int(period)
    except (ValueError, ZeroDivisionError):
        return math.inf
    return share if share > 0 else math.inf


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
