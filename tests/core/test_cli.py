"""Commands made of functions: flags from types, help in 80 columns, every mistake one line and status 2."""

import errno
import os
import warnings
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro.conf import UseAppendAction

from core.cli import command, numbers, pairs
from core.errors import BadInput, exit_on_bad_input


def brew(
    water: Path,
    /,
    *,
    leaf: Literal["black", "green"] = "black",
    grams: float = 2.5,
    cups: int = 1,
    milk: bool = False,
    add: Annotated[tuple[str, ...], UseAppendAction] = (),
    out: Path | None = None,
    name: str,
) -> tuple:
    """Brew a pot whose description is so long that it does not fit into one line of eighty columns.

    Args:
      water: where it comes from
      grams: of leaves
    """
    warnings.warn("hot", stacklevel=1)
    if cups > 9:
        raise BadInput(f"--cups {cups}: must be at most 9")
    return water, leaf, grams, cups, milk, add, out, name


def run(*arguments: str) -> tuple:
    with pytest.warns(UserWarning, match="hot"):
        return command(brew, arguments, "brew")


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        command(brew, arguments, "brew")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error.removeprefix("error: ").strip()


def test_types_are_flags():
    assert run("tap", "--name", "x") == (Path("tap"), "black", 2.5, 1, False, (), None, "x")
    given = [
        "--add=a=1",
        "--add",
        "b",
        "tap",
        "--milk",
        "--leaf",
        "green",
        "--grams",
        "1e-3",
        "--out=o",
        "--name=x",
    ]
    assert run(*given) == (Path("tap"), "green", 1e-3, 1, True, ("a=1", "b"), Path("o"), "x")
    assert run("--grams", "-3", "--name", "x", "--", "tap")[2] == -3.0


@pytest.mark.filterwarnings("ignore:hot")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: water, --name"),
        (["tap"], "the following arguments are required: --name"),
        (["tap", "--name"], "argument --name: expected 1 value(s)"),
        (["tap", "--name", "x", "--grams", "many"], "argument --grams: invalid float value: 'many'"),
        (["tap", "--name", "x", "--cups", "1.5"], "argument --cups: invalid int value: '1.5'"),
        (
            ["tap", "--name", "x", "--leaf", "white"],
            "argument --leaf: invalid choice: 'white' (choose from 'black', 'green')",
        ),
        (["tap", "--name", "x", "--gram", "3"], "unrecognized arguments: --gram 3; perhaps --grams"),
        (["tap", "well", "--name", "x"], "unrecognized arguments: well"),
        (["tap", "--name", "x", "--cups", "10"], "--cups 10: must be at most 9"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, words):
    assert refused(capsys, *arguments) == words


def test_help_fits_a_terminal(capsys):
    with pytest.raises(SystemExit) as stopped:
        command(brew, ["--help"], "brew")
    assert not stopped.value.code
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for words in (
        "Brew a pot",
        "water",
        "where it comes from",
        "--leaf {black,green}",
        "of leaves (default: 2.5)",
    ):
        assert words in shown


def test_pairs_of_names_and_values():
    assert pairs(["a = 1", "b=x=y"], "--fix") == [("a", "1"), ("b", "x=y")]
    assert numbers(["a=1e3"], "--fix") == {"a": 1000.0}
    for text, words in (("a", "--fix a: must be NAME=VALUE"), ("a=", "must be"), ("a=x", "with a number")):
        with pytest.raises(BadInput, match=words):
            numbers([text], "--fix")


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.ELOOP])
def test_a_path_that_no_file_can_have_is_bad_input_in_one_line(number, capsys):
    with pytest.raises(SystemExit) as end, exit_on_bad_input():
        raise OSError(number, os.strerror(number), "a/path\nof two lines")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: a/path of two lines: {os.strerror(number)}\n"
