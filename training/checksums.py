"""Checksums of the arrays of a checkpoint: taken from the host's copy when it is saved, compared when it is read.

A checksum is CRC-32 over a whole array, or over each piece of it where several processes hold it, each taking its own.
They lie in the checkpoint's progress, which carries a checksum itself. A checkpoint of an earlier version has none.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from training.state import TrainState

ARRAYS, CHECKSUM = "arrays", "checksum"
Spans = tuple[tuple[int, int], ...]  # first and last index + 1 of a piece along each axis


class DamagedCheckpoint(RuntimeError):
    """A checkpoint that does not hold what was saved; the message names what of it."""


def with_checksums(progress: Mapping[str, Any], state: TrainState) -> dict[str, Any]:
    """What is saved beside the arrays of `state`. All processes of a run call this, where there are several."""
    pieces = [(name, spans, value) for name, array in _named(state) for spans, value in _pieces(array)]
    with ThreadPoolExecutor(8) as threads:  # CRC-32 lets other threads run
        values = list(threads.map(lambda piece: 0 if piece[2] is None else crc32(piece[2]()), pieces))
    if jax.process_count() > 1:
        gathered = multihost_utils.process_allgather(np.array(values, np.uint32))
        values = [int(value) for value in np.asarray(gathered, np.uint64).sum(axis=0)]
    arrays: dict[str, list[Any]] = {}
    for (name, spans, _), value in zip(pieces, values, strict=True):
        arrays.setdefault(name, []).append([[list(span) for span in spans], value])
    whole = {**progress, ARRAYS: arrays}
    return {**whole, CHECKSUM: _of_json(whole)}


def check_progress(progress: Any, tokens: int) -> bool:
    """Whether a checkpoint has checksums of its arrays.

    Raises:
      DamagedCheckpoint: its progress is not what was saved.
    """
    if not isinstance(progress, dict) or progress.get("tokens") != tokens:
        raise DamagedCheckpoint("its progress is not that of this checkpoint")
    if ARRAYS not in progress and CHECKSUM not in progress:
        if missing := {"train_seconds", "compile_seconds"} - progress.keys():
            raise DamagedCheckpoint(f"its progress has no {', '.join(sorted(missing))}")
        return False
    rest = {key: value for key, value in progress.items() if key != CHECKSUM}
    if progress.get(CHECKSUM) != _of_json(rest) or ARRAYS not in progress:
        raise DamagedCheckpoint("its progress does not match its checksum")
    return True


def check_state(progress: Mapping[str, Any], state: TrainState) -> None:
    """Compare a state that one process has read with what was saved.

    Raises:
      DamagedCheckpoint: naming the first array that differs.
    """
    arrays = dict(_named(state))
    if arrays.keys() != progress[ARRAYS].keys():
        raise DamagedCheckpoint("its arrays are not those that were saved")
    check_arrays(progress, lambda name, spans: _cut(np.asarray(arrays[name]), spans), list(arrays))


def check_arrays(
    progress: Mapping[str, Any], read: Callable[[str, Spans], np.ndarray], names: list[str]
) -> None:
    """Compare arrays with what was saved of them.

    Args:
      read: a piece of an array, by name.

    Raises:
      DamagedCheckpoint: naming the first array that differs.
    """

    def differs(name: str) -> bool:
        return any(crc32(read(name, _spans(spans))) != value for spans, value in progress[ARRAYS][name])

    with ThreadPoolExecutor(8) as threads:
        wrong = [name for name, bad in zip(names, threads.map(differs, names), strict=True) if bad]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DamagedCheckpoint(f"its array {wrong[0]}{more} does not hold what was saved")


def crc32(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes in the order of its indices."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _named(state: TrainState) -> Iterator[tuple[str, Any]]:
    """The arrays of a state by the names that Orbax files them under, as in params.blocks.down."""
    for path, array in jax.tree_util.tree_flatten_with_path(state)[0]:
        yield ".".join(str(_key(entry)) for entry in path), array


def _key(entry: Any) -> Any:
    return next(value for kind in ("name", "key", "idx") if (value := getattr(entry, kind, None)) is not None)


def _pieces(array: Any) -> list[tuple[Spans, Callable[[], np.ndarray] | None]]:
    """The whole array, or the pieces of all processes with None for those that others hold."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return [((), lambda: np.asarray(array))]
    own = {
        _of_index(shard.index, array.shape): shard for shard in array.addressable_shards if not shard.replica_id
    }
    everywhere = {
        _of_index(index, array.shape) for index in array.sharding.devices_indices_map(array.shape).values()
    }

    def reader(spans: Spans) -> Callable[[], np.ndarray] | None:
        shard = own.get(spans)
        return None if shard is None else lambda: np.asarray(shard.data)

    return [(spans, reader(spans)) for spans in sorted(everywhere)]


def _of_index(index: tuple[slice, ...], shape: tuple[int, ...]) -> Spans:
    return tuple(one.indices(size)[:2] for one, size in zip(index, shape, strict=True))


def _spans(value: Any) -> Spans:
    return tuple((int(first), int(end)) for first, end in value)


def _cut(array: np.ndarray, spans: Spans) -> np.ndarray:
    return array[tuple(slice(first, end) for first, end in spans)]


def _of_json(value: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())
