"""Checksums of files by blocks: wrong bytes are found before they are used, each block once a process.

A checksum is CRC-32 over 64 KiB, 1.5 GB/s on one core. It finds every flipped bit and every wrong stretch of up to 32
bits, and misses other damage of a block with probability 2^-32. SHA-256 of whole files stands in the header of a cache;
it is three times as slow, and `--verify` compares both.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.integrity import checksum

BLOCK = 64 * 1024
BLOCKS = "blocks.json"  # beside the files of a cache: it can be made again from files that are whole
FORMAT = 1


class DamagedCache(Exception):
    """Files that are not what was written; the message says which file, where and how."""


class Blocks:
    """A file that was written whole, and its checksums by block.

    Args:
      path: of the file.
      checksums: CRC-32 of each block, uint32 (blocks,).

    Raises:
      DamagedCache: a method found bytes that are not what was written.
    """

    def __init__(self, path: Path, checksums: np.ndarray) -> None:
        self.path, self._checksums = path, checksums
        self._unchecked = np.ones(len(checksums), bool)
        self._bytes = np.memmap(path, np.uint8, "r") if len(checksums) else np.zeros(0, np.uint8)
        self._whole = not len(checksums)

    def check_all(self) -> None:
        """Check what has not been checked yet."""
        if not self._whole:
            self._check(np.flatnonzero(self._unchecked))
            self._whole = True

    def check(self, starts: np.ndarray, length: int) -> None:
        """Check the blocks of stretches of `length` bytes, before they are used."""
        if self._whole:
            return
        first, last = starts // BLOCK, (starts + length - 1) // BLOCK
        for step in range(int((last - first).max()) + 1):
            wanted = np.unique(np.minimum(first + step, last))
            self._check(wanted[self._unchecked[wanted]])

    def _check(self, blocks: np.ndarray) -> None:
        for block in blocks.tolist():
            start = block * BLOCK
            stop = min(start + BLOCK, len(self._bytes))
            if zlib.crc32(self._bytes[start:stop].data) != self._checksums[block]:
                raise DamagedCache(
                    f"{self.path.name} does not hold what was written in bytes {start} to {stop - 1} (block {block})"
                )
            self._unchecked[block] = False


def digests(path: Path) -> tuple[str, np.ndarray]:
    """SHA-256 of a file and CRC-32 of each block, in one reading."""
    state, checksums = hashlib.sha256(), []
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            state.update(block)
            checksums.append(zlib.crc32(block))
    return state.hexdigest(), np.array(checksums, np.uint32)


def to_json(checksums: Mapping[str, tuple[str, np.ndarray]]) -> dict[str, Any]:
    """The content of blocks.json: `digests` by name."""
    files = {
        name: {"sha256": sha256, "crc32": blocks.astype("<u4").tobytes().hex()}
        for name, (sha256, blocks) in checksums.items()
    }
    value = {"format": FORMAT, "block": BLOCK, "files": files}
    return {**value, "checksum": checksum(value)}


def read(folder: Path) -> dict[str, tuple[str, np.ndarray]]:
    """`digests` by name from a folder's blocks.json; none where it is not there, damaged or of another format."""
    if not (folder / BLOCKS).is_file():
        return {}
    try:
        value = json.loads((folder / BLOCKS).read_bytes())
        if (value["format"], value["block"], value["checksum"]) != (FORMAT, BLOCK, checksum(value)):
            return {}
        return {
            name: (one["sha256"], np.frombuffer(bytes.fromhex(one["crc32"]), "<u4"))
            for name, one in value["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


_OPENED: dict[tuple[Any, ...], Blocks] = {}


def opened(path: Path, sha256: str, checksums: np.ndarray) -> Blocks:
    """`Blocks` of a file, the same for everyone in this process, so that no block is checked twice."""
    status = os.stat(path)
    key = (os.fspath(path), sha256, status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _OPENED:
        _OPENED[key] = Blocks(path, checksums)
    return _OPENED[key]
