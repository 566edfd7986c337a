"""One word, one meaning: a class name exists once, an axis letter is explained (docs/architecture.md, "Words")."""

import ast
import collections
import functools
import re
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, sources

# Class names that several files share because all mean one thing.
SHARED = {
    "Arguments": "the flags of a command of training",
    "Peer": "a process of a bench, one a program",
}
# A kernel, and the bench's network in PyTorch, carry the names of the modules that they compute.
NETWORK, COMPUTE_IT = ("model.transformer", "model.experts"), ("model.kernels.", "bench.torch_peer")
SUFFIX = re.compile(r"^_*[a-z][a-z0-9_]*_([A-Z]{1,6})$")


@functools.cache
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in sources().items()}


def test_a_class_name_means_one_thing():
    places = collections.defaultdict(list)
    modules_of_network = {name for module in NETWORK for name in classes(trees()[module])}
    for module, tree in trees().items():
        for name in classes(tree):
            if not (module.startswith(COMPUTE_IT) and name in modules_of_network):
                places[name].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in SHARED} == {}


def classes(tree: ast.Module) -> list[str]:
    """Names of the classes of a file that others may use."""
    defined = (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return [name for name in defined if not name.startswith("_")]


def explained_everywhere() -> set[str]:
    """The letters of the table of axes in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return set(re.findall(r"\| ([A-Z]) \|", text))


def explained_by(path: Path, tree: ast.Module) -> set[str]:
    """Letters that a file's own docstring, or that of a folder above it, explains: `R rows`, `J knots`."""
    documents = [ast.get_docstring(tree) or ""]
    for folder in path.parents:
        if folder == ROOT:
            break
        package = folder / "__init__.py"
        if package.exists():
            documents.append(ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or "")
    return {letter for text in documents for letter in re.findall(r"\b([A-Z]) [a-z]", text)}


@pytest.mark.parametrize("module", sources())
def test_axis_letters_are_explained(module):
    path, tree = sources()[module], trees()[module]
    names = {
        node.id if isinstance(node, ast.Name) else node.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.arg)
    }
    letters = {letter for name in names if (match := SUFFIX.search(name)) for letter in match[1]}
    assert letters <= explained_everywhere() | explained_by(path, tree)
