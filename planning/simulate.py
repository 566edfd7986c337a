"""When a sweep would be done: the launcher's own queue, fed with measured seconds in place of runs."""

import dataclasses
import heapq
from collections.abc import Callable, Hashable, Sequence

from launchers.queue import RunQueue
from planning.throughput import Estimate
from training.program import shape_of
from training.spec import RunSpec

# The launcher looks for new checkpoints twice a second (launchers/local/launch.py): half of that is lost on average.
POLL_SECONDS = 0.25


@dataclasses.dataclass(frozen=True)
class Timeline:
    """How a sweep would go.

    Attributes:
      wall_seconds: from starting the workers to the end of the last run.
      busy_seconds: of each worker, without waiting for trunks or for the others.
      compile_seconds: spent on compiling, of all workers.
      ends: seconds at which each run ends, by run_id.
      packs: how many times several runs were trained as one program.
    """

    wall_seconds: float
    busy_seconds: tuple[float, ...]
    compile_seconds: float
    ends: dict[str, float]
    packs: int = 0


def simulate(
    specs: Sequence[RunSpec],
    estimate: Callable[[RunSpec], Estimate],
    workers: int,
    cached: bool = False,
    most: Callable[[RunSpec], int] = lambda spec: 1,
    gain: Callable[[RunSpec, int], float] = lambda spec, members: 1.0,
) -> Timeline:
    """Hand out the runs as the launcher does: runs of a shape stay together, trunks go first, packs are formed of what
    is ready. A branch waits for its trunk's checkpoint, a later stage for the end of the run that it begins with. A
    shape compiles once for each number of lanes; workers that take it up later load its programs. The runs of a pack
    end together; they are evaluated and saved in turn.

    Args:
      specs: runs to be trained. estimate: the seconds of each. workers: at a time, at least 1.
      cached: every shape's programs lie in the cache folder already.
      most: the most runs of a pack, as `launchers.packs.PackSizes`.
      gain: total tokens per second of a pack of so many runs, relative to one alone.
    """
    workers = max(1, min(workers, len(specs)))
    ready_at: dict[tuple[str, int | None], float] = {}  # by run and token count; None is its end
    now = 0.0
    names = {spec.run_id for spec in specs}

    def is_ready(spec: RunSpec) -> bool:
        if spec.parent not in names:
            return True
        assert spec.parent is not None
        return ready_at.get((spec.parent, spec.branch_at_tokens), float("inf")) <= now

    queue = RunQueue(specs, is_ready)
    start = max((estimate(spec).start_seconds for spec in _one_a_shape(specs)), default=0.0)
    free = [(start, worker) for worker in range(workers)]
    busy, compiling = [0.0] * workers, 0.0
    knows: list[set[Hashable]] = [set() for _ in range(workers)]
    compiled: set[Hashable] = set()
    ends: dict[str, float] = {}
    packs = 0
    while free:
        now, worker = heapq.heappop(free)
        pack = queue.take_pack(worker, most)
        if not pack:
            if len(queue):
                later = [moment for moment in ready_at.values() if moment > now]
                if later:  # else its trunk is in no worker's hands: it cannot be waited for
                    heapq.heappush(free, (min(later) + POLL_SECONDS, worker))
            continue
        packs += len(pack) > 1
        cost, shape = estimate(pack[0]), (shape_of(pack[0]), len(pack))
        extra = 0.0
        if shape not in knows[worker]:
            extra = cost.load_seconds if cached or shape in compiled else cost.first_seconds
        knows[worker].add(shape)
        compiled.add(shape)
        begun, seconds = now + extra, _seconds(pack, cost, gain(pack[0], len(pack)))
        for spec in pack:
            for mark in spec.checkpoint_marks:
                share = (mark - (spec.branch_at_tokens or 0)) / max(spec.trained_tokens, 1)
                ready_at[spec.run_id, mark] = begun + share * seconds
            ends[spec.run_id] = ready_at[spec.run_id, None] = begun + seconds
        busy[worker] += begun + seconds - now
        compiling += extra
        heapq.heappush(free, (begun + seconds, worker))
    return Timeline(max(ends.values(), default=0.0), tuple(busy), compiling, ends, packs)


def _seconds(pack: Sequence[RunSpec], cost: Estimate, gain: float) -> float:
    """Of a pack without compilation: its steps `gain` times as fast as one run after the other, the rest in turn."""
    alone = sum(cost.seconds(spec) for spec in pack)
    steps = sum(spec.trained_tokens for spec in pack) / cost.tokens_per_second
    return alone - steps + steps / gain


def _one_a_shape(specs: Sequence[RunSpec]) -> list[RunSpec]:
    return list({shape_of(spec): spec for spec in specs}.values())
