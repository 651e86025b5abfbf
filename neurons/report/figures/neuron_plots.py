"""Figures of one neuron, in the style of `plots`: its curves, its place among others, its description, its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurons.regression.tiling_results import Tiling
from neurons.report.figures.plots import (
    ACCENT,
    LAYER_COLOURS,
    LOWERS,
    RAISES,
    SQUARE_MAP,
    WIDE,
    add_axes,
    ends,
    legend_above,
    new_figure,
    plain_ticks,
    styled,
)
from neurons.task.years import N_YEARS

DASHES = ("-", "--", "-.", ":")
Numbers = Mapping[str, Any]


@styled
def tuning_and_readout(
    start_years: Sequence[int],
    tuning: Float[np.ndarray, " Y"],
    readout: Float[np.ndarray, "100"],
    *,
    low: Float[np.ndarray, " Y"] | None = None,
    high: Float[np.ndarray, " Y"] | None = None,
    fit: Float[np.ndarray, " Y"] | None = None,
    centre: float | None = None,
    edge: float | None = None,
) -> Figure:
    """Activation by start year over the logits that it adds by year, on one axis of years; centre and edge marked."""
    figure = new_figure(height=SQUARE_MAP)
    half = (SQUARE_MAP - 0.42 - 0.42 - 0.12) / 2
    above, below = add_axes(figure, bottom=0.54 + half, top=0.42), add_axes(figure, top=0.54 + half)
    if low is not None and high is not None:
        above.fill_between(start_years, low, high, color=LAYER_COLOURS[0], alpha=0.25, linewidth=0)
    above.plot(start_years, tuning, color=LAYER_COLOURS[0], label="tuning")
    if fit is not None:
        above.plot(start_years, fit, color=ACCENT, linestyle="--", label="fitted family")
    years = np.arange(N_YEARS)
    for colour, part in ((RAISES, np.maximum(readout, 0)), (LOWERS, np.minimum(readout, 0))):
        below.fill_between(years, 0, part, step="mid", color=colour, linewidth=0)
    below.plot(years, readout, color="black", linewidth=0.5, drawstyle="steps-mid", label="readout")
    for axes, name in ((above, "a/σ"), (below, "logits per a/σ")):
        axes.axhline(0, color="black", linewidth=0.6, dashes=(1000, 1))
        axes.set(xlim=(-0.5, N_YEARS - 0.5), ylabel=name)
        plain_ticks(axes)
        for at, colour in ((centre, LAYER_COLOURS[0]), (edge, RAISES)):
            if at is not None:
                axes.axvline(at, color=colour, linewidth=0.8, dashes=(3, 2))
    above.tick_params(labelbottom=False)
    below.set_xlabel("start year YY (above), year y (below)")
    _name_lines(above, centre, edge)
    return figure


def _name_lines(axes: Axes, centre: float | None, edge: float | None) -> None:
    """Their names over the two lines, one above the other."""
    for at, name, colour, high in ((centre, "centre", LAYER_COLOURS[0], 2), (edge, "edge", RAISES, 11)):
        if at is not None:
            side = "right" if at > N_YEARS / 2 else "left"
            axes.annotate(
                f"{name} {int(at):02d}", (at, 1), xycoords=("data", "axes fraction"), xytext=(0, high),
                textcoords="offset points", ha=side, color=colour,
            )  # fmt: skip


@styled
def place_figure(tiling: Tiling, name: str, centre: float, edge: float) -> Figure:
    """Readout edge against tuning centre of the tiling's neurons, area by share; this neuron in a ring."""
    figure = new_figure(height=SQUARE_MAP)
    axes = add_axes(figure, right=0.85)
    share = np.array([one.share for one in tiling.neurons])
    area = 30 * np.maximum(share, 0) / max(share.max(initial=0.0), 1e-300) + 2
    axes.scatter([one.centre for one in tiling.neurons], [one.edge for one in tiling.neurons], s=area, color="#9e9e9e",
                 linewidths=0, label="neurons of the tiling")  # fmt: skip
    axes.plot([0, 99], [0, 99], color="black", linewidth=0.6, dashes=(4, 2))
    axes.scatter([centre], [edge], s=55, facecolors="none", edgecolors=RAISES, linewidths=1.4, label=name)
    up = edge < N_YEARS / 2
    axes.annotate(name, (centre, edge), xytext=(0, 7 if up else -7), textcoords="offset points", color=RAISES,
                  ha="center", va="bottom" if up else "top", fontweight="bold")  # fmt: skip
    axes.set(xlabel="tuning centre (start year)", ylabel="readout edge (year)", xlim=(-0.5, 99.5), ylim=(-0.5, 99.5))
    plain_ticks(axes, whole="xy")
    return figure


@styled
def own_description(start_years: Sequence[int], found: Mapping[str, Numbers]) -> Figure:
    """A measure a panel: what the neuron's curve changes at each start year, and what its description changes there."""
    figure = new_figure(WIDE, 2.2)
    width = (WIDE - 0.75 - 0.12 - 0.75) / 2
    for place, (name, one) in enumerate(found.items()):
        left = 0.75 + place * (width + 0.75)
        axes = add_axes(figure, left=left, right=WIDE - left - width, top=0.4)
        axes.plot(start_years, one["own"], color=LAYER_COLOURS[0], label="own curve")
        axes.plot(start_years, one["described"], color=ACCENT, linestyle="--", label="fitted family")
        axes.axhline(0, color="black", linewidth=0.6, dashes=(1000, 1))
        axes.set(
            xlabel="start year YY",
            ylabel=f"change of the {name}".replace("probability", "prob."),
            xlim=ends(start_years),
        )
        plain_ticks(axes)
        legend_above(axes)
    return figure


@styled
def cosine_histogram(
    edges: Float[np.ndarray, " B1"], counts: Int[np.ndarray, " B"], year_counts: Int[np.ndarray, " B"]
) -> Figure:
    """How many tokens lie in each bin of the cosine, on a logarithmic scale; the 100 years drawn over them."""
    figure = new_figure()
    axes = add_axes(figure)
    for values, colour, label in ((counts, "#bdbdbd", "all tokens"), (year_counts, ACCENT, "00–99")):
        axes.stairs(np.maximum(values, 0.5), edges, fill=True, color=colour, baseline=0.5, label=label)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set(xlabel="cosine with the token's unembedding", ylabel="tokens", xlim=(edges[0], edges[-1]))
    plain_ticks(axes)
    axes.set_yscale("log")
    axes.set_ylim(0.5, max(2.0, 2.0 * counts.max()))
    powers = 10 ** np.arange(int(np.log10(max(1, counts.max()))) + 1)
    axes.set_yticks(powers.tolist(), labels=[f"{power:,}" for power in powers.tolist()], minor=False)
    axes.minorticks_off()
    legend_above(axes)
    return figure


@styled
def control_curves(labels: Sequence[int], curves: Mapping[str, Float[np.ndarray, " L"]]) -> Figure:
    """Mean activation by YY on each type of prompt; the first is the task itself."""
    figure = new_figure()
    axes = add_axes(figure, top=0.42)
    for place, (kind, values) in enumerate(curves.items()):
        colour, dash = LAYER_COLOURS[place % len(LAYER_COLOURS)], DASHES[place % len(DASHES)]
        axes.plot(labels, values, color=colour, linestyle=dash, label=kind.replace("_", " "))
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel="two digits YY", ylabel="activation a/σ", xlim=ends(labels))
    plain_ticks(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, columnspacing=1)
    return figure
