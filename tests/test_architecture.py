"""The direction of imports between the rooms, read from the source itself, and no circle among files."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("core", "experiments", "launchers", "planning", "training", "model", "data", "analysis", "bench")

# Which rooms, or which modules of them, a room may import; every room may import itself and core.
ALLOWED = {
    "launch": {"experiments", "launchers", "planning", "training", "analysis", "bench"},
    "bench": {"experiments", "launchers", "planning", "training", "model", "data", "analysis"},
    "planning": {"experiments", "launchers", "training", "model", "analysis"},
    "launchers": {"training", "analysis"},
    "experiments": {"model.config", "model.ledger", "data.config", "training.spec"},
    "training": {"model", "data"},
    "model": set(),
    "data": set(),
    "analysis": set(),
    "core": set(),
}

# Files that import each other in a circle, inside functions: this list only shrinks.
CIRCLES: list[set[str]] = []


def module_of(path: Path) -> str:
    """`analysis.fit` for analysis/fit/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def sources() -> dict[str, Path]:
    """Every product file by its module name."""
    paths = [ROOT / "launch.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]
    return {module_of(path): path for path in paths}


@functools.cache
def imported(module: str) -> frozenset[str]:
    """The files of this project that a file imports, at any depth: inside functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(sources()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & sources().keys()
            outside = len(inner) < len(node.names)
            found |= inner | ({node.module} if outside else set())
    return frozenset(found & sources().keys() - {module})


def circles() -> list[set[str]]:
    """Groups of files that import each other, the smallest circle of each that is found first."""
    graph = {module: set(imported(module)) for module in sources()}
    found = []
    while True:
        try:
            tuple(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            circle = error.args[1]
            found.append(set(circle))
            graph[circle[1]].discard(circle[0])
        else:
            return found


def test_no_circle_of_imports_at_any_depth():
    assert circles() == CIRCLES


@pytest.mark.parametrize("module", sources())
def test_imports_follow_the_arrows(module):
    room = module.split(".")[0]
    for name in imported(module):
        if name.split(".")[0] in (room, "core"):
            continue
        assert any(f"{name}.".startswith(f"{allowed}.") for allowed in ALLOWED[room]), f"imports {name}"


def test_root_holds_the_command_line_alone():
    assert [path.name for path in ROOT.glob("*.py")] == ["launch.py"]


def test_importing_a_module_touches_no_device():
    of_extras = (
        "torch_peer",
        "harness_model",
        "harness_tasks",
        "harness_fill",
    )  # import what need not be installed
    names = [name for name in sources() if not name.endswith(("__main__", *of_extras))]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "bridge = sys.modules.get('jax._src.xla_bridge')\n"
        "assert bridge is None or not bridge._backends, 'a device was touched at import'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_planning_and_status_do_not_load_jax():
    code = (
        "import sys, launch\n"
        "assert launch.main(['plan', 'quickstart', '--json']) == 0\n"
        "assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
