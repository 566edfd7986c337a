"""What the commands of this room share: one-line refusals and result files."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from core.errors import BadInput
from core.files import write_json


class Parser(argparse.ArgumentParser):
    """Arguments that cannot be used are `BadInput`: one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(message)


def write_result(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a result file; a place that cannot be written to is the user's mistake (BadInput)."""
    try:
        write_json(path, value)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror})") from None
