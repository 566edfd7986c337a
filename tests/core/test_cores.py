"""A container's quota of processor time, from control groups as the kernel writes them."""

import os
from pathlib import Path

import pytest

from core import cores
from core.cores import quota


def groups(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, content in files.items():
        (folder / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "fs" / name).write_text(content + "\n")
    (folder / "own").write_text(own)
    return folder / "fs", folder / "own"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000"}, float("inf")),
        ("0::/pod/box\n", {"pod/box/cpu.max": "max 100000", "pod/cpu.max": "150000 100000"}, 1.5),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000"}, 0.5),
        (
            "5:cpu,cpuacct:/box\n",
            {"cpu,cpuacct/box/cpu.cfs_quota_us": "400000", "cpu,cpuacct/box/cpu.cfs_period_us": "100000"},
            4.0,
        ),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf")),
        ("0::/\n", {"cpu.max": "noise"}, float("inf")),
        ("", {}, float("inf")),
    ],
)
def test_quota_is_read_from_both_versions(
    tmp_path: Path, own: str, files: dict[str, str], expected: float
) -> None:
    assert quota(*groups(tmp_path, own, files)) == expected


def test_cores_are_those_that_the_quota_pays_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from launchers.local.devices import places

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for most, expected in (("250000", 2), ("50000", 1), ("max", 64)):
        root, own = groups(tmp_path, "0::/\n", {"cpu.max": f"{most} 100000"})
        monkeypatch.setattr(cores, "quota", lambda root=root, own=own: quota(root, own))
        assert cores.usable_cores() == expected
        assert len(places(runs=100)) == expected
        assert len(places(runs=100, workers=8)) == 8
