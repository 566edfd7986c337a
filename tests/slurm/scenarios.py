"""A sweep on a real Slurm, and everything that can happen to it: `make test-slurm`.

Every run must end with the numbers that it has when it is trained here without interruption, and none is trained twice.
Not part of `make test`: it installs Slurm and starts its daemons, which needs root and Debian's packages. Runs are
suspended just before something happens to them, and every wait is for a condition: neither a fast nor a busy machine
changes what is tested.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from core.files import read_json_lines
from tests.slurm.cluster import Cluster, hold, is_told, let_go, running_cluster, trainers
from tests.support.small import ROOT, final_evals, write_corpus

# 3 sizes, each a trunk and three branches: 12 runs.
SWEEP = ["--sizes", "3", "--tokens", "65536", "98304", "131072", "--set", "data.validation_tokens=8192"]
# One run that takes long enough to be disturbed.
LONG = ["--sizes", "1", "--tokens", "2097152", "--no-trunk", "--set", "data.validation_tokens=8192"]
# One run that two processes train together: slower, for they meet at every step.
TWO = ["--sizes", "1", "--tokens", "131072", "--no-trunk", "--set", "data.validation_tokens=8192"]

# Two seeds, each a trunk and two branches: three packs of two.
PACKS = ["--sizes", "1", "--seeds", "2", "--tokens", "131072", "262144", "--set", "data.validation_tokens=8192"]
PACKS += ["--pack", "2"]


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "corpus")
    return folder


def trained_here(place: Path, name: str, arguments: list[str]) -> dict[str, dict[str, float]]:
    """What every run says when it is trained here without interruption."""
    done = launch(place, "run", name, arguments)
    assert done.returncode == 0, done.stderr
    return final_evals(sweep_of(place, name))


@pytest.fixture(scope="session")
def twelve(place) -> dict[str, dict[str, float]]:
    return trained_here(place, "reference-twelve", SWEEP)


@pytest.fixture(scope="session")
def long(place) -> dict[str, dict[str, float]]:
    return trained_here(place, "reference-long", LONG)


@pytest.fixture(scope="module")
def cluster():
    with running_cluster(sacct=False) as cluster:
        yield cluster


def sweep_of(place: Path, name: str) -> Path:
    """Each in a folder of sweeps of its own: a run that another sweep beside it has finished would be copied."""
    return place / name / "runs" / name


def launch(place: Path, verb: str, name: str, arguments: list[str], cluster: Cluster | None = None, *more: str):
    command = [
        sys.executable,
        "launch.py",
        verb,
        "quickstart",
        "--corpus",
        f"text:{place / 'corpus'}",
        *arguments,
    ]
    command += [
        "--runs",
        str(sweep_of(place, name).parent),
        "--cache",
        str(place / "cache"),
        "--name",
        name,
        *more,
    ]
    environment = cluster.environment if cluster else None
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def submit(place: Path, name: str, arguments: list[str], cluster: Cluster, site: str = "", *more: str) -> dict:
    """Submit; returns what was sent."""
    path = place / f"{name}.toml"
    path.write_text(site)
    flags = ["--backend", "slurm", "--checkpoint-seconds", "0.5", "--site", str(path), "--json", *more]
    done = launch(place, "submit", name, arguments, cluster, *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def status(place: Path, name: str, cluster: Cluster) -> dict[str, tuple[str, str]]:
    """{run: (state, note)} as `launch.py status` says."""
    command = [sys.executable, "launch.py", "status", str(sweep_of(place, name)), "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True, check=True
    )
    return {row["run"]: (row["state"], row["note"]) for row in json.loads(done.stdout)}


def cancel(place: Path, name: str, cluster: Cluster) -> None:
    command = [sys.executable, "launch.py", "cancel", str(sweep_of(place, name))]
    subprocess.run(command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True, check=True)


def sent(answer: dict) -> list[str]:
    return [run for array in answer["arrays"] for run in array["runs"]]


def attempts(directory: Path) -> int:
    return json.loads((directory / "result.json").read_text())["attempts"]


def assert_same(place: Path, name: str, reference: dict) -> None:
    """Every run of the sweep ended with the numbers of the undisturbed one, to the last bit."""
    assert final_evals(sweep_of(place, name)) == reference


def rows(directory: Path) -> list[tuple[int, int]]:
    """(tokens, attempt) of every trained step."""
    return [(row["tokens"], row["attempt"]) for row in read_json_lines(directory / "metrics.jsonl")]


def assert_trained_once(directory: Path) -> None:
    repeated = [
        tokens for tokens, count in Counter(tokens for tokens, _ in rows(directory)).items() if count > 1
    ]
    assert not repeated, f"{directory}: {len(repeated)} steps were trained twice"


def only_run(place: Path, name: str) -> Path:
    (spec,) = (sweep_of(place, name)).glob("*/spec.json")
    return spec.parent


def is_training(directory: Path) -> bool:
    """Whether a checkpoint is committed: the run is past compilation and can be resumed."""
    return any(directory.glob("checkpoints/[0-9]*[0-9]"))


def complete(place: Path, name: str, count: int) -> bool:
    return len(list((sweep_of(place, name)).glob("*/result.json"))) == count


def hold_when_training(cluster: Cluster, directory: Path) -> list[int]:
    """Wait until the run trains, then suspend it."""
    cluster.until(lambda: is_training(directory))
    held = trainers(directory)
    hold(held)
    assert held and not (directory / "result.json").exists(), "it was over before anything could happen to it"
    return held


def test_a_sweep_of_twelve_under_a_throttle_while_the_controller_restarts(place, cluster, twelve):
    answer = submit(place, "twelve", SWEEP, cluster, "", "--throttle", "3")
    assert len(sent(answer)) == len(set(sent(answer))) == 12
    again = submit(place, "twelve", SWEEP, cluster, "", "--throttle", "3")
    assert sent(again) == []
    assert {*again["queued"], *again["complete"]} == set(sent(answer))
    states = status(place, "twelve", cluster)
    assert {state for state, _ in states.values()} <= {"running", "queued", "complete"} and len(states) == 12
    most, restarted = 0, False

    def done() -> bool:
        nonlocal most, restarted
        running = [state for _, state, _ in cluster.queue() if state == "RUNNING"]
        most = max(most, len(running))
        if not restarted and complete(place, "twelve", 2):
            restarted = True
            cluster.restart_controller()
            cluster.until(lambda: cluster.answers())
        return len(final_evals(sweep_of(place, "twelve"))) == 12 and not cluster.queue()

    cluster.until(done)
    assert restarted and most == 3
    assert_same(place, "twelve", twelve)
    for result in (sweep_of(place, "twelve")).glob("*/result.json"):
        assert attempts(result.parent) == 1
        assert_trained_once(result.parent)
    assert {state for state, _ in status(place, "twelve", cluster).values()} == {"complete"}
    assert sent(submit(place, "twelve", SWEEP, cluster)) == []
    assert subprocess.run(["sacct"], env=cluster.environment, capture_output=True, check=False).returncode != 0


def test_preemption_time_limit_and_cancel(place, cluster, long):
    sites = {
        "grace": 'partition = "grace"\noptions = ["--nodelist=n1"]\n',
        "abrupt": 'partition = "abrupt"\noptions = ["--nodelist=n2"]\n',
        "limit": 'options = ["--nodelist=n3"]\nsignal_seconds = 30\ntime = "2"\n',
        "stop": 'options = ["--nodelist=n3"]\n',
    }
    jobs = {name: submit(place, name, LONG, cluster, site)["arrays"][0]["job"] for name, site in sites.items()}
    runs = {name: only_run(place, name) for name in sites}

    def limit(minutes: int) -> None:
        cluster.command("scontrol", "update", f"JobId={jobs['limit']}", f"TimeLimit={minutes}")

    events = {
        "stop": lambda: cancel(place, "stop", cluster),
        "grace": lambda: cluster.urgent("n1"),
        "abrupt": lambda: cluster.urgent("n2"),
        # The shortest limit that Slurm knows: it signals up to a minute before, so at its next look.
        "limit": lambda: limit(1),
    }
    held: dict[str, list[int]] = {}

    def all_happened() -> bool:
        for name in [name for name in runs if name not in held and is_training(runs[name])]:
            held[name] = hold_when_training(cluster, runs[name])
            events[name]()
        return len(held) == len(events)

    cluster.until(all_happened)
    for name in held:
        cluster.until(lambda name=name: all(map(is_told, held[name])))
        if name == "limit":
            limit(30)
        let_go(held[name])
    cluster.until(lambda: not cluster.holds(jobs["stop"]))
    stopped_at = rows(runs["stop"])
    assert status(place, "stop", cluster)[runs["stop"].name][0] == "stopped"

    cluster.until(lambda: all((runs[name] / "result.json").exists() for name in ("grace", "abrupt", "limit")))
    for name in ("grace", "abrupt", "limit"):
        assert_same(place, name, long)
        assert attempts(runs[name]) == 2, name
        assert_trained_once(runs[name])
    assert rows(runs["stop"]) == stopped_at, "a cancelled run came back"
    assert not cluster.holds(jobs["stop"])

    # Cancelled is not forbidden: to submit again goes on where it stopped.
    assert sent(submit(place, "stop", LONG, cluster)) == [runs["stop"].name]
    cluster.until(lambda: (runs["stop"] / "result.json").exists())
    assert_same(place, "stop", long)
    assert_trained_once(runs["stop"])


def test_a_node_dies_and_a_plain_scancel_is_named_as_lost(place, cluster, long):
    job = submit(place, "dead", LONG, cluster, 'options = ["--exclude=n1"]\n')["arrays"][0]["job"]
    lost = submit(place, "lost", LONG, cluster, 'options = ["--nodelist=n1"]\n')["arrays"][0]["job"]
    dead, other = only_run(place, "dead"), only_run(place, "lost")
    hold_when_training(cluster, dead)
    saved = max(int(path.name) for path in dead.glob("checkpoints/[0-9]*[0-9]"))
    held = hold_when_training(cluster, other)
    (node,) = {where for element, _, where in cluster.queue() if element == f"{job}_0"}
    cluster.kill_node(node)  # power off, before the run could say anything
    cluster.command("scancel", lost)  # by hand, behind the launcher's back
    let_go(held)
    cluster.until(lambda: not cluster.holds(lost))
    state, note = status(place, "lost", cluster)[other.name]
    assert state == "lost" and "submit again" in note
    assert sent(submit(place, "lost", LONG, cluster)) == [other.name]
    cluster.until(lambda: (dead / "result.json").exists() and (other / "result.json").exists())
    cluster.start_node(node)
    for name in ("dead", "lost"):
        assert_same(place, name, long)
    assert_trained_once(other)
    assert attempts(dead) == 2
    first, second = ([tokens for tokens, attempt in rows(dead) if attempt == number] for number in (1, 2))
    assert saved < second[0] <= first[-1] + 2048, "it went on from its newest checkpoint"


def test_packs_are_elements_that_save_and_come_back_together(place, cluster):
    reference = trained_here(place, "reference-packs", [*PACKS, "--workers", "1"])
    answer = submit(place, "packs", PACKS, cluster)
    assert [[len(element) for element in array["elements"]] for array in answer["arrays"]] == [[2], [2, 2]]
    (trunks,), branches = answer["arrays"][0]["elements"], answer["arrays"][1]["runs"]
    job, later = (array["job"] for array in answer["arrays"])
    sweep = sweep_of(place, "packs")
    held = hold_when_training(cluster, sweep / trunks[0])
    assert held == trainers(sweep / trunks[1]), "one process trains both"
    states = status(place, "packs", cluster)
    assert {run: states[run] for run in trunks} == dict.fromkeys(trunks, ("running", f"job {job}_0: running"))
    assert {states[run][0] for run in branches} == {"queued"}
    assert all(states[run][1].startswith(f"job {later}_") for run in branches)
    assert sent(submit(place, "packs", PACKS, cluster)) == []
    cluster.command(
        "scancel", "--signal=TERM", f"{job}_0"
    )  # the pack alone hears it, as at the start of a grace
    cluster.until(lambda: all(is_told(pid) for pid in held))
    let_go(held)
    cluster.until(lambda: not cluster.queue())
    assert_same(place, "packs", reference)
    for run, count in {**dict.fromkeys(trunks, 2), **dict.fromkeys(branches, 1)}.items():
        assert attempts(sweep / run) == count
        assert_trained_once(sweep / run)
        environment = json.loads((sweep / run / "env.json").read_text())
        assert [attempt["pack"] for attempt in environment["attempts"]] == [2] * count
    assert {state for state, _ in status(place, "packs", cluster).values()} == {"complete"}


def trained_by_two(place: Path, reference: Path) -> dict[str, float]:
    """The evals of a run that two processes of this machine train without interruption."""
    directory = sweep_of(place, "reference-two") / reference.name
    directory.mkdir(parents=True)
    shutil.copy(reference / "spec.json", directory)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "training.run",
        str(directory),
        "--cache",
        str(place / "cache"),
        "--cores",
        "1",
    ]
    words += ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process-index"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    processes = [subprocess.Popen([*words, str(index)], cwd=ROOT, env=environment) for index in range(2)]
    assert [process.wait(timeout=1200) for process in processes] == [0, 0]
    return json.loads((directory / "result.json").read_text())["evals"]


def test_two_tasks_over_two_nodes_train_one_run_and_are_preempted_together(place, cluster):
    site = 'partition = "grace"\noptions = ["--nodelist=n1,n3"]\n'
    more = ("--nodes", "2", "--tasks", "1", "--checkpoint-seconds", "2")
    (array,) = submit(place, "two", TWO, cluster, site, *more)["arrays"]
    directory = only_run(place, "two")
    cluster.until(lambda: is_training(directory))
    assert len(trainers(directory)) == 2
    cluster.urgent("n3")  # one of its nodes is taken away: both processes save, and both come back
    cluster.until(lambda: (directory / "result.json").exists() and not cluster.holds(array["job"]))
    assert attempts(directory) == 2
    assert_trained_once(directory)
    environment = json.loads((directory / "env.json").read_text())
    assert [attempt["processes"] for attempt in environment["attempts"]] == [2, 2]
    (evals,) = final_evals(sweep_of(place, "two")).values()
    assert evals == trained_by_two(place, directory)


def test_the_same_with_accounting_switched_on(place, twelve):
    with running_cluster(sacct=True) as cluster:
        arguments = [*SWEEP[:1], "1", *SWEEP[2:]]
        runs = sent(submit(place, "accounted", arguments, cluster))
        assert len(runs) == 4
        cluster.until(lambda: complete(place, "accounted", 4))
        assert_same(place, "accounted", {run: twelve[run] for run in runs})
        cluster.until(lambda: "COMPLETED" in cluster.command("sacct", "-n", "-X", "-o", "State"))
        assert {state for state, _ in status(place, "accounted", cluster).values()} == {"complete"}
