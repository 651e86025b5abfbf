"""Figures of routes, in the style of `plots`: the matrix neuron by neuron, and the parts of single neurons."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from neurons.report.figures.plots import (
    CENTRED,
    LAYER_COLOURS,
    WIDE,
    add_axes,
    draw_colour_bar,
    legend_above,
    limit,
    new_figure,
    plain_ticks,
    styled,
)
from neurons.routes.results import ROUTES

SIDE = 4.4
"""Of the matrix, inches."""
LOUDEST = 99.5
"""Percentile of the sizes at which the colours end: a few edges dwarf all others."""
NAMES = {
    "direct": "direct, scale frozen", "scale": "final LayerNorm's scale", "attention": "later attention",
    "neurons": "later neurons",
}  # fmt: skip


@styled
def route_matrix(edges: Float[np.ndarray, "n n"], centres: Sequence[float]) -> Figure:
    """What each neuron (row) adds through each later one (column), in thousandths of the measure; both in order of
    `centres`, the tuning centres, which stand at the axes. Grey: not a later neuron."""
    figure = new_figure(SIDE + 1.6, SIDE + 0.7)
    axes = add_axes(figure, left=0.6, right=1.0, bottom=0.5, top=0.2)
    values = np.where(edges == 0, np.nan, 1000 * edges)
    sizes = np.abs(values[np.isfinite(values)])
    end = float(np.percentile(sizes, LOUDEST)) if len(sizes) else 1.0
    norm, n = Normalize(-end, end), len(edges)
    axes.imshow(
        values, cmap=mpl.colormaps[CENTRED].with_extremes(bad="#ececec"), norm=norm, interpolation="none",
        extent=(-0.5, n - 0.5, n - 0.5, -0.5), aspect="auto",
    )  # fmt: skip
    at = np.unique(np.linspace(0, n - 1, min(n, 9)).round().astype(int))
    labels = ["–" if np.isnan(centres[place]) else f"{centres[place]:02.0f}" for place in at]
    axes.set_xticks(at, labels)
    axes.set_yticks(at, labels)
    axes.set(xlabel="later neuron, by tuning centre (start year)", ylabel="neuron, by tuning centre (start year)")
    axes.spines[["top", "right"]].set_visible(True)
    width = SIDE + 1.6
    bar = add_axes(figure, left=width - 0.9, right=0.72, bottom=0.5, top=0.2)
    draw_colour_bar(bar, colours=CENTRED, norm=norm, label="share through the edge (thousandths)")
    return figure


@styled
def route_bars(names: Sequence[str], parts: Float[np.ndarray, "n 4"], label: str) -> Figure:
    """The parts of each neuron by route, side by side on one scale."""
    figure = new_figure(WIDE, 2.4)
    axes = add_axes(figure, bottom=0.75, top=0.35)
    at, width = np.arange(len(names)), 0.2
    for place, name in enumerate(ROUTES):
        axes.bar(at + (place - 1.5) * width, parts[:, place], width, color=LAYER_COLOURS[place], label=NAMES[name])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(ylabel=label, xlim=(-0.6, len(names) - 0.4), ylim=(-1.08 * limit(np.minimum(parts, 0)), None))
    plain_ticks(axes)
    axes.set_xticks(at, names, rotation=90, fontsize=6)
    legend_above(axes)
    return figure
