"""What continuous integration says and returns where a real Slurm can, cannot or does not in time be tested."""

import os
import shutil
import subprocess

import pytest

from tests.support.small import ROOT

NEEDED = ("bash", "cat", "dirname", "mktemp", "rm", "sh", "sleep", "tail", "timeout")
INSTALLED = {"id": "echo 0", "dpkg": "exit 0", "apt-get": "exit 9"}


@pytest.fixture
def ended(tmp_path):
    """Runs the script on a machine that has commands as told, and with tests that do as told."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in NEEDED:
        (tools / name).symlink_to(str(shutil.which(name)))

    def run(commands: dict[str, str], tests: str = "exit 0", **variables: str) -> tuple[int, str]:
        for name, body in {
            **commands,
            "hostname": "echo here",
            "python": f'echo "$@" >{tmp_path}/asked; {tests}',
        }.items():
            (tools / name).write_text(f"#!/bin/sh\n{body}\n")
            (tools / name).chmod(0o755)
        words = ["bash", str(ROOT / "tests/slurm/where_possible.sh"), str(tools / "python")]
        environment = {**os.environ, "PATH": str(tools), "TMPDIR": str(tmp_path), **variables}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize("commands", [{**INSTALLED, "id": "echo 1000"}, {"id": "echo 0", "dpkg": "exit 0"}])
def test_neither_without_root_nor_without_apt(ended, tmp_path, commands):
    assert ended(commands) == (0, "NOT RUN: the tests on a real Slurm need root and apt to install it\n")
    assert not (tmp_path / "asked").exists()


def test_what_apt_says_where_it_cannot_install(ended, tmp_path):
    apt = f'echo "$@" >>{tmp_path}/apt; echo Reading; echo E: no such server >&2; exit 100'
    said = "NOT RUN: the tests on a real Slurm could not install it: E: no such server\n"
    assert ended({"id": "echo 0", "dpkg": "exit 1", "apt-get": apt}) == (0, said)
    assert (tmp_path / "apt").read_text() == "update -qq\n", (
        "the lists are fetched before anything is installed"
    )
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("status", [0, 1, 5, 124, 137])
def test_the_status_of_the_tests_is_the_status(ended, tmp_path, status):
    assert ended(INSTALLED, f"exit {status}") == (status, "")
    assert (tmp_path / "asked").read_text() == "-m pytest -x -q tests/slurm/scenarios.py\n"


def test_tests_that_take_too_long_are_stopped_and_it_is_said(ended):
    said = "NOT RUN TO THE END: the tests on a real Slurm took longer than 1 seconds here\n"
    assert ended(INSTALLED, "exec sleep 50", SECONDS_ALLOWED="1") == (0, said)
