"""Any words to any command: it answers, or refuses in one line that says why; never a traceback, never a hang.

Every case is a valid command line with one or two faults: in a flag, in a file that it names, in a sweep that it reads.
Cases run in this process, a few in one of their own. `python -m tests.fuzz.test_commands SEED COUNT` runs others.
"""

import collections
import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fuzz.faults import NUMBERS, TEXTS, nearby
from tests.fuzz.shapes import COMMANDS, SETTINGS, STUDIES, TRAINING, Flag, Shape
from tests.fuzz.world import World
from tests.support.small import ROOT

STATUSES = {0, 1, 2, 75, 130}
PATIENCE_SECONDS = 120
SHARE_PAST_REFUSALS = 0.3


def argv(shape: Shape, world: World, faults: int) -> list[str]:
    """A command line of this shape with so many faults."""
    chance = world.chance
    flags = [*shape.needed, *(flag for flag in shape.flags if chance.random() < 2.5 / (len(shape.flags) + 1))]
    chance.shuffle(flags)
    places = list(range(len(shape.places) + len(flags)))
    # A file is more often at fault than a flag: behind it lies most of a command.
    weights = [3 if place < len(shape.places) else 1 for place in places]
    spoiled = set(chance.choices(places, weights, k=faults)) if places else set()
    words = [
        world.spoiled_file(name[1:]) if place in spoiled else world.good_file(name[1:])
        for place, name in enumerate(shape.places)
    ]
    for place, flag in enumerate(flags, len(shape.places)):
        words += flag_words(flag, world, place in spoiled)
    if faults and (not places or chance.random() < 0.05):
        words.insert(
            chance.randrange(len(words) + 1), chance.choice(["--unknown", "--set", "extra", "--json=1", *TEXTS])
        )
    return [*shape.call.split(" "), *(word.replace("\0", "") for word in words)]


def flag_words(flag: Flag, world: World, is_spoiled: bool) -> list[str]:
    chance = world.chance
    if flag.name == "--set":
        key = chance.choice(sorted(SETTINGS))
        value = chance.choice([*NUMBERS, *TEXTS]) if is_spoiled else chance.choice(SETTINGS[key])
        key = f"{key}x" if is_spoiled and chance.random() < 0.1 else key
        return ["--set", f"{key}={value}"]
    if not flag.values:
        return [flag.name, "yes"] if is_spoiled and chance.random() < 0.3 else [flag.name]
    value = chance.choice(flag.values)
    if is_spoiled and (flag.kind == "text" or (flag.kind == "number" and chance.random() < 0.1)):
        return [flag.name, chance.choice([*TEXTS, *NUMBERS, value + "x", value.upper()])]
    if is_spoiled and flag.kind == "number":
        one = chance.choice(NUMBERS) if chance.random() < 0.6 else nearby(value.split(" ")[0], chance)
        return [flag.name, one, *value.split(" ")[1:]]
    if flag.kind == "file":
        name = value.removeprefix("@")
        return [
            flag.name,
            world.spoiled_file(name) if is_spoiled and name != "missing" else world.good_file(name),
        ]
    return [
        flag.name,
        *(word.replace("@", f"{world.folder}/") if ":@" in word else word for word in value.split(" ")),
    ]


class TookTooLong(BaseException):
    """A case that hangs."""


