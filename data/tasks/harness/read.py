"""Task definitions of lm-evaluation-harness, scored here: `lm-eval:PATH.yaml`, its documents in files on disk.

Output types multiple_choice, generate_until, loglikelihood and loglikelihood_rolling. Prompts are put together as the
harness does it (description, solved examples, doc_to_text; an answer is target_delimiter and the choice or target, and
of loglikelihood the target alone), except that the solved examples are the first ones of their split, so that problems
repeat. Scores are this project's own: choice_accuracy is the harness's `acc`, choice_accuracy_norm its `acc_norm`;
exact match means that greedy decoding writes delimiter, target and, for generate_until, the first stop string.
Templates run in jinja2's sandbox (template.py), and all of it in a process with limits (limits.py).
"""

import ast
import dataclasses
import functools
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from core.errors import BadInput
from core.paths import expanded
from data.tasks.harness.files import read_definition, read_documents
from data.tasks.harness.keys import shown
from data.tasks.harness.limits import serve, within_limits
from data.tasks.harness.template import rendered
from data.tasks.protocol import Item, Task, check_texts


@dataclasses.dataclass(frozen=True, kw_only=True)
class HarnessTask(Task):
    """The documents of one definition, in their order; all of them are held out.

    Attributes:
      path: the YAML file.
    """

    path: str = ""
    family: ClassVar[str] = "lm-eval"

    def __post_init__(self) -> None:
        self._items  # noqa: B018  read now: a definition that cannot be used is refused before anything is trained

    @property
    def name(self) -> str:
        return f"lm-eval:{self.path}"

    @functools.cached_property
    def _items(self) -> tuple[Item, ...]:
        return tuple(read_within_limits(expanded(self.path, f"task {self.name}")))

    @property
    def guess(self) -> float:
        """One in the number of choices, on average; 0 where a problem has none."""
        return sum(1 / (1 + len(item.distractors)) for item in self._items if item.distractors) / len(
            self._items
        )

    def draw(self, chance: random.Random) -> Item:
        return chance.choice(self._items)

    def items(self, count: int, seed: int = 0) -> list[Item]:
        """The first `count` problems, or all of them where there are fewer."""
        if count < 1:
            raise BadInput(f"task {self.name}: {count} items: must be at least 1")
        return list(self._items[:count])


def read_items(path: Path) -> list[Item]:
    """The problems of a definition.

    Raises:
      BadInput: one line that names the key or the document.
    """
    definition = read_definition(path)
    kind = definition.get("output_type", "generate_until")
    rolling = kind == "loglikelihood_rolling"
    needed = (
        *(() if rolling else ("doc_to_text",)), "doc_to_target",
        *(("doc_to_choice",) if kind == "multiple_choice" else ()),
    )  # fmt: skip
    for key in needed:
        if definition.get(key) is None:
            raise BadInput(f"task lm-eval:{path}: {key} is missing; {kind} needs {', '.join(needed)}")
    split = definition.get("test_split") or definition.get("validation_split")
    if split is None:
        raise BadInput(f"task lm-eval:{path}: names neither test_split nor validation_split")
    documents = read_documents(definition, split, path)
    shots = 0 if rolling else definition.get("num_fewshot") or 0
    parts = [
        _parts(definition, kind, document, f"task lm-eval:{path} document {n}")
        for n, document in enumerate(documents)
    ]
    examples = parts
    keys = ("fewshot_split", "training_split", "validation_split")  # in the harness's order
    source = next((definition[key] for key in keys if definition.get(key)), split)
    if shots and source != split:
        examples = [
            _parts(definition, kind, document, f"task lm-eval:{path} {source} document {n}")
            for n, document in enumerate(read_documents(definition, source, path)[:shots])
        ]
    if shots and len(examples) < shots + (source == split):
        raise BadInput(
            f"task lm-eval:{path}: num_fewshot={shots}: split {source!r} has {len(examples)} documents"
        )
    items = [
        _item(
            definition, kind, own, _shown(examples, shots, number, source == split),
            _description(definition, documents[number], f"task lm-eval:{path} document {number}"),
        )
        for number, own in enumerate(parts)
    ]  # fmt: skip
    for number, item in enumerate(items):
        check_texts(item, f"task lm-eval:{path} document {number}")
    return items


