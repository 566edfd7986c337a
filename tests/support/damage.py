"""Every way in which a file can be damaged: what a full disk, a power cut, an editor or a copy makes of it."""

import contextlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DEEP = b"[" * 200_000
LONG_NUMBER = "7" * 400
HUGE = 1 << 40  # sparse: it takes no room
NUMBER = re.compile(rb"(?<=[ \[:,])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?=[,\s\]}])")

# Puts something in the place of a file; may look at the file that lies there, and at another of the same kind.
Damage = Callable[[Path, Path], None]


def write(payload: bytes) -> Damage:
    def damage(path: Path, other: Path) -> None:
        path.write_bytes(payload)

    return damage


def change(function: Callable[[bytes], bytes]) -> Damage:
    def damage(path: Path, other: Path) -> None:
        path.write_bytes(function(path.read_bytes()))

    return damage


def instead(make: Callable[[Path], None]) -> Damage:
    def damage(path: Path, other: Path) -> None:
        path.unlink()
        make(path)

    return damage


def torn(share: float) -> Damage:
    return change(lambda payload: payload[: int(len(payload) * share)])


def noise(seed: int) -> Damage:
    return change(lambda payload: random.Random(seed).randbytes(len(payload)))


def flipped(seed: int) -> Damage:
    def flip(payload: bytes) -> bytes:
        place = random.Random(seed).randrange(len(payload)) if payload else 0
        return payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :] if payload else b"x"

    return change(flip)


def number(place: float, text: str) -> Damage:
    """One of the numbers of the file, `place` of the way through it, becomes `text`; {} in it is what stood there."""

    def edit(payload: bytes) -> bytes:
        found = list(NUMBER.finditer(payload))
        if not found:
            return payload + text.encode()
        match = found[min(len(found) - 1, int(place * len(found)))]
        return payload[: match.start()] + text.format(match[0].decode()).encode() + payload[match.end() :]

    return change(edit)


def every_number(text: str) -> Damage:
    return change(lambda payload: NUMBER.sub(text.encode(), payload))


def with_lists(payload: bytes) -> bytes:
    """Every value of every row, or of the object, in a list."""

    def wrapped(tree: Any) -> Any:
        return {key: [value] for key, value in tree.items()} if isinstance(tree, dict) else [tree]

    try:
        return b"".join(json.dumps(wrapped(json.loads(line))).encode() + b"\n" for line in payload.splitlines())
    except ValueError:
        try:
            return json.dumps(wrapped(json.loads(payload))).encode()
        except ValueError:
            return b'{"a": []}'


def huge(path: Path, other: Path) -> None:
    os.truncate(path, HUGE)


def elsewhere(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other.absolute())


def old_copy(path: Path, other: Path) -> None:
    """What the file was earlier: a log that ends sooner, a record with fewer attempts or keys."""
    payload = path.read_bytes()
    if path.suffix == ".jsonl":
        lines = payload.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: len(lines) // 2]))
    else:
        path.write_bytes(other.read_bytes())


def lines_gone(path: Path, other: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))


def lines_shuffled(path: Path, other: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    path.write_bytes(b"".join(lines))


def forbidden(path: Path, other: Path) -> None:
    path.chmod(0)


JSON = ("null", "true", "3", '"x"', "[]", "{}", "[[1]]", '"\\ud800"')
NUMBERS = ("NaN", "-Infinity", LONG_NUMBER, '"8"', "null", "[1]")

DAMAGES: dict[str, Damage] = {
    "empty": write(b""),
    "blank": write(b"\n \n"),
    **{f"torn at {share}": torn(share) for share in (0.01, 0.25, 0.5, 0.9, 0.999)},
    **{f"noise {seed}": noise(seed) for seed in range(3)},
    **{f"a bit flipped {seed}": flipped(seed) for seed in range(6)},
    "not UTF-8": change(lambda payload: payload.replace(b"e", b"\xe9")),
    "UTF-16": change(lambda payload: payload.decode("latin-1").encode("utf-16")),
    "zeros": change(lambda payload: b"\0" * len(payload)),
    **{f"JSON {text[:9]}": write(text.encode()) for text in JSON},
    "surrogates": change(lambda payload: payload.replace(b'"name"', b'"\\ud800"').replace(b'"run"', b'"\\udfff"')),
    "deep": write(DEEP),
    "deep row": change(lambda payload: payload + b'{"tokens": ' + DEEP + b"\n"),
    "deep 500": write(b'{"a":' * 500 + b"1" + b"}" * 500),
    **{f"all numbers {text[:9]}": every_number(text) for text in NUMBERS},
    **{
        f"{place} number {text[:9]}": number(place, text)
        for place in (0.0, 0.2, 0.5, 0.8, 0.99)
        for text in ("NaN", "Infinity", "-1", "1e400", LONG_NUMBER, "{}0", "0")
    },
    "lists": change(with_lists),
    "huge": huge,
    "link to another run's": elsewhere,
    "link to a device": instead(lambda path: path.symlink_to("/dev/zero")),
    "link to nothing": instead(lambda path: path.symlink_to("nowhere")),
    "link to itself": instead(lambda path: path.symlink_to(path.name)),
    "FIFO": instead(os.mkfifo),
    "folder": instead(Path.mkdir),
    "deleted": instead(lambda path: None),
    "old copy": old_copy,
    "last lines gone": lines_gone,
    "lines shuffled": lines_shuffled,
    "forbidden": forbidden,
}  # fmt: skip


@contextlib.contextmanager
def damaged(path: Path, other: Path, damage: Damage, *, keep: bool = True) -> Iterator[None]:
    """The file damaged for the time of the block, then, if it is to be kept, as it was."""
    if not keep:
        damage(path, other)
        yield
        return
    kept = path.with_name(f".{path.name}.kept")
    shutil.copy2(path, kept)
    try:
        damage(path, other)
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        kept.replace(path)
