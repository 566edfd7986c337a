"""How training goes: one loop for the runs of a pack, and a run alone is a pack of one.

A batch, a compiled step, its metrics written while the next step runs; and between two steps whatever hook is due:
evaluate, save, profile, stop.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax

from training.hooks import Asked
from training.lanes import Lanes
from training.member import Member
from training.objectives import Batch
from training.step_log import StepLog

NOTHING = Asked(stop=False, save=False)  # before the first step


def train(
    members: Sequence[Member], lanes: Lanes, ask: Callable[[Sequence[Member]], Asked]
) -> Iterator[Member]:
    """Train all members; yields each once it has ended, at its last token or with a cause.

    Members at different positions are brought together first: those furthest behind train, the others wait. Where a
    stop is asked for, those that train end with it as their cause, and those that wait are left as they are.

    Args:
      lanes: their states.
      ask: what is asked for after a step of these members.

    Raises:
      Exception: what a step that all share fails with.
    """
    log = StepLog(members)
    yield from (member for member in members if member.has_ended)
    if new := [member for member in members if member.tokens == 0 and member.is_due(NOTHING)]:
        pause(new, lanes, NOTHING)
        yield from (member for member in new if member.has_ended)
        log.lap()
    while group := furthest_behind(members):
        for batches in read_together(group, until=next_meeting(group, members)):
            hyper = {member.lane: member.hyper() for member in group}
            with jax.profiler.StepTraceAnnotation("train", step_num=group[0].steps):
                metrics = lanes.step(batches, hyper)
            for member in group:
                member.tokens += member.spec.batch_tokens
            log.add(group, hyper, metrics)  # writes the step before: the device already works on this one
            asked = ask(group)
            if due := [member for member in group if member.is_due(asked)]:
                log.flush()
                pause(due, lanes, asked)
            yield from (member for member in group if member.has_ended)
            if asked.stop:
                return
            if due:
                log.lap()
            group = [member for member in group if not member.has_ended]
            if not group:
                break


def furthest_behind(members: Sequence[Member]) -> list[Member]:
    """Those that train next: all that have not ended and have trained the fewest tokens."""
    alive = [member for member in members if not member.has_ended]
    position = min((member.tokens for member in alive), default=0)
    return [member for member in alive if member.tokens == position]


def next_meeting(group: Sequence[Member], members: Sequence[Member]) -> int:
    """The token count at which a member of the group ends, or one that waits is reached."""
    ahead = [member.tokens for member in members if not member.has_ended and member.tokens > group[0].tokens]
    return min([*ahead, *(member.spec.tokens for member in group)])


def read_together(group: Sequence[Member], until: int) -> Iterator[Mapping[int, Batch]]:
    """Batches by lane, up to a token count; runs that read the same data in the same order share one reader."""
    first = group[0]
    key_of = {member.lane: (member.spec.data, member.spec.seed) for member in group}
    readers = {key_of[member.lane]: member.reader.from_token(member.tokens) for member in reversed(group)}
    for _ in range(first.tokens, until, first.spec.batch_tokens):
        batches = {key: next(reader) for key, reader in readers.items()}
        yield {lane: batches[key] for lane, key in key_of.items()}


def pause(members: Sequence[Member], lanes: Lanes, asked: Asked) -> None:
    """Let the hooks of each member act as if it were alone, in turn; saves go on while the next begins."""
    for member in members:
        if not member.cause:
            with member.alone(), jax.set_mesh(member.mesh):
                member.pause(asked, lanes.state(member.lane))
