"""Which runs are trained together as one program, and how many: the meaning of `--pack auto|off|N`."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from core.codec import to_json
from core.errors import BadInput
from core.files import append_to
from core.order import generations
from core.reading import printable
from launchers.local.devices import Place
from training.packs.size import decide, known_rates
from training.program import shape_of
from training.spec import RunSpec

ROOT = Path(__file__).resolve().parent.parent
NOT_ON_A_CPU = "packs: off, they gain nothing on a CPU; --pack N packs all the same"


def pack_key(spec: RunSpec) -> Hashable:
    """Runs with the same key are packed: one compiled shape, and the same beginning and end, so that no lane waits."""
    return shape_of(spec), spec.branch_at_tokens, spec.tokens, spec.start


def parse_pack(text: str, name: str = "--pack") -> str | int:
    """`auto`, or the most runs of a pack; off and 1 are both 1.

    Args:
      name: of the flag or the key that says so, for the message.

    Raises:
      BadInput: anything else.
    """
    if text == "auto":
        return "auto"
    if text == "off":
        return 1
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) < 1:
        raise BadInput(f"{name}={printable(text)}: must be auto, off or a whole number of runs, at least 1")
    return int(text)


def share_evenly(count: int, most: int) -> int:
    """Runs of the next pack where `count` are left and at most `most` fit: packs of one size compile once."""
    return math.ceil(count / math.ceil(count / most)) if count else 0


def form_packs(specs: Iterable[RunSpec], most: Callable[[RunSpec], int]) -> list[list[RunSpec]]:
    """Every run once: alone, or with others of its `pack_key`, in packs as few and as even as `most` allows.

    Packs come in the order of their first runs, and so do the runs within one.
    """
    specs = list(specs)
    generation = generations(specs)  # a run is in no pack with one that it waits for
    alike: dict[Hashable, list[tuple[int, RunSpec]]] = {}
    for index, spec in enumerate(specs):
        limit, before = most(spec), generation[spec.run_id]
        alike.setdefault((pack_key(spec), limit, before) if limit > 1 else index, []).append((index, spec))
    packs = []
    for members in alike.values():
        limit, start = most(members[0][1]), 0
        while start < len(members):
            size = share_evenly(len(members) - start, limit)
            packs.append(members[start : start + size])
            start += size
    packs.sort(key=lambda pack: pack[0][0])
    return [[spec for _, spec in pack] for pack in packs]


@dataclasses.dataclass(frozen=True)
class PackSizes:
    """The most runs of a pack by `pack_key`, 1 for a key that is not there, and a line on each decision."""

    sizes: dict[Hashable, int]
    lines: tuple[str, ...] = ()

    def __call__(self, spec: RunSpec) -> int:
        return self.sizes.get(pack_key(spec), 1)


def _of_several_runs(specs: Iterable[RunSpec]) -> dict[Hashable, int]:
    """How many runs could train together, by `pack_key`, where that is more than one."""
    counts = Counter(pack_key(spec) for spec in specs)
    return {key: count for key, count in counts.items() if count > 1}


def _without_measurement(several: Mapping[Hashable, int], pack: str | int, on_cpu: bool) -> PackSizes | None:
    """The sizes that need no measurement; None where `auto` has to know one."""
    if pack == 1 or not several:
        return PackSizes({})
    if isinstance(pack, int):
        return PackSizes({key: min(pack, count) for key, count in several.items()})
    return PackSizes({}, (NOT_ON_A_CPU,)) if on_cpu else None


def choose_sizes(
    specs: Sequence[RunSpec],
    pack: str | int,
    places: Sequence[Place],
    cache_root: Path,
    log: Path,
    note: Callable[[str], None] = lambda text: None,
) -> PackSizes:
    """How many of these runs go into one pack.

    `auto` measures on the first place's device, once a shape (training/packs/size.py), with packs no larger than leave
    work for every place. On a CPU it is off without a measurement: there a pack trains 0.6 to 1.1 times the tokens of
    its runs one after the other (docs/performance.md; `python launch.py bench --pack 1 8` measures it).

    Args:
      pack: as `parse_pack` returns it.
      log: where the measuring process writes its standard error.
      note: called with a line before the measurement starts.
    """
    several = _of_several_runs(specs)
    on_cpu = any(place.environment.get("JAX_PLATFORMS") == "cpu" for place in places)
    settled = _without_measurement(several, pack, on_cpu)
    if settled is not None:
        return settled
    most = {key: math.ceil(count / len(places)) for key, count in several.items()}
    example = {pack_key(spec): spec for spec in specs}
    asked = [key for key in several if most[key] > 1]
    if not asked:
        return PackSizes({}, (f"packs: off, there are no more runs of a shape than places ({len(places)})",))
    note(
        f"packs: measuring {len({shape_of(example[key]) for key in asked})} shapes on {places[0].name}, kept for later"
    )
    left = {key: sum(spec.trained_tokens for spec in specs if pack_key(spec) == key) for key in asked}
    requests = [
        {"spec": to_json(example[key]), "most": most[key], "tokens": left[key] / len(places)} for key in asked
    ]
    answers = _measure(requests, places[0], cache_root, log)
    if not answers:
        return PackSizes({}, (f"packs: off, they could not be measured; see the last words of {log}",))
    lines = []
    for key, answer in zip(asked, answers, strict=True):
        model = example[key].model
        line = f"packs: {model.width}x{model.depth}: {answer['sentence']}"
        if line not in lines:
            lines.append(line)
    return PackSizes({key: answer["members"] for key, answer in zip(asked, answers, strict=True)}, tuple(lines))


def pack_gain(rates: Mapping[int, float], members: int) -> float:
    """Total tokens per second of a pack, relative to one run alone: measured, or on the line between the two measured
    sizes around it; 1 where nothing was measured.

    Args:
      rates: total tokens per second by number of members, as training/packs/size.py measures them.
    """
    if 1 not in rates or members == 1:
        return 1.0
    below = max(size for size in rates if size <= members)
    above = min((size for size in rates if size >= members), default=below)
    share = (members - below) / (above - below) if above > below else 0.0
    return (rates[below] + share * (rates[above] - rates[below])) / rates[1]


def measured_sizes(
    specs: Sequence[RunSpec],
    pack: str | int,
    devices: int,
    cache_root: Path,
    at_once: int = 0,
    kind: str | None = None,
) -> PackSizes:
    """How many of these runs go into one pack of an engine that starts them elsewhere.

    Nothing can be measured there before it is queued: `auto` takes what earlier runs have measured and left in
    `cache_root` (the smallest answer where several kinds of device did), and packs nothing where there is no such
    measurement.

    Args:
      pack: as `parse_pack` returns it.
      devices: accelerators of the process that trains a pack; 0 for a CPU.
      at_once: packs that train at the same time, each of which is left some work; 0 for no limit.
      kind: of accelerator; None for any.
    """
    several = _of_several_runs(specs)
    settled = _without_measurement(several, pack, on_cpu=not devices)
    if settled is not None:
        return settled
    example = {pack_key(spec): spec for spec in specs}
    sizes: dict[Hashable, int] = {}
    lines: list[str] = []
    for key, count in several.items():
        most = math.ceil(count / at_once) if at_once else count
        found = {
            kind: decide(rates, most)
            for kind, rates in known_rates(example[key], devices, cache_root, kind).items()
        }
        model = example[key].model
        if found:
            kind = min(found, key=lambda kind: found[kind])
            sizes[key] = found[kind]
            line = f"packs: {model.width}x{model.depth}: packs of {found[kind]}, as measured on {kind}"
        else:
            line = (
                f"packs: {model.width}x{model.depth}: off, not measured yet on {devices} accelerators; "
                "`launch.py run` there measures, --pack N packs without"
            )
        lines += [line] * (line not in lines)
    return PackSizes(sizes, tuple(lines))


def _measure(requests: list[dict], place: Place, cache_root: Path, log: Path) -> list[dict]:
    """One answer a request, from a process that ends and so gives the device back; none where it failed."""
    command = [sys.executable, "-m", "training.packs.size", "--cache", str(cache_root.absolute())]
    log.parent.mkdir(parents=True, exist_ok=True)
    with append_to(log) as errors:
        done = subprocess.run(
            command,
            input=json.dumps(requests),
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            check=False,
            cwd=ROOT,
            env={**os.environ, **place.environment},
        )
    return [] if done.returncode else [json.loads(line) for line in done.stdout.splitlines()]
