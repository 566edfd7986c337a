"""Task definitions as lm-evaluation-harness itself reads and scores them. Imported where it is installed.

A metric's standard error: that of a mean of independent documents; of a sum over a sum, such as bits per byte, of the
ratio; of any other aggregate by resampling the documents.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
from lm_eval.api import metrics
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from core.errors import BadInput
from core.numbers import finite
from core.suggest import unknown
from training.evaluate.harness_model import HarnessModel
from training.evaluate.loss import Score
from training.evaluate.text_model import TextModel

SEED = 1234  # the harness's own for solved examples
RESAMPLES = 1000
WEIGHTED = {  # aggregates of (nats, weight): what the sums' ratio becomes
    metrics.weighted_perplexity: math.exp,
    metrics.bits_per_byte: lambda nats: nats / math.log(2),
}


@dataclasses.dataclass(frozen=True)
class Definition:
    """One task of the harness with its requests.

    Attributes:
      name: as the harness has it.
      fingerprint: SHA-256 over all that is asked and how it is judged.
      items: documents.
      chance: accuracy of a blind choice; 0 where answers are free.
      texts: of each document its longest prompt and answer, to be looked for in the training text.
    """

    name: str
    task: Any
    fingerprint: str
    items: int
    chance: float
    texts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Scored:
    """The numbers of one task or group.

    Attributes:
      scores: by metric; of a filter METRIC,FILTER.
      columns: each document's own value of each metric, NaN where there is none; empty for a group.
    """

    scores: dict[str, Score]
    columns: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Definitions:
    """What was chosen from a folder: tasks, and groups with the names of the tasks in them."""

    tasks: Mapping[str, Definition]
    groups: Mapping[str, tuple[str, ...]]
    loaded: Mapping[str, Any]

    def chance(self, name: str) -> tuple[float, int]:
        """Accuracy of a blind choice in a task or over the documents of a group, and how many documents there are."""
        parts = [self.tasks[leaf] for leaf in self.groups.get(name, (name,))]
        items = sum(part.items for part in parts)
        return sum(part.chance * part.items for part in parts) / items, items


def read(folder: Path, include: Sequence[str], limit: int | None) -> Definitions:
    """The tasks of a folder, or those named: tasks, groups or tags.

    Args:
      limit: documents of each task.

    Raises:
      BadInput: no such folder or name, or a definition that the harness refuses.
    """
    if not folder.is_dir():
        raise BadInput(f"--tasks {folder}: no such folder of task definitions")
    if not include:
        _refuse_unreadable(folder)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    if not manager.all_tasks:
        raise BadInput(f"--tasks {folder}: no definition in it (no .yaml file with a key task)")
    for name in include:
        if name not in manager.task_index:
            raise unknown("--include=", name, manager.all_tasks)
    tasks: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    grouped = [name for name in include or manager.all_groups]
    for name in [*grouped, *(() if include else manager.all_subtasks)]:
        if name not in tasks:
            found = _load(manager, name)
            tasks |= found["tasks"]
            groups |= found["groups"]
    definitions = {name: _definition(name, task, limit) for name, task in tasks.items()}
    members = {name: tuple(task.task_name for task in group.get_all_tasks()) for name, group in groups.items()}
    return Definitions(definitions, members, {"tasks": tasks, "groups": groups})


def _refuse_unreadable(folder: Path) -> None:
    """The harness passes over a file that it cannot read without a word."""
    for path in sorted(folder.glob("**/*.yaml")):
        with _refused(f"--tasks {path}"):
            load_yaml(path, resolve_func=False)


@contextlib.contextmanager
def _refused(where: str) -> Iterator[None]:
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    except Exception as error:  # noqa: BLE001 - a definition holds templates and code, which raise whatever there is
        said = " ".join(str(error).split())[:300]
        raise BadInput(f"{where}: {type(error).__name__}{': ' * bool(said)}{said}") from None


def _load(manager: Any, name: str) -> dict[str, Any]:
    """Paths of documents are those beside the definition where there are such files, else from here."""
    entry = manager.task_index[name]
    paths = [entry.yaml_path] if entry.yaml_path else []
    paths += [own.yaml_path for own in manager.task_index.values() if own.yaml_path and name in own.tags]
    beside = paths[0].parent if paths else Path()
    # The tasks of a group have their own files, which lie beside it as a rule.
    near = [own for own in manager.task_index.values() if own.yaml_path and own.yaml_path.parent == beside]
    found = any((beside / one).exists() for own in (near if entry.cfg is None or "group" in entry.cfg else [entry])
                for one in _documents(own.cfg))  # fmt: skip
    with _refused(f"task {name}"), contextlib.chdir(beside if found else Path()):
        return manager.load([name])


def _documents(config: Mapping[str, Any] | None) -> list[str]:
    kwargs = (config or {}).get("dataset_kwargs")
    files = kwargs.get("data_files") if isinstance(kwargs, Mapping) else None
    named = list(files.values()) if isinstance(files, Mapping) else [files]
    listed = [one for own in named for one in (own if isinstance(own, list) else [own])]
    return [one for one in listed if isinstance(one, str)]


def _definition(name: str, task: Any, limit: int | None) -> Definition:
    with _refused(f"task {name}"):
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=SEED)
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        asked: dict[int, list[Any]] = {}
        for instance in task.instances:
            asked.setdefault(instance.doc_id, []).append(instance)
        judged = {key: task.get_config(key) for key in ("output_type", "metric_list", "filter_list", "repeats")}
        content = [
            [[own.request_type, own.args] for own in document] + [task.doc_to_target(document[0].doc)]
            for document in asked.values()
        ]
        digest = hashlib.sha256(json.dumps([judged, content], default=str).encode()).hexdigest()
        chance = 0.0
        if task.OUTPUT_TYPE == "multiple_choice":
            chance = float(np.mean([1 / len(task.doc_to_choice(own[0].doc)) for own in asked.values()]))
        texts = tuple(
            max(("".join(part for part in one.args if isinstance(part, str)) for one in own), key=len)
            for own in asked.values()
        )
        return Definition(name, task, digest, len(asked), chance, texts)


def evaluate(
    model: TextModel, definitions: Definitions, names: Sequence[str], limit: int | None
) -> dict[str, Scored]:
    """The scores of the named tasks and groups, and of the tasks in those groups.

    Raises:
      BadInput: a definition that fails on what the model says.
    """
    groups = {name: group for name, group in definitions.loaded["groups"].items() if name in names}
    wanted = {*names, *(leaf for name in groups for leaf in definitions.groups[name])}
    tasks = {name: task for name, task in definitions.loaded["tasks"].items() if name in wanted}
    for task in tasks.values():
        task.set_fewshot_seed(seed=SEED)
    label = f"task {', '.join(tasks)}"
    with _refused(label if len(label) < 200 else f"{len(tasks)} tasks"):
        answer = lm_eval.evaluate(
            HarnessModel(model),
            {"tasks": tasks, "groups": groups},
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
        )
    found = {name: _scored(name, task, answer["samples"][name]) for name, task in tasks.items()}
    for name in groups:
        found[name] = _group(answer["results"][name], [found[leaf] for leaf in definitions.groups[name]])
    for name, scored in found.items():
        scored.scores["chance"] = Score(*definitions.chance(name), 0.0)
    return found


def _scored(name: str, task: Any, samples: Sequence[Mapping[str, Any]]) -> Scored:
    scores: dict[str, Score] = {}
    columns: dict[str, list[float]] = {}
    aggregates = task.aggregation()
    order = {document: place for place, document in enumerate(sorted({row["doc_id"] for row in samples}))}
    for filtered in dict.fromkeys(row["filter"] for row in samples):
        rows = [row for row in samples if row["filter"] == filtered]
        for metric in dict.fromkeys(metric for row in rows for metric in row["metrics"]):
            having = [row for row in rows if metric in row]
            values = [row[metric] for row in having]
            aggregate = aggregates.get(metric, metrics.mean)
            label = metric if filtered == "none" else f"{metric},{filtered}"
            value = finite(_number(aggregate, values))
            if value is None:
                continue
            spread = standard_error(aggregate, values, zlib.crc32(f"{name}/{label}".encode()))
            scores[label] = Score(value, len(values), spread)
            columns[label] = [math.nan] * len(order)
            for row in having:
                columns[label][order[row["doc_id"]]] = _number(aggregate, [row[metric]])
    return Scored(scores, columns)


def _number(aggregate: Callable[[Sequence[Any]], Any], values: Sequence[Any]) -> float:
    """An aggregate as a float; NaN where it is no number, or not defined for so few values."""
    with np.errstate(all="ignore"):
        try:
            return float(aggregate(values))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            return math.nan


def standard_error(aggregate: Callable[[Sequence[Any]], Any], values: Sequence[Any], seed: int) -> float:
    """The standard error of an aggregate over independent documents; 0 where there is one document alone."""
    n = len(values)
    if n < 2:
        return 0.0
    if aggregate is metrics.mean:
        return float(np.std(np.asarray(values, float), ddof=1) / math.sqrt(n))
    if aggregate in WEIGHTED:
        nats, weights = (
            -np.array([row[0] for row in values], float),
            np.array([row[1] for row in values], float),
        )
        ratio, total = nats.sum() / weights.sum(), weights.sum()
        residual = nats - ratio * weights
        spread = math.sqrt(n / (n - 1) * float(residual @ residual)) / total
        became = WEIGHTED[aggregate]
        return spread * (became(ratio) if became is math.exp else 1 / math.log(2))
    if aggregate is metrics.perplexity:
        logs = np.asarray(values, float)
        return math.exp(-logs.mean()) * float(np.std(logs, ddof=1)) / math.sqrt(n)
    draws = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    drawn = [_number(aggregate, [values[place] for place in row]) for row in draws]
    kept = [value for value in drawn if math.isfinite(value)]
    return float(np.std(kept, ddof=1)) if len(kept) > 1 else 0.0


def _group(result: Mapping[str, Any], parts: Sequence[Scored]) -> Scored:
    """What the harness makes of a group's tasks: their mean, by their documents where it says so."""
    scores = {}
    for key, value in result.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or (number := finite(value)) is None:
            continue
        label = metric if filtered == "none" else f"{metric},{filtered}"
        own = [part.scores[label] for part in parts if label in part.scores]
        sizes = np.array([score.n for score in own], float)
        spreads, values = np.array([score.stderr for score in own]), np.array([score.value for score in own])
        # Equal shares give the plain mean; which of the two it was, the value says.
        by_size, equal = sizes / sizes.sum(), np.full(len(own), 1 / len(own))
        shares = min((by_size, equal), key=lambda shares: abs(float(shares @ values) - number))
        scores[label] = Score(number, int(sizes.sum()), float(np.sqrt((shares**2) @ (spreads**2))))
    return Scored(scores, {})
