"""The experiments that exist: every module of this folder with a `sweep` function."""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.errors import BadInput
from experiments.spec import Sweep

FOLDER = Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One file of experiments/: its docstring, its sweep function and its presets of arguments, and where its larger
    runs are forecast before they start, the function that names those."""

    name: str
    docstring: str
    sweep: Callable[..., Sweep]
    presets: Mapping[str, Mapping[str, Any]]
    held_back: Callable[[Sweep], list[str]] | None = None

    @property
    def headline(self) -> str:
        return self.docstring.strip().splitlines()[0] if self.docstring.strip() else ""


def names() -> list[str]:
    """Experiments of the folder, found without importing any of them."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _defines_sweep(path))


def headlines() -> dict[str, str]:
    """First docstring line of every experiment, without importing any."""
    result = {}
    for name in names():
        docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""
        result[name] = docstring.strip().splitlines()[0] if docstring.strip() else ""
    return result


def _defines_sweep(path: Path) -> bool:
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError:
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == "sweep" for node in tree.body)


def load(name: str) -> Experiment:
    """Import one experiment.

    Raises:
      BadInput: no such experiment.
    """
    if name not in names():
        raise BadInput(f"unknown experiment {name!r}: allowed are {', '.join(names())}")
    module = importlib.import_module(f"experiments.{name}")
    return Experiment(
        name,
        inspect.getdoc(module) or "",
        module.sweep,
        getattr(module, "PRESETS", {}),
        getattr(module, "held_back", None),
    )
