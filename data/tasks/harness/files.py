"""What a task definition of lm-evaluation-harness says, and the documents that it names: YAML, and files on disk.

Nothing of a definition is executed: `!function` is refused, and so is whatever would need it or the network.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import BadInput

FORMATS = ("json", "csv", "parquet", "arrow")
# Keys that decide what a model reads and must write.
USED = (
    "task", "include", "output_type", "dataset_path", "dataset_kwargs", "training_split", "validation_split",
    "test_split", "fewshot_split", "num_fewshot", "description", "doc_to_text", "doc_to_target", "doc_to_choice",
    "target_delimiter", "fewshot_delimiter", "generation_kwargs",
)  # fmt: skip
# Keys without influence on the scores of this project: labels, and the harness's own metrics.
IGNORED = (
    "tag", "group", "task_alias", "metadata", "metric_list", "dataset_name", "should_decontaminate",
    "doc_to_decontamination_query",
)  # fmt: skip


def read_definition(path: Path) -> dict[str, Any]:
    """The keys of a definition, those of the file that it includes below its own.

    Raises:
      BadInput: not readable, not YAML, a tag such as `!function`, or a key that cannot be honoured here.
    """
    return _read(path, ())


def _read(path: Path, including: tuple[Path, ...]) -> dict[str, Any]:
    try:
        # PyYAML is the extra lm-eval
        import yaml
    except ModuleNotFoundError:
        raise BadInput(f"task lm-eval:{path}: needs PyYAML; pip install pyyaml jinja2") from None

    class Loader(yaml.SafeLoader):
        """Plain values only."""

    def refuse(_: Any, suffix: str, node: Any) -> Any:
        raise BadInput(
            f"task lm-eval:{path}: line {node.start_mark.line + 1}: !{suffix} {node.value} would run code of the "
            "definition; only fields, templates and values are read"
        )

    Loader.add_multi_constructor("!", refuse)
    if path.resolve() in including:
        raise BadInput(f"task lm-eval:{path}: includes itself")
    try:
        content = yaml.load(path.read_text("utf-8"), Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadInput(f"task lm-eval:{path}: {reason}; must be a YAML file") from None
    except yaml.YAMLError as error:
        raise BadInput(f"task lm-eval:{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise BadInput(f"task lm-eval:{path}: must hold keys and values, among them doc_to_text")
    for key in content:
        if key not in USED + IGNORED:
            raise BadInput(f"task lm-eval:{path}: key {key!r} is not supported; known are {', '.join(USED)}")
    included = content.pop("include", None)
    if included is None:
        return content
    return _read(path.parent / str(included), (*including, path.resolve())) | content


def read_documents(definition: Mapping[str, Any], split: str, path: Path) -> list[dict[str, Any]]:
    """The documents of one split, in the order of its files.

    Raises:
      BadInput: another dataset than files on disk, no such split, or a file that cannot be read.
    """
    kind = definition.get("dataset_path")
    files = (definition.get("dataset_kwargs") or {}).get("data_files")
    if kind not in FORMATS or not files:
        raise BadInput(
            f"task lm-eval:{path}: dataset_path={kind!r}: must be one of {', '.join(FORMATS)} with "
            "dataset_kwargs.data_files on disk; nothing is downloaded"
        )
    if not isinstance(files, Mapping):
        files = {"train": files}  # what the harness calls files without a split
    if split not in files:
        raise BadInput(f"task lm-eval:{path}: split {split!r} has no data_files; there are {', '.join(files)}")
    names = files[split] if isinstance(files[split], list) else [files[split]]
    found: list[dict[str, Any]] = []
    for name in names:
        source = path.parent / str(name)
        try:
            found += _READERS[kind](source)
        except (OSError, ValueError, csv.Error) as error:
            said = (
                error.strerror
                if isinstance(error, OSError) and error.strerror
                else " ".join(str(error).split())
            )
            raise BadInput(f"task lm-eval:{path}: {source}: not readable as {kind} ({said})") from None
    if not found or not all(isinstance(row, dict) for row in found):
        raise BadInput(
            f"task lm-eval:{path}: split {split!r} must hold at least one document, each with fields"
        )
    return found


def _json(path: Path) -> list[Any]:
    text = path.read_text("utf-8")
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _csv(path: Path) -> list[Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, strict=True))


def _parquet(path: Path) -> list[Any]:
    # only for a file of this kind
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


def _arrow(path: Path) -> list[Any]:
    """Arrow's file format, or its stream format, which the datasets library writes."""
    # only for a file of this kind
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            return pyarrow.ipc.open_file(source).read_all().to_pylist()
        except pyarrow.ArrowInvalid:
            source.seek(0)
            return pyarrow.ipc.open_stream(source).read_all().to_pylist()


_READERS = {"json": _json, "csv": _csv, "parquet": _parquet, "arrow": _arrow}
