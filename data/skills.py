"""Synthetic skills in the training text: which ones, how much of each, and their streams of tokens.

`DataConfig.skills` names tasks with their shares of the training windows, joined by plus signs:
`associative-recall:pairs=4@0.2+facts@0.05`; the corpus keeps the rest. Each skill is a stream of documents of the
training side of its task (data/tasks/protocol.py), built once and memory-mapped like the corpus. Which windows
of a run are of which source is a fixed pattern of 100 windows, so that a position of the run still determines its
window in O(1), and a shorter run is still the beginning of a longer one.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.errors import BadInput
from core.files import read_object, write_json
from data.integrity import build_folder, damage, describe, only_one
from data.tasks.protocol import Task
from data.tasks.registry import load
from data.tokenizers import Tokenizer

PATTERN = 100  # windows in the fixed pattern: shares are whole percents
SKILLS_FORMAT = 1  # raised when the same skill would give other tokens
_DOCUMENTS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class Skill:
    """One task in the training text and its share of the windows in percent."""

    task: Task
    percent: int


@functools.lru_cache(maxsize=64)
def parse_skills(text: str) -> tuple[Skill, ...]:
    """The skills of `DataConfig.skills`; none for the empty text.

    Raises:
      BadInput: not NAME@SHARE joined by +, a share that is no whole percent, a task twice, more than 99% in all.
    """
    skills = []
    for part in text.split("+") if text else []:
        name, at, share = part.rpartition("@")
        if not (at and name and re.fullmatch(r"0?\.[0-9]{1,2}", share) and float(share) > 0):
            raise BadInput(
                f"data.skills={part!r}: must be TASK@SHARE, shares from 0.01 to 0.99 in steps of 0.01, joined by +"
            )
        if name.startswith("file:"):
            raise BadInput(
                f"data.skills={part!r}: a user's file holds held-out problems; it cannot be trained on"
            )
        skills.append(Skill(load(name), round(100 * float(share))))
    total = sum(skill.percent for skill in skills)
    if total > 99:
        raise BadInput(
            f"data.skills={text!r}: shares add up to {total / 100:.2f}; must leave 0.01 to the corpus"
        )
    if len({skill.task.name for skill in skills}) < len(skills):
        raise BadInput(f"data.skills={text!r}: a task is named twice")
    return tuple(skills)


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Which source each window of a run reads: 0 the corpus, 1 the first skill, and so on.

    Attributes:
      sources: source of each of the 100 windows of the pattern. (100,)
      ranks: how many earlier windows of the pattern have the same source. (100,)
      counts: windows of each source in the pattern. (sources,)
    """

    sources: np.ndarray
    ranks: np.ndarray
    counts: np.ndarray

    def __call__(self, position: int) -> tuple[int, int]:
        """(source, index among that source's windows) of the window at `position` of a run."""
        whole, slot = divmod(position, PATTERN)
        source = int(self.sources[slot])
        return source, whole * int(self.counts[source]) + int(self.ranks[slot])


@functools.lru_cache(maxsize=64)
def pattern(percents: tuple[int, ...]) -> Pattern:
    """The pattern of skills with these shares: at each slot the source that is furthest behind its share."""
    counts = np.array([PATTERN - sum(percents), *percents])
    given = np.zeros(len(counts), np.int64)
    sources, ranks = [], []
    for slot in range(PATTERN):
        source = int(np.argmax(counts * (slot + 1) / PATTERN - given))
        sources.append(source)
        ranks.append(int(given[source]))
        given[source] += 1
    return Pattern(np.array(sources), np.array(ranks), counts)


def open_skills(
    text: str, tokens: int, tokenizer: Tokenizer, dtype: np.dtype, root: Path
) -> tuple[np.ndarray, ...]:
    """The token stream of each skill of `text`, memory-mapped, built below `root` where it is not there.

    Args:
      tokens: length of each stream.
    """
    streams = []
    for skill in parse_skills(text):
        decides = [SKILLS_FORMAT, skill.task.name, tokens, tokenizer.to_json(), tokenizer.separator, dtype.str]
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]
        folder = root / "skills" / f"{re.sub(r'[^A-Za-z0-9]+', '_', skill.task.name)[:60]}-{key}"
        if not _whole(folder):  # looked at before the lock is taken: a folder may be one that is only read
            with only_one(folder, notify=False):
                if not _whole(folder):
                    build_folder(folder, functools.partial(_build, skill.task, tokens, tokenizer, dtype))
        streams.append(np.memmap(folder / "train.tokens", dtype=dtype, mode="r"))
    return tuple(streams)


def stream_fingerprint(text: str, tokens: int) -> str:
    """SHA-256 of what decides the skills' streams beside the tokenizer; empty where there are none."""
    names = [[skill.task.name, skill.percent] for skill in parse_skills(text)]
    return hashlib.sha256(json.dumps([SKILLS_FORMAT, tokens, names]).encode()).hexdigest() if names else ""


def _whole(folder: Path) -> bool:
    """Whether the stream is there and holds what was written, by reading all of it."""
    meta = folder / "meta.json"
    if not os.path.lexists(meta):
        return False
    try:
        record = read_object(meta)["train.tokens"] if meta.is_file() else {}
        fault = damage(folder / "train.tokens", record, whole=True)
    except (BadInput, KeyError, TypeError):
        fault = f"{meta.name} does not say what is in the folder"
    if fault:
        warnings.warn(f"{folder}: {fault}; building it again", stacklevel=3)
    return not fault


def _build(task: Task, tokens: int, tokenizer: Tokenizer, dtype: np.dtype, folder: Path) -> None:
    documents = task.documents()
    written = 0
    with (folder / "train.tokens").open("wb") as file:
        while written < tokens:
            texts = [next(documents) for _ in range(_DOCUMENTS_AT_ONCE)]
            piece = _separated(tokenizer.encode(texts), tokenizer.separator, dtype)[: tokens - written]
            file.write(piece.tobytes())
            written += len(piece)
    write_json(folder / "meta.json", {"train.tokens": describe(folder / "train.tokens"), "task": task.name})


def _separated(encoded: Sequence[np.ndarray], separator: int, dtype: np.dtype) -> np.ndarray:
    end = np.array([separator], dtype)
    return np.concatenate([piece for ids in encoded for piece in (ids.astype(dtype), end)])
