"""Figures of the whole model: contrast by part, and the distribution of its neurons' scores."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from neurons.report.figures.plots import (
    COLUMN,
    HEIGHT,
    LAYER_COLOURS,
    LEGEND_COLUMNS,
    LOWERS,
    RAISES,
    SEQUENTIAL,
    START_YEAR,
    add_axes,
    draw_colour_bar,
    ends,
    legend_above,
    limit,
    new_figure,
    plain_ticks,
    styled,
)


@styled
def layer_bars(neurons: dict[str, float], biases: dict[str, float]) -> Figure:
    """Mean contrast of each part of the model: its neurons' sum and, stacked on it, its bias. Logits."""
    figure = new_figure(height=max(HEIGHT, 0.8 + 0.22 * len(neurons)))
    axes = add_axes(figure, left=1.05, top=0.3)
    names = list(neurons)
    places = np.arange(len(names))
    axes.barh(places, [neurons[name] for name in names], 0.42, color=LAYER_COLOURS[0], label="neurons")
    axes.barh(
        places + 0.42, [biases.get(name, 0.0) for name in names], 0.25, color=LAYER_COLOURS[4], label="output bias"
    )
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set(yticks=places, yticklabels=names, xlabel="mean contrast (logits)")
    axes.invert_yaxis()
    legend_above(axes)
    return figure


@styled
def layer_curves(curves: dict[str, Float[np.ndarray, " Y"]], start_years: Sequence[int]) -> Figure:
    """Contrast of each part of the model by start year. Logits."""
    figure = new_figure()
    axes = add_axes(figure, top=0.3 + 0.15 * ((len(curves) - 1) // LEGEND_COLUMNS))
    for place, (name, values) in enumerate(curves.items()):
        style = ("-", "--", ":")[place // len(LAYER_COLOURS) % 3]
        axes.plot(start_years, values, style, color=LAYER_COLOURS[place % len(LAYER_COLOURS)], label=name)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlim=ends(start_years), xlabel=START_YEAR, ylabel="contrast (logits)")
    plain_ticks(axes)
    legend_above(axes)
    return figure


@styled
def score_distribution(
    score: Float[np.ndarray, " M"],
    boosting: Bool[np.ndarray, " M"],
    suppressing: Bool[np.ndarray, " M"],
    *,
    what: str,
    bins: int = 60,
) -> Figure:
    """Histogram of shares or direct effects, boosting and suppressing neurons in colour; the count axis is log."""
    figure = new_figure()
    axes = add_axes(figure)
    size = limit(score)
    edges = np.linspace(-size, size, bins + 1)
    neither = ~(boosting | suppressing)
    groups = [("neither", neither, "#bdbdbd"), ("boosting", boosting, RAISES), ("suppressing", suppressing, LOWERS)]
    axes.hist(
        [score[chosen] for _, chosen, _ in groups],
        edges.tolist(),
        stacked=True,
        color=[colour for *_, colour in groups],
        label=[f"{name} ({int(chosen.sum())})" for name, chosen, _ in groups],
    )
    axes.set_yscale("log")
    axes.set(xlabel=what, ylabel="neurons", ylim=(0.7, None))
    axes.legend(loc="best")
    return figure


@styled
def position_map(part: Float[np.ndarray, "L T"], names: Sequence[str]) -> Figure:
    """Share of the absolute attribution by layer (up) and position (across), colours by its square root."""
    figure = new_figure(height=0.85 + 0.14 * len(part))
    axes = add_axes(figure, right=0.8, bottom=0.7, top=0.1)
    norm = PowerNorm(0.5, 0.0, float(part.max()) or 1.0)
    axes.imshow(part, cmap=SEQUENTIAL, norm=norm, origin="lower", aspect="auto", interpolation="none")
    axes.set(ylabel="layer", xticks=range(len(names)))
    axes.set_xticklabels([*names[:-1], f"{names[-1]} (END)"], rotation=60, ha="right")
    axes.spines[["top", "right"]].set_visible(True)
    bar = add_axes(figure, left=COLUMN - 0.72, right=0.6, bottom=0.7, top=0.1)
    draw_colour_bar(bar, colours=SEQUENTIAL, norm=norm, label="share")
    return figure
