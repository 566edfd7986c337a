"""A sweep on a real Slurm, and everything that can happen to it: `make test-slurm`.

Every run must end with the numbers that it has when it is trained here without interruption, and none is trained twice.
Not part of `make test`: it installs Slurm and starts its daemons, which needs root and Debian's packages.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from files import read_json_lines
from tests.slurm.cluster import Cluster, running_cluster, until
from tests.small import ROOT, final_evals, write_corpus

# 3 sizes, each a trunk and three branches: 12 runs.
SWEEP = ["--sizes", "3", "--tokens", "65536", "98304", "131072", "--set", "data.validation_tokens=8192"]
# One run that takes long enough to be disturbed.
LONG = ["--sizes", "1", "--tokens", "1048576", "--no-trunk", "--set", "data.validation_tokens=8192"]


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "corpus")
    return folder


@pytest.fixture(scope="session")
def reference(place) -> dict[str, dict[str, float]]:
    """What every run says when it is trained here without interruption."""
    for name, arguments in (("sweep", SWEEP), ("long", LONG)):
        done = launch(place, "run", f"reference-{name}", arguments)
        assert done.returncode == 0, done.stderr
    return final_evals(place / "runs" / "reference-sweep") | final_evals(place / "runs" / "reference-long")


@pytest.fixture(scope="module")
def cluster(reference):
    with running_cluster(sacct=False) as cluster:
        yield cluster


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
    command += ["--runs", str(place / "runs"), "--cache", str(place / "cache"), "--name", name, *more]
    environment = cluster.environment if cluster else None
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def submit(place: Path, name: str, arguments: list[str], cluster: Cluster, site: str = "", *more: str) -> dict:
    """Submit; returns what was sent."""
    path = place / f"{name}.toml"
    path.write_text(site)
    flags = ["--backend", "slurm", "--checkpoint-seconds", "2", "--site", str(path), "--json", *more]
    done = launch(place, "submit", name, arguments, cluster, *flags)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def status(place: Path, name: str, cluster: Cluster) -> dict[str, tuple[str, str]]:
    """{run: (state, note)} as `launch.py status` says."""
    command = [sys.executable, "launch.py", "status", str(place / "runs" / name), "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True, check=True
    )
    return {row["run"]: (row["state"], row["note"]) for row in json.loads(done.stdout)}


def cancel(place: Path, name: str, cluster: Cluster) -> None:
    command = [sys.executable, "launch.py", "cancel", str(place / "runs" / name)]
    subprocess.run(command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True, check=True)


def sent(answer: dict) -> list[str]:
    return [run for array in answer["arrays"] for run in array["runs"]]


def attempts(sweep: Path) -> dict[str, int]:
    return {path.parent.name: json.loads(path.read_text())["attempts"] for path in sweep.glob("*/result.json")}


def assert_same(place: Path, name: str, reference: dict) -> None:
    mine = final_evals(place / "runs" / name)
    assert mine
    for run, evals in mine.items():
        assert evals == reference[run], run


def rows(directory: Path) -> list[tuple[int, int]]:
    """(tokens, attempt) of every trained step."""
    return [(row["tokens"], row["attempt"]) for row in read_json_lines(directory / "metrics.jsonl")]


def only_run(place: Path, name: str) -> Path:
    (spec,) = (place / "runs" / name).glob("*/spec.json")
    return spec.parent


def is_training(directory: Path, beyond: int = 0) -> bool:
    path = directory / "metrics.jsonl"
    return path.exists() and any(tokens > beyond for tokens, _ in rows(directory))


def complete(place: Path, name: str, count: int) -> bool:
    return len(list((place / "runs" / name).glob("*/result.json"))) == count


def test_a_sweep_of_twelve_under_a_throttle_while_the_controller_restarts(place, cluster, reference):
    answer = submit(place, "twelve", SWEEP, cluster, "", "--throttle", "3")
    assert len(sent(answer)) == len(set(sent(answer))) == 12
    again = submit(place, "twelve", SWEEP, cluster, "", "--throttle", "3")
    assert sent(again) == [] and len(again["queued"]) == 12
    states = status(place, "twelve", cluster)
    assert {state for state, _ in states.values()} <= {"running", "queued"} and len(states) == 12
    most, restarted = 0, False

    def done() -> bool:
        nonlocal most, restarted
        running = [state for _, state, _ in cluster.queue() if state == "RUNNING"]
        most = max(most, len(running))
        if not restarted and len(list((place / "runs" / "twelve").glob("*/result.json"))) >= 2:
            restarted = True
            cluster.restart_controller()
            until(lambda: cluster.command("squeue", check=False).startswith(" "), 60)
        return complete(place, "twelve", 12) and not cluster.queue()

    until(done, 400)
    assert restarted and most == 3
    assert_same(place, "twelve", reference)
    assert set(attempts(place / "runs" / "twelve").values()) == {1}
    for directory in (place / "runs" / "twelve").glob("*/metrics.jsonl"):
        assert max(Counter(tokens for tokens, _ in rows(directory.parent)).values()) == 1
    assert {state for state, _ in status(place, "twelve", cluster).values()} == {"complete"}
    assert sent(submit(place, "twelve", SWEEP, cluster)) == []
    assert subprocess.run(["sacct"], env=cluster.environment, capture_output=True, check=False).returncode != 0


def test_preemption_time_limit_and_cancel(place, cluster, reference):
    sites = {
        "grace": 'partition = "grace"\noptions = ["--nodelist=n1"]\n',
        "abrupt": 'partition = "abrupt"\noptions = ["--nodelist=n2"]\n',
        "limit": 'options = ["--nodelist=n3"]\nsignal_seconds = 30\ntime = "2"\n',
        "stop": 'options = ["--nodelist=n3"]\n',
    }
    jobs = {name: submit(place, name, LONG, cluster, site)["arrays"][0]["job"] for name, site in sites.items()}
    runs = {name: only_run(place, name) for name in sites}
    events = {
        "stop": lambda: cancel(place, "stop", cluster),
        "grace": lambda: cluster.urgent("n1"),
        "abrupt": lambda: cluster.urgent("n2"),
        # The shortest limit that Slurm knows: it signals up to a minute before, so at once.
        "limit": lambda: cluster.command("scontrol", "update", f"JobId={jobs['limit']}", "TimeLimit=1"),
    }

    def all_disturbed() -> bool:
        for name in [name for name in events if is_training(runs[name])]:
            events.pop(name)()
        return not events

    until(all_disturbed)
    until(lambda: not any(job.startswith(f"{jobs['stop']}_") for job, _, _ in cluster.queue()), 60)
    until(lambda: not list(runs["stop"].glob("checkpoints/*tmp*")), 30)
    stopped_at = rows(runs["stop"])
    until(lambda: any(state == "PENDING" for job, state, _ in cluster.queue() if job == f"{jobs['limit']}_0"))
    cluster.command("scontrol", "update", f"JobId={jobs['limit']}", "TimeLimit=30")
    assert status(place, "stop", cluster)[runs["stop"].name][0] == "stopped"

    until(lambda: all((runs[name] / "result.json").exists() for name in ("grace", "abrupt", "limit")), 300)
    for name in ("grace", "abrupt", "limit"):
        assert_same(place, name, reference)
        # The short limit may still hold when the second attempt of "limit" starts, and end that one too.
        assert attempts(place / "runs" / name)[runs[name].name] in ((2, 3) if name == "limit" else (2,)), name
        repeated = [
            tokens for tokens, count in Counter(tokens for tokens, _ in rows(runs[name])).items() if count > 1
        ]
        assert not repeated, f"{name}: {len(repeated)} steps were trained twice"
    assert rows(runs["stop"]) == stopped_at, "a cancelled run came back"
    assert not any(job.startswith(f"{jobs['stop']}_") for job, _, _ in cluster.queue())

    # Cancelled is not forbidden: to submit again goes on where it stopped.
    assert sent(submit(place, "stop", LONG, cluster)) == [runs["stop"].name]
    until(lambda: (runs["stop"] / "result.json").exists())
    assert_same(place, "stop", reference)
    assert max(Counter(tokens for tokens, _ in rows(runs["stop"])).values()) == 1


def test_a_node_dies_and_a_plain_scancel_is_named_as_lost(place, cluster, reference):
    site = 'options = ["--nodelist=n3"]\n'
    submit(place, "dead", LONG, cluster, 'options = ["--exclude=n1"]\n')
    lost = submit(place, "lost", LONG, cluster, site.replace("n3", "n1"))["arrays"][0]["job"]
    directory, other = only_run(place, "dead"), only_run(place, "lost")
    until(lambda: is_training(directory, 200_000) and is_training(other))
    cluster.command("scancel", lost)  # by hand, behind the launcher's back
    (node,) = {where for job, _, where in cluster.queue() if not job.startswith(f"{lost}_")}
    cluster.kill_node(node)
    until(lambda: not any(job.startswith(f"{lost}_") for job, _, _ in cluster.queue()), 60)
    state, note = status(place, "lost", cluster)[other.name]
    assert state == "lost" and "submit again" in note
    assert sent(submit(place, "lost", LONG, cluster)) == [other.name]
    until(lambda: (directory / "result.json").exists() and (other / "result.json").exists(), 300)
    cluster.start_node(node)
    for name in ("dead", "lost"):
        assert_same(place, name, reference)
    assert attempts(place / "runs" / "dead")[directory.name] == 2
    first = [tokens for tokens, attempt in rows(directory) if attempt == 1]
    second = [tokens for tokens, attempt in rows(directory) if attempt == 2]
    assert second[0] > 100_000, "it went on from a checkpoint, not from the start"
    assert second[0] <= first[-1] + 2048


def test_the_same_with_accounting_switched_on(place, reference):
    with running_cluster(sacct=True) as cluster:
        arguments = [*SWEEP[:1], "1", *SWEEP[2:]]
        assert len(sent(submit(place, "accounted", arguments, cluster))) == 4
        until(lambda: complete(place, "accounted", 4))
        assert_same(place, "accounted", reference)
        until(lambda: "COMPLETED" in cluster.command("sacct", "-n", "-X", "-o", "State"), 60)
        assert {state for state, _ in status(place, "accounted", cluster).values()} == {"complete"}
