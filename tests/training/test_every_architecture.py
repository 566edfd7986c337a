"""A run of every architecture is stopped, killed and packed, and ends with the numbers of the undisturbed one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.codec import to_json
from core.files import write_json
from data.config import DataConfig
from model.config import architectures as all_names
from tests.support import architectures
from tests.support.compare_runs import assert_equal_runs, rows
from tests.support.processes import environment
from tests.support.small import ROOT, cache_folder, write_corpus
from tests.support.stop_after import StopAfter
from training.execute import execute
from training.execution import Execution
from training.spec import RunSpec

pytestmark = pytest.mark.slow

STEPS = 20

# Trains the runs that follow the cache, on one core, where sums have one order, and kills itself in the last of them
# after as many steps as its first argument says (0: never).
KILLS_ITSELF = """
import os, signal, sys
from pathlib import Path
from training.execute import execute
from training.execution import Execution

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
steps, cache, *runs = sys.argv[1:]

class Kill:
    def __init__(self, left):
        self.left = left

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

for run in runs:
    stop = Kill(int(steps) if run == runs[-1] else 0)
    execution = Execution(cache_root=Path(cache), checkpoint_seconds=0.0, stop_requested=stop)
    assert execute([Path(run)], execution)[Path(run)].status == 0
"""


class Place:
    """Where the runs of one architecture read and write."""

    def __init__(self, name: str, folder: Path, corpus: Path):
        data = DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=1024)
        self.specs = [architectures.spec(name, data, steps=STEPS, seed=seed) for seed in range(2)]
        self.folder, self.cache = folder, corpus.parent / "cache"

    def directories(self, sweep: str, specs: list[RunSpec]) -> list[Path]:
        for one in specs:
            write_json(self.folder / sweep / one.run_id / "spec.json", to_json(one))
        return [self.folder / sweep / one.run_id for one in specs]

    def train(self, sweep: str, specs: list[RunSpec], *stops: int) -> Path:
        """The first run's folder; all are trained together, stopped after so many steps each time."""
        directories = self.directories(sweep, specs)
        for steps in (*stops, 0):
            execution = Execution(cache_root=self.cache, stop_requested=StopAfter(steps))
            ends = {one.status for one in execute(directories, execution).values()}
            assert ends == {75 if steps else 0}
        return directories[0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    cache_folder(folder)
    return write_corpus(folder / "corpus", documents=60)


@pytest.fixture(scope="module", params=architectures.every_architecture())
def place(request, tmp_path_factory, corpus) -> Place:
    return Place(request.param, tmp_path_factory.mktemp(request.param), corpus)


@pytest.fixture(scope="module")
def whole(place) -> Path:
    return place.train("whole", place.specs[:1])


def losses(directory: Path) -> list[float]:
    return [row["loss"] for row in rows(directory).values()]


def test_its_loss_falls(whole):
    assert len(losses(whole)) == STEPS
    assert losses(whole)[-1] < losses(whole)[0] - 0.3


def test_a_stop_changes_no_bit(place, whole):
    assert_equal_runs(place.train("stopped", place.specs[:1], 7), whole, relative=0)


def test_a_pack_changes_the_last_bits_and_a_stopped_pack_none(place, whole):
    packed = place.train("packed", place.specs)
    assert_equal_runs(packed, whole, relative=1e-4)
    assert_equal_runs(place.train("packed_stopped", place.specs, 13), packed, relative=0)


@pytest.mark.long
def test_kill_9_changes_no_bit(place):
    undisturbed, killed = (place.directories(sweep, place.specs[:1])[0] for sweep in ("undisturbed", "killed"))

    def train(steps: int, *runs: Path) -> int:
        command = [sys.executable, "-c", KILLS_ITSELF, str(steps), str(place.cache), *map(str, runs)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    assert train(11, undisturbed, killed) == -signal.SIGKILL
    assert train(0, killed) == 0
    assert_equal_runs(killed, undisturbed, relative=0)


@pytest.mark.long
def test_meshes_of_eight_devices_train_as_one(corpus, tmp_path):
    program = [
        "-m",
        "tests.support.every_mesh_program",
        str(tmp_path),
        str(corpus),
        str(corpus.parent / "cache"),
    ]
    done = subprocess.run(
        [sys.executable, *program, *all_names()],
        cwd=ROOT,
        env=environment(8),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        one_device, *others = found.values()
        for losses in others:
            assert losses == pytest.approx(one_device, rel=1e-4), name
