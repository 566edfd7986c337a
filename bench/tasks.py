"""How long held-out tasks take to score: python -m bench.tasks [--items 500 --repeat 3]

Fifteen tasks on an untrained model of about a million parameters; the first pass compiles, the others are timed.
"""

import sys
import time
from collections.abc import Sequence

import jax

from core import cli
from data.tasks.registry import load
from data.tokenizers import ByteTokenizer
from model.config import ModelConfig
from model.initialize import init
from model.sharding import make_mesh
from training.evaluate.score import prepare_task, score_tasks

TASKS = (
    "addition:digits=3", "addition-scratchpad:digits=2", "associative-recall:pairs=4", "induction:length=8",
    "copying:length=6", "reversal:length=5", "sorting:length=5", "listops:depth=2", "dyck", "unscrambling", "bigram",
    "grammar", "facts", "python-bracket", "python-sequence",
)  # fmt: skip
MODEL = ModelConfig(width=128, depth=5, heads=4, kv_heads=4)
CONTEXT = 128


def main(arguments: Sequence[str] | None = None) -> None:
    cli.command(measure, arguments, "python -m bench.tasks")


def measure(items: int = 500, repeat: int = 3) -> None:
    """How long held-out tasks take to score on an untrained model of a million parameters.

    Args:
      items: of each task
      repeat: timed passes after the one that compiles
    """
    started = time.perf_counter()
    prepared = [prepare_task(load(name), items, ByteTokenizer(), CONTEXT) for name in TASKS]
    say(f"{len(prepared)} tasks prepared in {time.perf_counter() - started:.1f} s")
    mesh = make_mesh((1, 1, 1), jax.devices()[:1])
    params = init(MODEL, jax.random.key(0))
    with jax.set_mesh(mesh):
        for number in range(1 + repeat):
            wall, processor = time.perf_counter(), time.process_time()
            score_tasks(prepared, MODEL, mesh, params, CONTEXT)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            name = "with compilation" if number == 0 else f"pass {number}"
            say(f"{name}: {wall:.1f} s, {processor:.1f} s of processor time")
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    say(f"{size:,} parameters, {sum(len(problem) for task in prepared for problem in task.problems)} sequences")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
