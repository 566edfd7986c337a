"""What a task definition of lm-evaluation-harness says, and the documents that it names: YAML, and files on disk.

Nothing of a definition is executed: `!function` is refused, and so is whatever would need it or the network.
"""

import csv
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import BadInput
from core.paths import read_regular
from data.tasks.harness.keys import check_values

FORMATS = ("json", "csv", "parquet", "arrow")
MOST_BYTES = 2**20  # of a definition
MOST_DOCUMENTS_BYTES = 2**30  # of one of its files
MOST_INCLUDED = 20


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
        """Plain values only, each key once."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for number, key in enumerate(keys) if key in keys[:number] and key != "<<"), None)
            if twice is not None:
                raise BadInput(f"task lm-eval:{path}: key {twice!r} is given twice")
            return super().construct_mapping(node, deep)

    def refuse(_: Any, suffix: str, node: Any) -> Any:
        said = node.value if isinstance(node.value, str) else ""
        raise BadInput(
            f"task lm-eval:{path}: line {node.start_mark.line + 1}: !{suffix} {said} would run code of the "
            "definition; only fields, templates and values are read"
        )

    Loader.add_multi_constructor("!", refuse)
    if path.resolve() in including:
        raise BadInput(f"task lm-eval:{path}: includes itself")
    try:
        content = yaml.load(read_regular(path, MOST_BYTES).decode("utf-8"), Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadInput(f"task lm-eval:{path}: {reason}; must be a YAML file") from None
    except BadInput:
        raise
    except Exception as error:  # noqa: BLE001 - a value that is not what its tag says raises whatever Python does
        said = " ".join(str(error).split())[:300]
        raise BadInput(f"task lm-eval:{path}: not YAML ({said or type(error).__name__})") from None
    if not isinstance(content, dict):
        raise BadInput(f"task lm-eval:{path}: must hold keys and values, among them doc_to_text")
    check_values(content, f"task lm-eval:{path}")
    included = content.pop("include", None)
    if included is None:
        return content
    if len(including) > MOST_INCLUDED:
        raise BadInput(f"task lm-eval:{path}: include: more than {MOST_INCLUDED} files within each other")
    return _read(path.parent / included, (*including, path.resolve())) | content


def read_documents(definition: Mapping[str, Any], split: str, path: Path) -> list[dict[str, Any]]:
    """The documents of one split, in the order of its files.

    Raises:
      BadInput: another dataset than files on disk, no such split, or a file that cannot be read.
    """
    kind = definition.get("dataset_path")
    files = definition.get("dataset_kwargs", {}).get("data_files")
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
        source = path.parent / name
        try:
            found += _READERS[kind](read_regular(source, MOST_DOCUMENTS_BYTES))
        except Exception as error:  # noqa: BLE001 - what is no such file raises whatever its reader does
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            said = " ".join(said.split())[:300] or type(error).__name__
            raise BadInput(f"task lm-eval:{path}: {source}: not readable as {kind} ({said})") from None
    if not found or not all(isinstance(row, dict) for row in found):
        raise BadInput(
            f"task lm-eval:{path}: split {split!r} must hold at least one document, each with fields"
        )
    return found


def _json(payload: bytes) -> list[Any]:
    """A list, or a value a line. Lines end at newlines only: texts may hold the other separators of Unicode."""
    if payload.lstrip().startswith(b"["):
        return json.loads(payload)
    return [json.loads(line) for line in payload.split(b"\n") if line.strip()]


def _csv(payload: bytes) -> list[Any]:
    csv.field_size_limit(sys.maxsize)  # of the process; a text may be longer than the 128 KiB of its default
    return list(csv.DictReader(io.StringIO(payload.decode("utf-8-sig"), newline=""), strict=True))


def _parquet(payload: bytes) -> list[Any]:
    # only for a file of this kind
    import pyarrow.parquet

    return pyarrow.parquet.read_table(pyarrow.BufferReader(payload)).to_pylist()


def _arrow(payload: bytes) -> list[Any]:
    """Arrow's file format, or its stream format, which the datasets library writes."""
    # only for a file of this kind
    import pyarrow

    try:
        return pyarrow.ipc.open_file(payload).read_all().to_pylist()
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_stream(payload).read_all().to_pylist()


_READERS = {"json": _json, "csv": _csv, "parquet": _parquet, "arrow": _arrow}
