"""Figures of one neuron from the model's weights, in the style of `plots`."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from neurons.report.figures.plots import (
    ACCENT,
    LAYER_COLOURS,
    add_axes,
    ends,
    legend_above,
    new_figure,
    plain_ticks,
    styled,
)

DASHES = ("-", "--", "-.", ":")


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
