"""The growth of cost as a figure of docs/performance.md, from the numbers that its tables are made from."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLUMNS = 3
UNCHANGED = {"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 8}


def draw_growth(found: dict[str, Any], path: Path) -> None:
    """A panel for each quantity that was measured at several sizes, from 0 on; flat is linear growth."""
    measured = [one for one in found["limits"] if one.get("points")]
    if not measured:
        raise SystemExit("nothing was measured at several sizes: measure `growth`, or `all`")
    rows = -(-len(measured) // COLUMNS)
    with plt.rc_context(UNCHANGED):
        figure, axes = plt.subplots(rows, COLUMNS, figsize=(9, 1.9 * rows), squeeze=False, layout="constrained")
        for panel, one in zip(axes.flat, measured, strict=False):
            _draw(panel, one)
        for panel in axes.flat[len(measured) :]:
            panel.remove()
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)


def _draw(panel: Axes, one: dict[str, Any]) -> None:
    who, _, what = one["what"].partition("; ")[0].rpartition(": ")[0].rpartition(": ")
    sizes = [int(size) for size in one["points"]]
    panel.plot(sizes, list(one["points"].values()), "o-", color="#1f6f8b", markersize=3)
    panel.set_xscale("log")
    panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
    panel.minorticks_off()
    panel.set_ylim(0, 1.15 * max(one["points"].values()))
    panel.set_xlabel(one["axis"])
    panel.set_title(f"{who}\n{what}", fontsize=8)