@dataclasses.dataclass(frozen=True)
class _Parts:
    """A document after its templates: what is asked, the answer, and the wrong ones."""

    text: str
    target: str
    wrong: tuple[str, ...]


def _shown(examples: list[_Parts], shots: int, number: int, same: bool) -> list[_Parts]:
    """The first examples, the problem itself left out."""
    return [example for index, example in enumerate(examples) if not (same and index == number)][:shots]


def _description(definition: Mapping[str, Any], document: Mapping[str, Any], where: str) -> str:
    """What stands before everything: a field or a template too."""
    return str(_value(definition.get("description") or "", document, f"{where}: description"))


def _item(definition: Mapping[str, Any], kind: str, own: _Parts, shown: list[_Parts], description: str) -> Item:
    if kind == "loglikelihood_rolling":  # the whole text is what is scored
        return Item("", own.target)
    delimiter, between = definition.get("target_delimiter", " "), definition.get("fewshot_delimiter", "\n\n")
    solved = "".join(f"{example.text}{delimiter}{example.target}{between}" for example in shown)
    end = ""
    if kind == "generate_until":
        until = definition.get("generation_kwargs", {}).get("until") or between
        end = until if isinstance(until, str) else until[0]
    if kind == "loglikelihood":
        delimiter = ""  # between examples only: the harness takes the target as it is
    return Item(
        f"{description}{solved}{own.text}",
        f"{delimiter}{own.target}{end}",
        tuple(f"{delimiter}{choice}" for choice in own.wrong),
        delimiter=len(delimiter),
    )


def _parts(definition: Mapping[str, Any], kind: str, document: Mapping[str, Any], where: str) -> _Parts:
    text = _value(definition.get("doc_to_text") or "", document, f"{where}: doc_to_text")
    target = _value(definition["doc_to_target"], document, f"{where}: doc_to_target")
    if not isinstance(text, str):
        raise BadInput(f"{where}: doc_to_text={shown(text)}: must give text")
    if kind != "multiple_choice":
        if isinstance(target, list) and target:
            target = target[0]
        if isinstance(target, bool) or not isinstance(target, str | int | float) or target == "":
            raise BadInput(f"{where}: doc_to_target={shown(target)}: must give text")
        return _Parts(text, str(target), ())
    choices = _choices(definition["doc_to_choice"], document, where)
    if isinstance(target, str) and target in choices:
        target = choices.index(target)
    elif isinstance(target, str) and re.fullmatch("[0-9]+", target):
        target = int(target)
    if not isinstance(target, int) or isinstance(target, bool) or not 0 <= target < len(choices):
        raise BadInput(
            f"{where}: doc_to_target={target if isinstance(target, int) else shown(target)}: must be one of the "
            f"choices {shown(choices)} or its index"
        )
    return _Parts(text, choices[target], tuple(choice for n, choice in enumerate(choices) if n != target))


def _choices(template: Any, document: Mapping[str, Any], where: str) -> list[str]:
    if isinstance(template, Mapping):
        found: Any = list(template.values())
    else:
        found = (
            template if isinstance(template, list) else _value(template, document, f"{where}: doc_to_choice")
        )
    if isinstance(found, str):
        try:
            found = ast.literal_eval(found)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            raise BadInput(f"{where}: doc_to_choice={shown(found)}: must give a list") from None
    if (
        not isinstance(found, list)
        or len(found) < 2
        or not all(isinstance(choice, str) and choice for choice in found)
    ):
        raise BadInput(
            f"{where}: doc_to_choice={shown(found)}: must give two texts or more, none of them empty"
        )
    if len(set(found)) != len(found):
        raise BadInput(f"{where}: doc_to_choice={shown(found)}: choices must differ from one another")
    return found


def _value(template: Any, document: Mapping[str, Any], where: str) -> Any:
    """A field of the document where the template is its name; else the rendered template."""
    if not isinstance(template, str):
        return template
    return document[template] if template in document else rendered(template, document, where)


def read_within_limits(path: Path) -> list[Item]:
    """`read_items` of a process that ends where it takes too much."""
    return within_limits("data.tasks.harness.read", path)


if __name__ == "__main__":
    serve(read_items, Path(sys.argv[1]))
