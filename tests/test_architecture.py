"""The direction of imports between the rooms, read from the source itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLANNING = ("planning", "planning_budget", "planning_memory")
ROOMS = ("experiments", "launchers", "training", "model", "data", "analysis")

# Who may import whom; a room may always import itself and the leaves errors.py, files.py and flags.py.
ALLOWED = {
    "launch": {*PLANNING, "experiments", "launchers", "training", "analysis"},
    "planning": {*PLANNING, "experiments", "launchers", "training", "analysis"},
    "planning_budget": {"experiments", "training", "analysis"},
    "planning_memory": {"experiments", "training"},
    "experiments": {"model.config", "model.ledger", "data.config", "training.config"},
    "launchers": {"training"},
    "training": {"model", "data"},
    "model": set(),
    "data": set(),
    "analysis": set(),
    "errors": set(),
    "files": set(),
    "flags": set(),
}


def imported_modules(path: Path) -> set[str]:
    """Every module of this project that a source file imports, at any depth of the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in (*ROOMS, "launch", *PLANNING)}


def sources() -> list[tuple[str, Path]]:
    files = [("launch", ROOT / "launch.py"), ("errors", ROOT / "errors.py"), ("files", ROOT / "files.py")]
    files += [(name, ROOT / f"{name}.py") for name in ("flags", *PLANNING)]
    return files + [(room, path) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize(("room", "path"), sources(), ids=lambda item: str(item).replace(f"{ROOT}/", ""))
def test_imports_follow_the_arrows(room, path):
    for name in imported_modules(path):
        if name.split(".")[0] == room:
            continue
        assert any(
            name == allowed or name.startswith(f"{allowed}.") or allowed.startswith(f"{name}.")
            for allowed in ALLOWED[room]
        ), f"{path.relative_to(ROOT)} may not import {name}"


def test_modules_import_without_a_cycle_and_without_touching_a_device():
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room, path in sources()
        if path.name not in ("__init__.py", "__main__.py")
    ]
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
