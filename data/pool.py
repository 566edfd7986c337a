"""An ordered map over worker processes that never outlive the process that started them."""

import collections
import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from core import stop
from core.cores import usable_cores

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int | None = None,
    apart: bool = False,
) -> Iterator[Result]:
    """Yield `function(task)` for each task, in the order of `tasks`.

    Runs in this process where there is one task or one worker. Workers are spawned, not forked: the caller
    may hold JAX, whose threads a fork would break. `function` must be importable by name. Where the caller is
    stopped, they are ended at once.

    Args:
      apart: never in this process: a library that does not return for long would hold up a stop.
    """
    workers = min(usable_cores() if workers is None else workers, len(tasks))
    if workers <= 1 and not apart:
        yield from map(function, tasks)
        return
    with concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent
    ) as pool:
        waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        remaining = iter(tasks)
        try:
            for task in remaining:
                with stop.kept_from_children():  # the first tasks start the workers
                    waiting.append(pool.submit(function, task))
                if len(waiting) >= 3 * workers:  # enough to keep every worker busy, little enough to hold
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except (KeyboardInterrupt, GeneratorExit):
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker as soon as its parent is gone, even by SIGKILL: a queue alone would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_then_exit, args=(parent,), daemon=True).start()


def _wait_then_exit(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
