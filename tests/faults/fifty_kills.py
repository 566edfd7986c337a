"""kill -9 of run, worker and launcher, fifty times in any order over a sweep: `make test-faults`.

Not collected by `make test`, which kills ten times: this takes minutes.
"""

import os

import pytest

from tests.support.killing import Killer
from tests.support.small import launch_command, run_launch, write_corpus

SWEEP = ("--sizes", "2", "--tokens", "65536", "131072", "--checkpoint-seconds", "0.2")
KILLS = 50


@pytest.mark.filterwarnings("ignore:.*is torn")
def test_fifty_kills_in_any_order_lose_nothing(tmp_path):
    cache = tmp_path / "cache"
    corpus = write_corpus(tmp_path / "corpus")
    done = run_launch(launch_command(corpus, tmp_path / "undisturbed", cache, *SWEEP))
    assert done.returncode == 0, done.stderr
    reference = tmp_path / "undisturbed" / "quickstart"
    sweep = tmp_path / "runs" / "quickstart"
    command = launch_command(corpus, tmp_path / "runs", cache, *SWEEP)
    killer = Killer(command, sweep, cache, runs=6, seed=int(os.environ.get("FAULT_SEED", "11")))
    while killer.killed.total() < KILLS:
        killer.once(killer.random.choice(sorted(killer.victims)), reference)
    killer.end(reference)
    print(
        f"killed with kill -9: {dict(sorted(killer.killed.items()))}; the sweep ended {killer.completed} times"
    )
    assert min(killer.killed.values()) > 0 and len(killer.killed) == 4