def outcome(words: Sequence[str]) -> tuple[int, str, str, str]:
    """Exit status of a command in this process, what it printed and complained, and the traceback that it ended in."""
    out, err = io.StringIO(), io.StringIO()
    trace, status = "", 0

    def too_long(*_: object) -> None:
        raise TookTooLong

    # Of its own time, since other programs may take most of the machine's; a wait for what never comes takes none.
    previous = {number: signal.signal(number, too_long) for number in (signal.SIGVTALRM, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE_SECONDS)
    signal.alarm(3 * PATIENCE_SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = main_of(words[0])(list(words[1:])) or 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except (Exception, TookTooLong):  # noqa: BLE001  that is what is looked for
        trace = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.alarm(0)
        for number, handler in previous.items():
            signal.signal(number, handler)
    return status, out.getvalue(), err.getvalue(), trace


def main_of(name: str) -> Callable[[list[str]], Any]:
    """The function behind `python launch.py` or `python -m NAME`."""
    import importlib

    if name == "data.cache":
        from core.cli import parse
        from core.errors import exit_on_bad_input
        from data import cache

        def build(words: list[str]) -> None:
            with exit_on_bad_input():
                parse(cache.main, words, "python -m data.cache", about=str(cache.__doc__))

        return build
    if name == "launch":
        return importlib.import_module("launch").main
    places = {"analysis.score": "analysis.forecast.score", "analysis.register": "analysis.forecast.register",
              "analysis.forecast": "analysis.forecast.predict", "analysis.fit": "analysis.fit.command",
              "analysis.isoflop": "analysis.isoflop.command", "analysis.emergence": "analysis.emergence.command",
              "analysis.report": "analysis.report.command"}  # fmt: skip
    return importlib.import_module(places.get(name, name)).main


def in_a_process(words: Sequence[str], folder: Path) -> tuple[int, str, str, str]:
    command = ["launch.py", *words[1:]] if words[0].startswith("launch") else ["-m", *words]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True,
                              timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL)  # fmt: skip
    except subprocess.TimeoutExpired:
        return 0, "", "", "TookTooLong"
    err = done.stderr.decode("utf-8", "replace")
    return done.returncode, done.stdout.decode("utf-8", "replace"), err, err if "Traceback" in err else ""


class Found(NamedTuple):
    """A case that ended as none may."""

    why: str
    words: tuple[str, ...]
    detail: str


def judged(words: Sequence[str], ended: tuple[int, str, str, str]) -> Found | None:
    status, out, err, trace = ended
    if trace or "Traceback" in out + err:
        lines = [line.strip() for line in trace.splitlines()]
        where = [
            line for line in lines if line.startswith("File") and str(ROOT) in line and "tests/fuzz" not in line
        ]
        return Found(
            f"{lines[-1][:150] if lines else 'Traceback'} | {where[-1] if where else ''}",
            tuple(words),
            trace or err,
        )
    if status not in STATUSES:
        return Found(f"status {status}", tuple(words), err)
    if status == 2 and len(err.strip().splitlines()) != 1:
        return Found("status 2 without one line", tuple(words), err)
    return None


def cases(world: World, count: int, in_processes: int) -> Iterator[tuple[list[str], tuple[int, str, str, str]]]:
    weights = [shape.weight for shape in COMMANDS]
    for place in range(count):
        faults = world.chance.choice([0, 1, 1, 1, 1, 2])
        if place < in_processes:
            words = argv(world.chance.choice(TRAINING), world, faults)
            yield words, in_a_process(words, world.folder)
        else:
            words = argv(world.chance.choices(COMMANDS, weights)[0], world, faults)
            cache = ["--root" if words[0] == "data.cache" else "--cache", world.path("cache")]
            takes_cache = words[0] == "data.cache" or (
                words[1:2] and words[1] in ("plan", "run", "submit") and words[2:3] and words[2] in STUDIES
            )
            words += cache if takes_cache else []
            yield words, outcome(words)


def fuzz(seed: int, count: int, in_processes: int = 0) -> None:
    """Raises AssertionError where a case ends as none may, with all of them."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    before = {key: os.environ.get(key) for key in ("JAX_PLATFORMS", "COLUMNS")}
    os.environ["JAX_PLATFORMS"] = "cpu"
    found: list[Found] = []
    statuses: collections.Counter[int] = collections.Counter()
    working = Path.cwd()
    try:
        os.chdir(folder)
        world = World(folder, random.Random(seed))
        for words in world.first():
            assert outcome(words)[0] == 0, words
        for words, ended in cases(world, count, in_processes):
            statuses[ended[0]] += 1
            if bad := judged(words, ended):
                found.append(bad)
    finally:
        os.chdir(working)
        shutil.rmtree(folder, ignore_errors=True)
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})
    past = 1 - statuses[2] / count
    kinds = collections.Counter(bad.why for bad in found)
    print(f"{count} cases of seed {seed}: statuses {dict(sorted(statuses.items()))}, {past:.0%} past every refusal, "
          f"{len(found)} wrong of {len(kinds)} kinds")  # fmt: skip
    shown = {bad.why: bad for bad in found}
    text = "\n".join(
        f"{kinds[why]}x {why}\n   {list(bad.words)!r:.600}\n   {bad.detail[-500:]}"
        for why, bad in shown.items()
    )
    assert not found, f"{len(found)} of {count}:\n{text}"
    assert past >= SHARE_PAST_REFUSALS, statuses


@pytest.mark.slow
def test_60_commands():
    fuzz(seed=1, count=60, in_processes=1)


@pytest.mark.long
def test_many_commands():
    """500 of them; `make test-walks` asks for 2,000."""
    count = int(os.environ.get("FUZZ_CASES", "500"))
    fuzz(seed=2, count=count, in_processes=count // 100)


if __name__ == "__main__":
    fuzz(*(int(word) for word in sys.argv[1:]))
