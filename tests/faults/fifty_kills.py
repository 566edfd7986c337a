"""kill -9 of run, worker and launcher fifty times over a sweep, and SIGTERM among them: `make test-faults`.

Not collected by `make test`: this takes minutes. `make test-long` kills twenty times.
"""

import os

import pytest

from tests.support.killing import Killer
from tests.support.small import launch_command, run_launch, write_corpus

SWEEP = ("--sizes", "2", "--tokens", "65536", "131072", "--checkpoint-seconds", "0.2")
KILLS = int(os.environ.get("FAULT_KILLS", "50"))
LEAST = (
    KILLS // 10
)  # of each kind: on a busy machine a victim may have ended before it is hit, and is tried again


@pytest.mark.filterwarnings("ignore:.*is torn")
def test_fifty_kills_in_any_order_lose_nothing(tmp_path):
    cache = tmp_path / "cache"
    corpus = write_corpus(tmp_path / "corpus")
    done = run_launch(launch_command(corpus, tmp_path / "undisturbed", cache, *SWEEP))
    assert done.returncode == 0, done.stderr
    reference = tmp_path / "undisturbed" / "quickstart"
    sweep = tmp_path / "runs" / "quickstart"
    command = launch_command(corpus, tmp_path / "runs", cache, *SWEEP)
    killer = Killer(command, sweep, cache, runs=6, seed=int(os.environ.get("FAULT_SEED", "11")), longest=8.0)
    while killer.killed.total() < KILLS or min(killer.killed[victim] for victim in killer.victims) < LEAST:
        rarest = min(sorted(killer.victims), key=lambda victim: killer.killed[victim])
        anyone = killer.random.choice(sorted(killer.victims))
        killer.once(rarest if killer.killed.total() >= KILLS else anyone, reference)
    killer.end(reference)
    print(
        f"killed or asked to stop: {dict(sorted(killer.killed.items()))}; the sweep ended {killer.completed} times"
    )
