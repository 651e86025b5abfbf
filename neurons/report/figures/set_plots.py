"""Figures of sets of neurons: kept and removed beside random sets, interchange, learned masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from neurons.report.figures.plots import (
    CENTRED,
    LAYER_COLOURS,
    LOWERS,
    NEUTRAL,
    NO_DATA,
    RAISES,
    START_YEAR,
    WIDE,
    add_axes,
    draw_colour_bar,
    ends,
    new_figure,
    plain_ticks,
    styled,
)

HALF = WIDE / 2
TRANSPLANTED = "transplanted year"


@styled
def curves_figure(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Parts recovered with the first k kept and with them removed, a panel a measure; random sets as bands."""
    figure = new_figure(WIDE, 2.6)
    for place, one in enumerate(curves):
        axes = add_axes(figure, left=0.62 + place * HALF, right=0.12 + (len(curves) - 1 - place) * HALF, top=0.5)
        k = np.array(one["sizes"])
        for name, label, colour in (("kept", "first k kept", RAISES), ("removed", "first k removed", LOWERS)):
            band = np.array(one[f"random_{name}"])
            axes.fill_between(_place(k), band.min(0), band.max(0), color=colour, alpha=0.25, linewidth=0)
            axes.plot(_place(k), band.mean(0), color=colour, linestyle=":", label=f"random {name}")
            axes.plot(_place(k), one[name], color=colour, label=label)
        axes.axhline(1, color=NEUTRAL, linewidth=0.6)
        _size_ticks(axes, k)
        axes.set(xlabel="k neurons", ylabel=f"part of {one['measure'].replace('_', ' ')}")
        _legend(axes)
    return figure


@styled
def interchange_figure(found: Mapping[str, Any]) -> Figure:
    """Whose year is answered as the first k neurons take their activations from another start year."""
    figure = new_figure()
    axes = add_axes(figure, top=0.4)
    k = np.array(found["k"])
    for name, label, colour in (
        ("for_transplanted", "for the transplanted year", RAISES),
        ("for_own", "for its own year", LOWERS),
        ("total_variation", "distance", NEUTRAL),
    ):
        axes.plot(_place(k), found[name], color=colour, label=label, linestyle="--" if colour == NEUTRAL else "-")
    _size_ticks(axes, k)
    axes.set(xlabel="k neurons", ylabel="probability difference, distance")
    _legend(axes)
    return figure


@styled
def interchange_maps(maps: Mapping[str, Float[np.ndarray, "Y Y"]], start_years: Sequence[int]) -> Figure:
    """Start year by transplanted year: the probability difference, from -1 to 1. Pairs without prompts are grey."""
    norm, side = Normalize(-1.0, 1.0), (WIDE - 1.6) / 2
    figure = new_figure(WIDE, side + 0.64)
    for place, (name, values) in enumerate(maps.items()):
        left = 0.55 + place * (side + 0.2)
        axes = add_axes(figure, left=left, right=WIDE - left - side)
        _draw_pairs(axes, values, start_years, norm)
        axes.set(title=name, xlabel=TRANSPLANTED, ylabel=START_YEAR if place == 0 else "")
        axes.tick_params(labelleft=place == 0)
    draw_colour_bar(
        add_axes(figure, left=WIDE - 0.75, right=0.6), colours=CENTRED, norm=norm, label="probability difference"
    )
    return figure


def _draw_pairs(axes: Axes, values: Float[np.ndarray, "Y Y"], start_years: Sequence[int], norm: Normalize) -> None:
    first, last = start_years[0], start_years[-1]
    full = np.full((last - first + 1, last - first + 1), np.nan)
    at = np.asarray(start_years) - first
    full[np.ix_(at, at)] = values
    cmap = mpl.colormaps[CENTRED].with_extremes(bad=NO_DATA)
    extent = (first - 0.5, last + 0.5, last + 0.5, first - 0.5)
    axes.imshow(full, cmap=cmap, norm=norm, extent=extent, interpolation="none", aspect="auto")
    axes.set(xlim=ends(start_years), ylim=ends(start_years)[::-1])
    axes.spines[["top", "right"]].set_visible(True)
    plain_ticks(axes, whole="xy")


@styled
def masks_figure(found: Mapping[str, Any]) -> Figure:
    """What the first k by share and by learned gates recover; a line a seed."""
    figure = new_figure()
    axes = add_axes(figure, top=0.4)
    k = np.array(found["sizes"])
    axes.plot(_place(k), found["share_recovered"], color="black", label="share")
    seen: set[str] = set()
    for run in found["runs"]:
        colour = LAYER_COLOURS[list(found["overlap_among"]).index(run["start"])]
        label = f"masks, {run['start']}" if run["start"] not in seen else None
        seen.add(run["start"])
        axes.plot(_place(k[: len(run["curve"])]), run["curve"], color=colour, linewidth=0.8, label=label)
    axes.axhline(1, color=NEUTRAL, linewidth=0.6)
    _size_ticks(axes, k)
    axes.set(xlabel="k neurons kept", ylabel="part recovered")
    _legend(axes)
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, columnspacing=1)


def _place(k: np.ndarray) -> np.ndarray:
    """Where k stands on the axis: log2(1 + k), so that 0 has a place."""
    return np.log2(1 + k)


def _size_ticks(axes: Axes, k: np.ndarray) -> None:
    shown = [size for size in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if size < k[-1]]
    axes.set_xticks(_place(np.array(shown)), [str(size) for size in shown])
