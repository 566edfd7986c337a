"""What a figure's SVG says of itself: the numbers of every point, which marks belong to a name in the margin, and the
scale of every axis. The page's script lives on it (analysis/report/templates/page.js); without a script the numbers
show as tooltips.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from markupsafe import escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from core.numbers import short_count

POINTS_PER_INCH = 72


def name(figure: Figure) -> dict[str, tuple[str, Any]]:
    """Give ids to the parts of a figure; {id: (kind, axes or artist)}, to be looked up by `marked`."""
    known: dict[str, tuple[str, Any]] = {}
    for place, axes in enumerate(figure.axes):
        names = {to_hex(text.get_color()): f"{place}-{k}" for k, text in enumerate(_names(axes))}
        axes.set_gid(f"axes-{place}")
        known[f"axes-{place}"] = ("axes", axes)
        for k, text in enumerate(_names(axes)):
            text.set_gid(f"name-{place}-{k}")
            known[f"name-{place}-{k}"] = ("name", f"{place}-{k}")
        for k, artist in enumerate([*axes.lines, *axes.collections]):
            artist.set_gid(f"marks-{place}-{k}")
            known[f"marks-{place}-{k}"] = ("marks", (axes, artist, names))
    return known


def _names(axes: Axes) -> list[Any]:
    return [text for text in axes.texts if str(text.get_gid() or "").startswith("name-")]


def marked(svg: str, figure: Figure, known: dict[str, tuple[str, Any]]) -> str:
    """The SVG with what `name` found, as `data-` attributes and titles."""
    parts = re.split(r'(<g id="(?:axes|name|marks)-[\d-]+")', svg)
    out = [parts[0]]
    for opening, rest in zip(parts[1::2], parts[2::2], strict=True):
        kind, what = known[opening.split('"')[1]]
        if kind == "axes":
            out += [opening, _scales(what, figure), rest]
        elif kind == "name":
            out += [opening, f' data-name="{what}"', rest]
        else:
            axes, artist, names = what
            end = _end_of_group(rest)
            out += [opening, *_of_series(artist, names), _titled(rest[:end], axes, artist, names), rest[end:]]
    return "".join(out)


def _end_of_group(text: str) -> int:
    """Where the group that `text` continues is closed."""
    depth = 1
    for match in re.finditer(r"<g\b|</g>", text):
        depth += 1 if match[0] == "<g" else -1
        if not depth:
            return match.start()
    return len(text)


def _scales(axes: Axes, figure: Figure) -> str:
    """Of both axes: kind of scale, limits, and where these lie in the SVG."""
    width, height = figure.get_size_inches() * POINTS_PER_INCH
    place = axes.get_position()
    x = (axes.get_xscale(), *axes.get_xlim(), place.x0 * width, place.x1 * width)
    y = (axes.get_yscale(), *axes.get_ylim(), (1 - place.y0) * height, (1 - place.y1) * height)
    said = (f"{kind} " + " ".join(f"{number:.6g}" for number in numbers) for kind, *numbers in (x, y))
    return "".join(f' data-{letter}="{text}"' for letter, text in zip("xy", said, strict=True))


def _colours(artist: Artist) -> list[str]:
    """Of every mark of an artist; one where all have the same."""
    if isinstance(artist, Line2D):
        return [to_hex(artist.get_color())]
    if isinstance(artist, LineCollection):
        return [to_hex(colour) for colour in np.atleast_2d(artist.get_edgecolor())]
    if isinstance(artist, Collection):
        return [to_hex(colour) for colour in np.atleast_2d(artist.get_facecolor())]
    return []


def _of_series(artist: Artist, names: dict[str, str]) -> Iterator[str]:
    colours = set(_colours(artist))
    if len(colours) == 1 and (found := names.get(colours.pop())):
        yield f' data-series="{found}"'


def _titled(text: str, axes: Axes, artist: Artist, names: dict[str, str]) -> str:
    """Every point with its numbers, and of many curves in one artist each with its series."""
    colours = _colours(artist)
    if isinstance(artist, LineCollection):
        each = iter(colours * (1 if len(colours) > 1 else 0))
        return re.sub(r"<path\b", lambda match: match[0] + _series(names.get(next(each, ""))), text)
    points = _points(artist)
    drawn = len(re.findall(r"<use\b", text))
    if points is None or drawn != len(points):
        return text
    each_title = iter(_title(axes, x, y) for x, y in points.tolist())
    return re.sub(
        r"(<use\b[^>]*?)\s*/>", lambda match: f"{match[1]}><title>{next(each_title)}</title></use>", text
    )


def _series(found: str | None) -> str:
    return f' data-series="{found}"' if found else ""


def _points(artist: Artist) -> np.ndarray | None:
    """(P, 2) of an artist that draws points."""
    if isinstance(artist, PathCollection):
        found = np.asarray(artist.get_offsets(), dtype=float)
    elif isinstance(artist, Line2D) and artist.get_marker() not in ("None", None, "", " "):
        found = np.column_stack([np.asarray(values, dtype=float) for values in artist.get_data()])
    else:
        return None
    return found[np.isfinite(found).all(axis=1)]


def _title(axes: Axes, x: float, y: float) -> str:
    said = (_said(axis.get_label_text(), value) for axis, value in ((axes.xaxis, x), (axes.yaxis, y)))
    return str(escape("; ".join(one for one in said if one)))


def _said(label: str, value: float) -> str:
    """A number under the name of its axis; an axis without a name has words for ticks, and says nothing."""
    plain = re.sub(r"\s*\(.*?\)", "", label.replace("\n", " ")).strip()
    if not plain:
        return ""
    if "FLOPs" in plain:
        return f"{plain} {value:.3g}"
    return f"{plain} {short_count(value) if abs(value) >= 1000 else format(value, '.4g')}"
