"""The experiments that exist: every module of this folder with a `sweep` function."""

import ast
import dataclasses
import importlib
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
        return _headline(self.docstring)


def names() -> list[str]:
    """Experiments of the folder, found without importing any of them."""
    return sorted(headlines())


def headlines() -> dict[str, str]:
    """First docstring line of every experiment by its name, without importing any."""
    trees = {path.stem: _tree_of(path) for path in sorted(FOLDER.glob("*.py"))}
    return {name: _headline(ast.get_docstring(tree)) for name, tree in trees.items() if _defines_sweep(tree)}


def _headline(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]


def _tree_of(path: Path) -> ast.Module:
    """The source of a file; empty where it cannot be understood."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return ast.Module([], [])


def _defines_sweep(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "sweep" for node in tree.body)


def load(name: str) -> Experiment:
    """Import one experiment.

    Raises:
      BadInput: no such experiment.
    """
    if not (name.isidentifier() and _defines_sweep(_tree_of(FOLDER / f"{name}.py"))):
        raise unknown("experiment", name, names())
    module = importlib.import_module(f"experiments.{name}")
    return Experiment(
        name,
        inspect.getdoc(module) or "",
        module.sweep,
        {DEFAULTS: {}, **getattr(module, "PRESETS", {})},
        getattr(module, "held_back", None),
    )
