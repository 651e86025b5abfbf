"""A figure as files: SVG, PDF or PNG, and the numbers that it shows as CSV, read off the drawn figure.

A map is a table: the columns' coordinates in the first line, then each row with its own. Curves, points and bars have
a line each: series, x, y. A line with a panel's title stands in front of each panel's numbers.
"""

import base64
import csv
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FuncFormatter
from PIL import Image

from neurons.report.figures.plots import styled
from neurons.types import OutputError

DIGITS = ".6g"
Row = Sequence[object]
PNG_DPI = 300


@styled
def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format its suffix names; fonts are embedded and nothing in it is a date.

    Raises `OutputError` when the file cannot be written.
    """
    no_date = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}
    try:
        figure.savefig(path, dpi=PNG_DPI, metadata=no_date[path.suffix])
        if path.suffix == ".svg":
            path.write_text(_shorter(path.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"figure {os.fspath(path)!r} cannot be written: {error.strerror or error}") from None


def _shorter(svg: str) -> str:
    """No comments or indents, coordinates to a hundredth of a point, images by a palette: half the size, and
    no eye sees it.
    """
    svg = re.sub(r"(?<=data:image/png;base64,)[^\"]+", lambda image: _with_palette(image[0]), svg)
    svg = re.sub(r"\n\s+", "\n", re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL))
    svg = re.sub(r'(?<= [xy]=")-?\d+\.\d+', lambda number: re.sub(r"(?<=\.\d\d)\d+", "", number[0]), svg)
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(?<=\.\d\d)\d+", "", path[0]).replace("\n", ""), svg)


def _with_palette(encoded: str) -> str:
    """A PNG in base64, a byte a pixel where it has at most 256 colours, as a map of one colour scale has."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    pixels = np.asarray(image).view(">u4")[..., 0].astype(np.uint32)
    if image.getcolors(256) is None or (pixels & 0xFF < 0xFF).any():
        return encoded
    colours = np.unique(pixels)
    image = Image.fromarray(np.searchsorted(colours, pixels).astype(np.uint8), "P")
    image.putpalette(colours.astype(">u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    out = io.BytesIO()
    image.save(out, "png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def figure_data(figure: Figure) -> str:
    """Every panel's numbers, to six digits; guide lines and colour scales are left out."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for axes in figure.axes:
        if rows := list(_panel(axes)):
            writer.writerow(["# panel", axes.get_title() or axes.get_ylabel()])
            writer.writerows(rows)
    return out.getvalue()


def _panel(axes: Axes) -> Iterator[Row]:
    maps = [image for image in axes.get_images() if axes.get_xticks().size]
    for image in maps:
        yield from _map(image)
    series = [] if maps else [*_lines(axes), *_points(axes), *_bars(axes)]
    if series:
        yield ["series", axes.get_xlabel() or "x", axes.get_ylabel() or "y"]
        yield from series


def _map(image: AxesImage) -> Iterator[Row]:
    values: np.ndarray = np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)
    left, right, *heights = image.get_extent()
    bottom, top = heights if image.origin == "upper" else reversed(heights)
    rows, columns = values.shape[:2]
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    yield ["", *map(_shown, x)]
    for at, row in zip(y, values.tolist(), strict=True):
        yield [_shown(at), *map(_shown, row)]


def _lines(axes: Axes) -> Iterator[Row]:
    for line in axes.get_lines():
        x, y = (np.ravel(np.asarray(values, dtype=float)) for values in line.get_data())
        label = str(line.get_label())
        if not (label.startswith("_") and line.is_dashed()):
            yield from _rows(label, x, y)


def _points(axes: Axes) -> Iterator[Row]:
    for points in axes.collections:
        if isinstance(points, PathCollection):
            at = np.ma.getdata(points.get_offsets())
            yield from _rows(str(points.get_label()), at[:, 0], at[:, 1])


def _bars(axes: Axes) -> Iterator[Row]:
    upright, lying = _names(axes.xaxis), _names(axes.yaxis)
    for bars in axes.containers:
        for bar in bars:
            if isinstance(bar, Rectangle):
                x, y = bar.get_center()
                ends = bar.get_x() + bar.get_width(), bar.get_y() + bar.get_height()
                at_x = _shown(ends[0]) if lying else upright.get(round(x), _shown(x))
                yield [_series(str(bars.get_label())), at_x, lying.get(round(y), _shown(ends[1]))]


def _names(axis: Axis) -> dict[int, str]:
    """The words at an axis's whole numbers; empty for an axis of numbers."""
    if not isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter):
        return {}
    places, labels = axis.get_majorticklocs(), axis.get_ticklabels()
    words = {round(at): label.get_text() for at, label in zip(places, labels, strict=False)}
    return {at: word for at, word in words.items() if not word.replace("−", "").replace(".", "").isdigit()}


def _rows(label: str, x: np.ndarray, y: np.ndarray) -> Iterator[Row]:
    for at, value in zip(x[np.isfinite(x)].tolist(), y[np.isfinite(x)].tolist(), strict=True):
        yield [_series(label), _shown(at), _shown(value)]


def _series(label: str) -> str:
    return "" if label.startswith("_") else label


def _shown(value: float) -> str:
    return format(value, DIGITS) if math.isfinite(value) else ""
