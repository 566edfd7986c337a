"""The experiments that exist: every module of this folder with a `sweep` function."""

import ast
import dataclasses
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.suggest import unknown
from experiments.spec import Sweep

FOLDER = Path(__file__).resolve().parent
DEFAULTS = "cpu"  # the preset that every experiment has: its defaults, which are sized for a CPU


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One file of experiments/.

    Attributes:
      name: of the file.
      docstring: claim, command, cost, what to expect.
      sweep: its typed arguments are the experiment's flags.
      presets: arguments by name; those of `cpu` are the defaults.
      held_back: names the runs that start only once a forecast of them is written; None where none wait.
    """

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
        raise unknown("experiment", name, names())
    module = importlib.import_module(f"experiments.{name}")
    return Experiment(
        name,
        inspect.getdoc(module) or "",
        module.sweep,
        {DEFAULTS: {}, **getattr(module, "PRESETS", {})},
        getattr(module, "held_back", None),
    )
