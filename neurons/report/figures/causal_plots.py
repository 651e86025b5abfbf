"""Figures of ablations (top-k curves with the random band, the layer table, scores against effects) and of routes."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from neurons.intervention.curve_results import Curve, Curves, Kind, PublishedCurve
from neurons.intervention.results import Agreement, ComponentEffects, References
from neurons.report.figures.plots import (
    ACCENT,
    CENTRED,
    COLUMN,
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
    legend_above,
    limit,
    new_figure,
    plain_ticks,
    styled,
)
from neurons.routes.results import ROUTES
from neurons.types import Ablation, Measure

RANDOM = "random"
FLOORS: dict[Ablation, tuple[str, str]] = {
    "random-year": ("floor", "floor"), "resample": ("counterfactual", "corrupted run"),
}  # fmt: skip
"""The reference that an ablation leads to when all neurons take part, and its name."""
PUBLISHED_LABEL = "probability difference, years only"

SIDE = WIDE - 1.6
"""Of the matrix, inches."""
LOUDEST = 99.5
"""Percentile of the sizes at which the colours end: a few edges dwarf all others."""
NAMES = {
    "direct": "direct, scale frozen", "scale": "final LayerNorm's scale", "attention": "later attention",
    "neurons": "later neurons",
}  # fmt: skip


@styled
def curves_figure(curves: Curves, references: References, *, measure: Measure, kind: Kind) -> Figure:
    """The measure against k, one line for each order; the random orders as a band; clean run and floor as lines."""
    figure = new_figure(COLUMN, 2.7)
    axes = add_axes(figure, bottom=0.42, top=0.65)
    shown = curves.of(measure, kind)
    ordered = [curve for curve in shown if curve.order != RANDOM]
    for curve, colour in zip(ordered, LAYER_COLOURS, strict=False):
        axes.plot(_place(curve.k), curve.values, color=colour, marker="o", markersize=2, label=curve.order)
    for curve in shown:
        if curve.order == RANDOM:
            _draw_band(axes, curve, curves.seeds)
    _draw_references(axes, references, curves.ablation)
    _size_ticks(axes, shown[0].k)
    name = "kept, the rest ablated" if kind == "keep" else "ablated"
    axes.set(xlabel=f"top k neurons {name} ({curves.ablation})", ylabel=measure.replace("_", " "))
    figure.legend(loc="upper center", ncols=2, borderaxespad=0.2)
    return figure


def _draw_band(axes: Axes, curve: Curve, seeds: int) -> None:
    axes.fill_between(_place(curve.k), curve.low, curve.high, color=NO_DATA, linewidth=0)
    axes.plot(_place(curve.k), curve.values, color=NEUTRAL, label=f"random, {seeds} seeds (5-95 %)")


def _draw_references(axes: Axes, references: References, ablation: Ablation) -> None:
    shown = [("baseline", "clean run"), *([FLOORS[ablation]] if ablation in FLOORS else [])]
    for (name, label), dash in zip(shown, ("-", "--"), strict=False):
        value = getattr(references, name)
        axes.axhline(value, color=NEUTRAL, linewidth=0.6, linestyle=dash)
        axes.annotate(label, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom")


def _place(k: np.ndarray) -> np.ndarray:
    """Where k stands on the axis: log2(1 + k), so that 0 has a place."""
    return np.log2(1 + k)


def _size_ticks(axes: Axes, k: np.ndarray) -> None:
    axes.set_xticks(_place(k[::2]), [str(size) for size in k[::2].tolist()])


@styled
def published_figure(curve: PublishedCurve) -> Figure:
    """The variant of the literature: one layer, the rest zero at all positions, softmax over the years alone."""
    figure = new_figure()
    axes = add_axes(figure)
    axes.plot(_place(curve.k), curve.probability_difference, color=LAYER_COLOURS[0], marker="o", markersize=2)
    _size_ticks(axes, curve.k)
    axes.set(xlabel=f"neurons of MLP {curve.layer} kept, by activation variance", ylabel=PUBLISHED_LABEL)
    return figure


@styled
def layers_figure(table: ComponentEffects, *, measure: Measure) -> Figure:
    """Each layer's MLP as a bar and its attention heads as points."""
    figure = new_figure(WIDE, 2.4)
    axes = add_axes(figure)
    layer = np.array(table.layer)
    is_mlp = np.array([name.startswith("m") for name in table.components])
    values = table.effect[measure]
    axes.bar(layer[is_mlp], values[is_mlp], 0.6, color=LOWERS, alpha=0.55, label="MLP")
    axes.plot(layer[~is_mlp], values[~is_mlp], "o", color=ACCENT, markersize=2, label="heads")
    axes.axhline(0, color=NEUTRAL, linewidth=0.6)
    axes.set_xticks(sorted(set(table.layer)))
    axes.set(xlabel="layer", ylabel=f"change of {measure.replace('_', ' ')}")
    axes.legend(ncols=2, loc="best")
    return figure


@styled
def agreement_figure(agreement: Agreement) -> Figure:
    """Contrast lost when each neuron is ablated against its direct effect; flagged neurons in red.

    Dots are an image within the drawing.
    """
    figure = new_figure(COLUMN, 2.7)
    axes = add_axes(figure)
    flagged = agreement.sign_differs | agreement.rank_differs
    ends = np.array([agreement.predicted.min(), agreement.predicted.max()])
    axes.plot(ends, ends, color=NEUTRAL, linewidth=0.6)
    for rows, colour, label in ((~flagged, LOWERS, "agrees"), (flagged, RAISES, "sign or rank differs")):
        x, y = agreement.predicted[rows], agreement.total[rows]
        axes.plot(x, y, "o", color=colour, markersize=2, label=label, rasterized=True)
    found = agreement.correlation["total"]
    axes.set(xlabel="direct effect (logits)", ylabel="minus total effect (logits)")
    axes.set_title(f"Spearman {found['spearman']:.2f}, Pearson {found['pearson']:.2f}")
    axes.legend(loc="upper left")
    return figure


@styled
def ablation_figure(curves: Mapping[str, Float[np.ndarray, " Y"]], start_years: Sequence[int]) -> Figure:
    """Effect of ablating one neuron on the contrast at each start year: total, direct and frozen."""
    figure = new_figure()
    axes = add_axes(figure)
    for (effect, values), colour, dash in zip(curves.items(), LAYER_COLOURS, ("-", "--", ":"), strict=False):
        axes.plot(start_years, values, color=colour, linestyle=dash, label=effect)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel=START_YEAR, ylabel="effect (logits)", xlim=ends(start_years))
    plain_ticks(axes)
    legend_above(axes)
    return figure


# --- routes ---------------------------------------------------------------------------------------


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
    axes.set_xticks(at, names, rotation=90)
    legend_above(axes)
    return figure
