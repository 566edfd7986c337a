"""Every file that the product opens as text names its encoding: what the locale is changes nothing."""

import ast
from collections.abc import Iterator

import pytest

from tests.support.small import ROOT

ROOMS = (
    "core",
    "experiments",
    "launchers",
    "planning",
    "training",
    "model",
    "data",
    "analysis",
    "bench",
    "docs",
)
SOURCES = [ROOT / "launch.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]
# The place of `mode` and of `encoding` among the arguments, by the function's last name.
OPENERS = {"open": (1, 3), "fdopen": (1, 3), "NamedTemporaryFile": (0, 2), "TemporaryFile": (0, 2)}
METHODS = {"read_text": 0, "write_text": 1, "TextIOWrapper": 1}
STARTERS = {"run", "Popen", "check_output", "check_call", "call"}
BINARY_MODULES = {"os", "webbrowser", "KvStore", "tensorstore", "tarfile", "zipfile"}


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and bool(node.value)


def unnamed(call: ast.Call) -> str:
    """What is opened as text without an encoding; empty where nothing is."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = getattr(getattr(function, "value", None), "id", "") or getattr(
        getattr(function, "value", None), "attr", ""
    )
    if keyword(call, "encoding") is not None:
        return ""
    if name in METHODS:
        return name if len(call.args) <= METHODS[name] else ""
    if name in STARTERS and owner == "subprocess":
        return name if any(is_true(keyword(call, key)) for key in ("text", "universal_newlines")) else ""
    if name in OPENERS and (owner not in BINARY_MODULES or name == "fdopen"):
        place, encoding = OPENERS[name]
        if (
            name == "open"
            and isinstance(function, ast.Attribute)
            and owner not in ("gzip", "bz2", "lzma", "io")
        ):
            place, encoding = place - 1, encoding - 1  # Path.open
        mode = keyword(call, "mode") or (call.args[place] if len(call.args) > place else None)
        default = "w+b" if "Temporary" in name else "rb" if owner in ("gzip", "bz2", "lzma") else "r"
        text = mode.value if isinstance(mode, ast.Constant) and isinstance(mode.value, str) else default
        return "" if "b" in text or len(call.args) > encoding else name
    return ""


def found(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (name := unnamed(node)):
            yield node.lineno, name


def test_every_text_file_names_its_encoding():
    left = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in SOURCES
        for line, name in found(path.read_text(encoding="utf-8"))
    ]
    assert not left, "\n".join(left)


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("open('x')", True),
        ("open('x', 'rb')", False),
        ("open('x', encoding='utf-8')", False),
        ("Path('x').open('a')", True),
        ("Path('x').open('rb')", False),
        ("Path('x').read_text()", True),
        ("Path('x').read_text('utf-8')", False),
        ("Path('x').write_text('y')", True),
        ("gzip.open('x')", False),
        ("gzip.open('x', 'rt')", True),
        ("subprocess.run(['x'], text=True)", True),
        ("subprocess.run(['x'])", False),
        ("tempfile.NamedTemporaryFile()", False),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("os.open('x', 1)", False),
        ("os.fdopen(1, 'w')", True),
        ("io.TextIOWrapper(x)", True),
    ],
)
def test_the_walk_sees_what_it_must(source, is_found):
    assert bool(list(found(source))) is is_found
