"""Two real processes over loopback train what one trains, stop together, fail together, and resume each other."""

import fcntl
import json
import signal
import zlib

import pytest

from core.codec import to_json
from core.files import read_json_lines, write_json
from data.config import DataConfig
from model.config import ModelConfig
from tests.support.processes import ends, start, wait_until
from tests.support.small import cache_folder, write_corpus
from training.checkpoint import why_unreadable
from training.spec import OptimConfig, RunSpec

pytestmark = pytest.mark.long

STEPS = 60


def spec_of(corpus, **changes):
    optim = {"learning_rate": 3e-3, "warmup_tokens": 5 * 256, "cooldown_tokens": 10 * 256, **changes}
    return RunSpec(
        model=ModelConfig(width=16, depth=2, heads=2, kv_heads=2, head_width=8, scan=False),
        data=DataConfig(corpus=f"text:{corpus}", sequence_length=32, validation_tokens=640),
        optim=OptimConfig(**optim),
        tokens=STEPS * 256,
        batch_tokens=256,
        tasks=("copying",),
        task_items=10,
    )


class Case:
    """A run in a folder of its own, of a spec and a token cache that all share."""

    def __init__(self, spec, cache, folder):
        self.spec, self.cache, self.directory = spec, cache, folder / spec.run_id
        write_json(self.directory / "spec.json", to_json(spec))

    def start(self, *arguments, **options):
        return start(self.directory, self.cache, *arguments, **options)

    def rows(self):
        return list(read_json_lines(self.directory / "metrics.jsonl"))

    def losses(self):
        return [row["loss"] for _, row in sorted({row["tokens"]: row for row in self.rows()}.items())]

    def evals(self):
        return json.loads((self.directory / "result.json").read_text())["evals"]

    def checkpoints(self):
        """Names of what lies in the folder of checkpoints; a number is a committed one."""
        folder = self.directory / "checkpoints"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def attempts(self):
        return json.loads((self.directory / "env.json").read_text())["attempts"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "text", documents=100)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return cache_folder(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def reference(corpus, cache, tmp_path_factory):
    """The run of one process with one device."""
    case = Case(spec_of(corpus), cache, tmp_path_factory.mktemp("one"))
    ((status, said),) = ends(case.start())
    assert status == 0, said
    assert len(case.losses()) == STEPS
    return case


def assert_same(case, reference):
    assert case.losses() == pytest.approx(reference.losses(), rel=1e-4)
    expected = reference.evals()
    assert case.evals().keys() == expected.keys()
    assert case.evals() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_lost_process_stops_the_others_and_two_resume_to_the_result_of_one(reference, tmp_path):
    case = Case(reference.spec, reference.cache, tmp_path)
    layout = {"processes": 2, "devices": 2, "mesh": ["data=2,fsdp=2"]}
    started = case.start("--checkpoint-seconds", "0.01", silence_seconds=8.0, **layout)
    wait_until(lambda: any(name.isdigit() for name in case.checkpoints()), started)
    started[1].kill()
    (status, said), _ = ends(started)
    assert status == 75, said
    assert "process 1 of 2" in said and "is lost" in said
    assert "Traceback" not in said
    assert not (case.directory / "error.txt").exists()
    for status, said in ends(case.start(**layout)):
        assert status == 0, said
    assert_same(case, reference)
    second = case.attempts()[1]
    assert (second["processes"], second["devices"], second["mesh"]) == (
        2,
        4,
        {"data": 2, "fsdp": 2, "tensor": 1},
    )
    assert 1 < sum(row["attempt"] == 2 for row in case.rows()) < STEPS, "it began again at a checkpoint"
    assert len({row["tokens"] for row in case.rows()}) == STEPS


def test_a_signal_to_one_process_saves_both_and_one_process_resumes(reference, tmp_path):
    case = Case(reference.spec, reference.cache, tmp_path)
    started = case.start(processes=2)
    wait_until((case.directory / "env.json").exists, started)
    started[1].send_signal(signal.SIGTERM)
    for status, said in ends(started):
        assert status == 75, said
        assert "stopped by a signal at" in said
    assert 0 < len(case.rows()) < STEPS
    saved = case.rows()[-1]["tokens"]
    assert case.checkpoints() == [str(saved)]
    ((status, said),) = ends(case.start())
    assert status == 0, said
    assert [row["tokens"] for row in case.rows()] == [256 * step for step in range(1, STEPS + 1)]
    assert_same(case, reference)


def test_one_then_eight_then_two_devices_give_the_curve_of_one(reference, tmp_path):
    """The same batches at every mesh; only the order of sums differs, by about 1e-7 a sum in float32."""
    case = Case(reference.spec, reference.cache, tmp_path)
    for devices, mesh in ((1, "data=1"), (8, "data=4,fsdp=2"), (2, "tensor=2")):
        stop_after = 0 if devices == 2 else 20
        ((status, said),) = ends(case.start(devices=devices, mesh=[mesh], stop_after=stop_after))
        assert status == (75 if stop_after else 0), said
    assert [attempt["devices"] for attempt in case.attempts()] == [1, 8, 2]
    assert [row["attempt"] for row in case.rows()] == [1] * 20 + [2] * 20 + [3] * 20
    assert_same(case, reference)


def test_divergence_ends_both_with_the_leaders_words(corpus, cache, tmp_path):
    case = Case(spec_of(corpus, learning_rate=1e9, warmup_tokens=0), cache, tmp_path)
    for status, said in ends(case.start(processes=2)):
        assert status == 1
        assert "diverged at step" in said
        assert "Traceback" not in said
    assert "diverged at step" in (case.directory / "error.txt").read_text()


def test_what_one_process_refuses_ends_both_with_2(reference, tmp_path):
    case = Case(reference.spec, reference.cache, tmp_path)
    (leader, leader_said), (other, other_said) = ends(case.start(processes=2, mesh=["data=2", "data=3"]))
    assert (leader, other) == (2, 2)
    assert "error: --mesh=data=3: asks for 3 devices, 2 are here" in other_said
    assert "process 1 of 2" in leader_said and "--mesh=data=3" in leader_said
    assert "--mesh=data=3" in (case.directory / "error.txt").read_text()
    assert "Traceback" not in leader_said + other_said


def test_a_run_that_another_process_trains_is_left_by_all(reference, tmp_path):
    case = Case(reference.spec, reference.cache, tmp_path)
    with (case.directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for status, said in ends(case.start(processes=2), timeout=200):
            assert status == 75, said
            assert "another process trains this run" in said
    assert not (case.directory / "env.json").exists()


def test_processes_that_do_not_meet_end_with_one_line(reference, tmp_path):
    case = Case(reference.spec, reference.cache, tmp_path)
    leader, other = case.start("--join-seconds", "4", processes=2)
    leader.kill()
    leader.wait()
    ((status, said),) = ends([other])
    assert status == 1
    assert "did not all reach 127.0.0.1:" in said and "within 4 seconds" in said
    assert "Traceback" not in said and "stack trace" not in said


def test_each_process_vouches_for_its_pieces_of_a_checkpoint(corpus, cache, tmp_path):
    """State cut over two processes: a checkpoint has a checksum of every piece, and a wrong one is found by either."""
    case = Case(spec_of(corpus), cache, tmp_path)
    for status, said in ends(case.start(processes=2, mesh=("fsdp=2",))):
        assert status == 0, said
    folder, last = case.directory / "checkpoints", case.spec.tokens
    arrays = json.loads((folder / str(last) / "progress" / "metadata").read_text())["arrays"]
    assert max(map(len, arrays.values())) == 2
    assert why_unreadable(folder, last) == ""
    path = folder / str(last) / "progress" / "metadata"
    progress = json.loads(path.read_text())
    name = next(name for name, pieces in arrays.items() if len(pieces) == 2)
    for piece in (0, 1):
        progress["arrays"] = {**arrays, name: [list(one) for one in arrays[name]]}
        progress["arrays"][name][piece][1] ^= 1
        rest = {key: value for key, value in progress.items() if key != "checksum"}
        progress["checksum"] = zlib.crc32(json.dumps(rest, sort_keys=True).encode())
        path.write_text(json.dumps(progress))
        assert f"array {name} does not hold what was saved" in why_unreadable(folder, last)
