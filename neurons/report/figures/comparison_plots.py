"""Figures of a comparison of models, in the style of `plots`; results in, matplotlib Figures out."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurons.comparison.model_results import SINGULAR_VALUES, Comparison, Development, Pair, Side
from neurons.report.figures.plots import (
    COLUMN,
    HEIGHT,
    LAYER_COLOURS,
    LEGEND_COLUMNS,
    LOWERS,
    NEUTRAL,
    RAISES,
    add_axes,
    legend_above,
    limit,
    new_figure,
    part_maps,
    plain_ticks,
    styled,
)

BINS = 60
SHORT = 18


def comparison_maps(found: Comparison) -> Figure:
    """The composed map of each model, year-centred, on one scale."""
    return part_maps({_short(side.name): side.map for side in found.sides}, found.start_years)


@styled
def score_histograms(found: Comparison) -> Figure:
    """Histogram of the boosting scores as shares of the neurons; the axis of shares is logarithmic."""
    figure, axes = _axes(found, left=0.75)
    size = limit(np.concatenate([side.scores.score for side in found.sides]))
    edges = np.linspace(-size, size, BINS + 1).tolist()
    for place, side in enumerate(found.sides):
        weights = np.full(len(side.scores), 1 / len(side.scores))
        axes.hist(side.scores.score, edges, weights=weights, histtype="step", **_line(side, place))
    axes.set_yscale("log")
    axes.set(xlabel="boosting score (logits)", ylabel="share of the neurons")
    legend_above(axes)
    return figure


@styled
def depth_curves(found: Comparison) -> Figure:
    """The sum of the neurons' scores of each layer, by the layer's relative depth."""
    figure, axes = _axes(found)
    for place, side in enumerate(found.sides):
        layers = side.by_layer()
        axes.plot(
            [layer["depth"] for layer in layers],
            [layer["contrast"] for layer in layers],
            marker="o",
            markersize=3,
            **_line(side, place),
        )
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel="relative depth (1 is the last layer)", ylabel="contrast (logits)")
    plain_ticks(axes, whole="")
    legend_above(axes)
    return figure


@styled
def singular_values(found: Comparison) -> Figure:
    """Each component's share of the sum of squares of the composed map."""
    figure, axes = _axes(found)
    for place, side in enumerate(found.sides):
        squares = side.singular_values**2
        shares = squares[:SINGULAR_VALUES] / (squares.sum() or 1.0)
        axes.plot(range(1, len(shares) + 1), shares, marker="o", markersize=3, **_line(side, place))
    axes.set(xlabel="component", ylabel="share of the map", ylim=(0, None))
    plain_ticks(axes)
    legend_above(axes)
    return figure


@styled
def development_curves(found: Development) -> Figure:
    """Behaviour and tiling, number of neurons, and survival of the last and the first step's neurons, by step."""
    figure = new_figure(height=3 * HEIGHT)
    steps, places = found.steps, range(len(found.steps))
    panels = [
        add_axes(figure, left=0.75, bottom=(2 - panel) * HEIGHT + 0.42, top=panel * HEIGHT + 0.3) for panel in range(3)
    ]
    behaviour, number, survival = panels
    for colour, (measure, values) in zip(LAYER_COLOURS, found.behaviour.items(), strict=False):
        behaviour.plot(places, values, marker="o", markersize=3, color=colour, label=measure.replace("_", " "))
        if measure in found.k:
            ks = [np.nan if k is None else k for k in found.k[measure]]
            number.plot(
                places, ks, marker="o", markersize=3, color=colour, label=f"90 % of {measure}".replace("_", " ")
            )
    number.plot(places, found.boosting, ":", color="black", label="boosting")
    if "correlation" in found.tiling:
        law = [np.nan if r is None else r for r in found.tiling["correlation"]]
        behaviour.plot(places, law, "--", color="black", label="tiling, rank correlation")
    of_last, of_first = found.survival[-1], found.survival[0]
    survival.plot(places, of_last, marker="o", markersize=3, color=RAISES, label="of the last step's")
    survival.plot(places, of_first, marker="o", markersize=3, color=LOWERS, label="of the first step's")
    survival.plot(places, found.chance, ":", color="black", label="of all neurons")
    for axes, label in zip(panels, ("measure", "neurons", "share that boosts"), strict=True):
        axes.set(xticks=list(places), xticklabels=[str(step) for step in steps], ylabel=label)
        axes.legend(loc="best")
    survival.set(xlabel="step", ylim=(0, 1.02))
    return figure


@styled
def score_scatter(first: Side, other: Side, pair: Pair) -> Figure:
    """Each neuron's score in the first model (across) and in the other (up); what boosts in either in colour."""
    assert pair.neurons is not None
    figure = new_figure(COLUMN, COLUMN)
    axes = add_axes(figure, top=0.5)
    size = 1.05 * limit(np.concatenate([first.scores.score, other.scores.score]))
    axes.plot([-size, size], [-size, size], color="black", linewidth=0.6, dashes=(4, 2))
    row_of = {neuron: row for row, neuron in enumerate(first.scores.neurons)}
    groups = (("kept", pair.neurons.both, NEUTRAL), ("lost", pair.neurons.only_first, LOWERS),
              ("gained", pair.neurons.only_second, RAISES))  # fmt: skip
    axes.scatter(first.scores.score, other.scores.score, s=3, color="#c4c4c4", linewidths=0, rasterized=True)
    for name, neurons, colour in groups:
        rows = [row_of[neuron] for neuron in neurons]
        label = f"{name} ({len(rows)})"
        axes.scatter(first.scores.score[rows], other.scores.score[rows], s=9, color=colour, linewidths=0, label=label)
    axes.set(xlim=(-size, size), ylim=(-size, size), xlabel=f"score in {_short(first.name)} (logits)",
             ylabel=f"score in {_short(other.name)} (logits)")  # fmt: skip
    plain_ticks(axes, whole="")
    legend_above(axes)
    return figure


def _axes(found: Comparison, *, left: float = 0.62) -> tuple[Figure, Axes]:
    """One panel with room for the legend above it."""
    figure = new_figure(height=HEIGHT)
    return figure, add_axes(figure, left=left, top=0.3 + 0.15 * ((len(found.sides) - 1) // LEGEND_COLUMNS))


def _line(side: Side, place: int) -> dict[str, Any]:
    """How a model's line looks: its colour, and dashes where colours begin anew or lie over each other."""
    style = ("-", "--", ":", "-.")[place % 4]
    return {"color": LAYER_COLOURS[place % len(LAYER_COLOURS)], "linestyle": style, "label": _short(side.name)}


def _short(name: str) -> str:
    """A name that fits a panel, taken as it is: no formula in it."""
    text = "".join(c if c.isprintable() else "?" for c in name).replace("$", r"\$")
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
