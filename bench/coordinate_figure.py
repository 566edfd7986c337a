"""The figure of a coordinate check: scales of activations against width, one panel a parametrization.

python -m bench.coordinate_check --out coordinates.json
python -m bench.coordinate_figure coordinates.json --out docs/results/coordinate_check.png
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.figures.style import render
from bench.coordinate_drawing import coordinate_figure
from core import cli
from core.errors import BadInput, writes
from core.files import read_json, write_atomic

COLUMNS = ("parametrization", "width", "name", "scale")
KINDS = (".png", ".svg")


def read_rows(path: Path) -> list[Mapping[str, Any]]:
    """The measurements in the file.

    Raises:
      BadInput: no such file, or not what a coordinate check writes.
    """
    content = read_json(path)
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise BadInput(f"{path}: has no rows, as bench.coordinate_check writes them")
    for row in rows:
        if not isinstance(row, dict) or any(key not in row for key in COLUMNS):
            raise BadInput(f"{path}: every row needs {', '.join(COLUMNS)}")
        if not all(isinstance(row[key], int | float) and row[key] > 0 for key in ("width", "scale")):
            raise BadInput(f"{path}: width={row['width']!r}, scale={row['scale']!r}: must be positive numbers")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module's first lines."""
    cli.command(draw, arguments, "python -m bench.coordinate_figure")


def draw(measurements: Path, /, *, out: Path) -> None:
    """The figure of a coordinate check.

    Args:
      measurements: what bench.coordinate_check wrote
      out: figure to write, .png or .svg
    """
    if out.suffix not in KINDS:
        raise BadInput(f"--out {out}: must end in {' or '.join(KINDS)}")
    rows = read_rows(measurements)
    source = hashlib.sha256(measurements.read_bytes()).hexdigest()
    svg, png = render(coordinate_figure(rows), "coordinates", source)
    with writes(out):
        write_atomic(out, png if out.suffix == ".png" else svg)


if __name__ == "__main__":
    main()
