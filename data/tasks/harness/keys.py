"""The keys of a task definition of lm-evaluation-harness, and what each may hold."""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from core.errors import BadInput

OUTPUT_TYPES = ("multiple_choice", "generate_until", "loglikelihood", "loglikelihood_rolling")
# Keys without influence on the scores of this project: labels, and the harness's own metrics.
IGNORED = (
    "tag", "group", "task_alias", "metadata", "metric_list", "dataset_name", "should_decontaminate",
    "doc_to_decontamination_query",
)  # fmt: skip

Rule = tuple[Callable[[Any], bool], str]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, str) and entry for entry in value)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _are_paths(value: Any) -> bool:
    return _is_path(value) or (isinstance(value, list) and bool(value) and all(map(_is_path, value)))


TEXT: Rule = (_is_text, "must be text")
NAME: Rule = (lambda value: isinstance(value, str) and bool(value), "must be a name")
# Keys that decide what a model reads and must write.
RULES: dict[str, Rule] = {
    "task": (lambda value: isinstance(value, str | list), "must be a name"),
    "include": (_is_path, "must be the path of one file"),
    "output_type": (lambda value: value in OUTPUT_TYPES, f"must be one of {', '.join(OUTPUT_TYPES)}"),
    "dataset_path": TEXT,
    "dataset_kwargs": (
        lambda value: isinstance(value, Mapping),
        "must be keys and values, among them data_files",
    ),
    "training_split": NAME,
    "validation_split": NAME,
    "test_split": NAME,
    "fewshot_split": NAME,
    "fewshot_config": (
        lambda value: value in ({"sampler": "first_n"}, {"sampler": "default"}),
        "must be {sampler: first_n} or {sampler: default}; either way the first examples are shown",
    ),
    "num_fewshot": (
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "must be a whole number, at least 0",
    ),
    "description": TEXT,
    "doc_to_text": TEXT,
    "doc_to_target": (
        lambda value: isinstance(value, str | int | float | list) and not isinstance(value, bool),
        "must be a field, a template or a value",
    ),
    "doc_to_choice": (
        lambda value: isinstance(value, str | list | Mapping),
        "must be a field, a template or a list of texts",
    ),
    "target_delimiter": TEXT,
    "fewshot_delimiter": TEXT,
    "generation_kwargs": (
        lambda value: isinstance(value, Mapping),
        "must be keys and values, among them until",
    ),
}
# Those within another key.
DATA_FILES: Rule = (
    lambda value: (
        _are_paths(value)
        or (isinstance(value, Mapping) and bool(value) and all(map(_are_paths, value.values())))
    ),
    "must be a path, a list of paths, or these by split",
)
UNTIL: Rule = (
    lambda value: NAME[0](value) or _are_texts(value),
    "must be a text or a list of texts, none of them empty",
)


def shown(value: Any) -> str:
    """A value for a message: short, however large or deep it is."""
    return " ".join(reprlib.repr(value).split())


def check_values(definition: dict[Any, Any], where: str) -> None:
    """Refuse keys that are not known and values of another type; keys without a value are left out.

    Raises:
      BadInput: the message begins with `where`.
    """
    for key in definition:
        if key not in RULES and key not in IGNORED:
            raise BadInput(f"{where}: key {shown(key)} is not supported; known are {', '.join(RULES)}")
    for key in [key for key, value in definition.items() if value is None]:
        del definition[key]
    for key, rule in RULES.items():
        _check(definition, key, rule, f"{where}: {key}")
    _check(
        definition.get("dataset_kwargs", {}), "data_files", DATA_FILES, f"{where}: dataset_kwargs.data_files"
    )
    _check(definition.get("generation_kwargs", {}), "until", UNTIL, f"{where}: generation_kwargs.until")


def _check(values: Mapping[Any, Any], key: str, rule: Rule, named: str) -> None:
    allows, words = rule
    if values.get(key) is not None and not allows(values[key]):
        raise BadInput(f"{named}={shown(values[key])}: {words}")
