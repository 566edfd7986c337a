"""Where an exported model comes from: training.json beside it, which its card is made of and an import keeps.

    {"run": ..., "tokens": ..., "role": ..., "spec": {...}, "params": {...}, "epochs": ..., "corpus_tokens": ...,
     "environment": {...}, "evaluations": [...], "tasks": {...}}

It holds what run files say and nothing about the machine's name or its folders of cores.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from core.condition import values_at
from core.files import read_object
from core.methods import MethodsOfRun, methods
from core.numbers import finite
from core.reading import path_exists, printable
from core.records import BITS_PER_BYTE, LOSS
from core.rundir import RunDirectory

FILE: Final = "training.json"
OF_AN_ATTEMPT: Final = ("python", "packages", "platform", "device", "devices", "processes")


def provenance(run: Path, tokens: int) -> dict[str, Any]:
    """What the files of a complete run say of its model at `tokens` tokens; of an imported one, what came along."""
    files = RunDirectory(run)
    environment, result = read_object(files.environment), files.completion().result or {}
    origin = environment.get("imported")
    if isinstance(origin, Mapping) and isinstance(origin.get("training"), dict):
        return dict(origin["training"])
    spec = files.read_spec()
    attempts = [one for one in environment.get("attempts") or [] if isinstance(one, Mapping)]
    said: dict[str, Any] = {
        "run": files.name,
        "tokens": tokens,
        "role": result.get("role"),
        "spec": spec,
        "params": result.get("params"),
        "epochs": result.get("epochs"),
        "corpus_tokens": result.get("corpus_tokens"),
        "environment": {
            "started": environment.get("started"),
            "commit": environment.get("commit"),
            "corpus": environment.get("corpus"),
            "attempts": [{key: one[key] for key in OF_AN_ATTEMPT if key in one} for one in attempts[-1:]],
            **({"lineage": environment["lineage"]} if environment.get("lineage") else {}),
        },
        "evaluations": _evaluations(files, tokens),
        "tasks": dict(files.read_tasks()),
    }
    if isinstance(origin, Mapping):
        said["imported"] = {key: origin[key] for key in ("folder", "weights") if key in origin}
    return said


def _evaluations(files: RunDirectory, tokens: int) -> list[dict[str, Any]]:
    """The rows of the last attempt at a token count, by name."""
    if not path_exists(files.evaluations):
        return []
    rows, _ = files.read_evaluations()
    known = values_at(rows, tokens)
    last = {row["name"]: row for row in rows if row.get("tokens") == tokens and row.get("name") in known}
    return [{key: last[name].get(key) for key in ("name", "value", "n", "stderr")} for name in sorted(last)]


def card(said: Mapping[str, Any]) -> str:
    """How a model was trained, what was measured and what it cannot do; Markdown."""
    return "\n".join([*_trained(said), "", *_measured(said), "", *_limits(said)])


def _trained(said: Mapping[str, Any]) -> list[str]:
    spec, environment = _tree(said, "spec"), _tree(said, "environment")
    imported = _tree(said, "imported")
    lines = ["## How it was trained", ""]
    if imported:
        folder = printable(str(imported.get("folder")))
        lines += [
            f"Imported from the folder `{folder}` (SHA-256 of its weights {imported.get('weights')}); how it was "
            "trained is not recorded there."
        ]
        return lines
    run = MethodsOfRun(
        spec,
        environment,
        finite(_tree(said, "params").get("non_embedding_plus_head")),
        finite(said.get("tokens")),
        finite(said.get("corpus_tokens")),
        finite(said.get("epochs")),
    )
    lines.append(methods([run]))
    fingerprint = _tree(environment, "corpus").get("fingerprint")
    if fingerprint:
        lines += ["", f"SHA-256 of the tokens of the corpus: `{fingerprint}`."]
    if said.get("tokens") != spec.get("tokens"):
        lines += ["", f"These are the weights after {said.get('tokens'):,} of {spec.get('tokens'):,} tokens."]
    if spec.get("branch_at_tokens") is not None:
        lines += [
            "",
            f"The first {spec.get('branch_at_tokens'):,} tokens were trained as the run `{spec['parent']}`, which "
            "others share.",
        ]
    return lines


def _measured(said: Mapping[str, Any]) -> list[str]:
    """The loss, bits per byte, and each task beside its chance level."""
    rows = [row for row in said.get("evaluations") or [] if isinstance(row, Mapping)]
    tasks = _tree(said, "tasks")
    lines = ["## What was measured", ""]
    if not rows:
        return [*lines, "Nothing was measured on these weights."]
    lines += ["| | value | standard error | n | chance |", "|---|---|---|---|---|"]
    names = {LOSS: "held-out loss, nats a token", BITS_PER_BYTE: "held-out bits per byte"}
    rows.sort(key=lambda row: (row.get("name") != BITS_PER_BYTE, row.get("name") != LOSS, str(row.get("name"))))
    for row in rows:
        name = str(row.get("name"))
        task, metric = _task_and_metric(name)
        if metric in ("chance", "choice_chance"):
            continue  # a column
        chance = _tree(tasks, task).get(
            {"exact_match": "chance", "choice_accuracy": "choice_chance"}.get(metric, "")
        )
        cells = (
            names.get(name, f"`{printable(name)}`"),
            _number(row.get("value")),
            _number(row.get("stderr")),
            f"{row.get('n'):,}" if isinstance(row.get("n"), int) else "",
            _number(chance),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "Measured on the weights as they were trained, in float32, before they were stored."]


def _task_and_metric(name: str) -> tuple[str, str]:
    """copying and exact_match of task/copying/exact_match; the task's own name may hold slashes."""
    kind, _, rest = name.partition("/")
    task, _, metric = rest.rpartition("/")
    return (task, metric) if kind == "task" else ("", rest)


def _limits(said: Mapping[str, Any]) -> list[str]:
    spec = _tree(said, "spec")
    context = _tree(spec, "data").get("sequence_length")
    computed = _tree(spec, "model").get("compute_dtype", "float32")
    lines = [
        "## Limits",
        "",
        "- A model of a scaling experiment: it predicts the next token of text like its corpus. It was not tuned to "
        "follow instructions, to be right or to be safe.",
        f"- It was trained on contexts of {context:,} tokens; beyond them nothing was measured."
        if isinstance(context, int)
        else "",
        "- Text that spells the token that ends a document is read as that token by transformers; in training it was "
        "text like any other.",
        f"- It was trained with activations in {computed}; logits of other precisions differ in their last digits."
        if computed != "float32"
        else "",
    ]
    return [line for place, line in enumerate(lines) if line or place == 1]


def _number(value: Any) -> str:
    found = finite(value)
    return "" if found is None else f"{found:.4g}"


def _tree(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}
