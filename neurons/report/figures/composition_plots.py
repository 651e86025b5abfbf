"""Figures of composition, in the style of `plots`; results in, matplotlib Figures out."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from neurons.regression.faithfulness_results import Faithfulness
from neurons.regression.results import Composition
from neurons.regression.terms import TERMS
from neurons.regression.tiling_results import Tiling
from neurons.report.figures.files import save
from neurons.report.figures.plots import COLUMN, HEIGHT, LAYER_COLOURS, Draw, add_axes, new_figure, styled
from neurons.report.figures.tiling_plots import (
    exchange_curve,
    faithfulness_points,
    law_scatter,
    sparse_curve,
    tiling_figure,
)
from neurons.types import OutputError

CAPTIONS = {
    "tiling": "Top: the neurons that recover 90 % of the probability difference, a row each, sorted by tuning"
    " centre. Left: tuning, the activation by start year less its mean; black: its centre with two"
    " standard errors over centuries. Right: readout, what the neuron then adds to the logit of each year;"
    " black: its edge, the step up that explains most of it, and the steps that explain at least 90 % as"
    " much; dashed: the centres again. Both as parts of the neuron's largest value. Bottom: the sum of the"
    " maps of the first neurons by share with their own weights (columns: year, rows: start year; centred"
    " over both, in logits, one colour scale), its R² against the sum of all, and what the model recovers"
    " of probability difference (PD) and cutoff sharpness (CS) with all other neurons at a random other"
    " start year.",
    "law": "Readout edge against tuning centre of the same neurons; area: share of the probability difference.",
    "exchange": "Each of these neurons held at the tuning curve of another, at its own mean and size: recovered parts"
    " of clean minus floor by the distance of their centres. Bars: 95 % intervals over centuries; dashed:"
    " partners drawn at random.",
    "faithfulness": "All neurons of the layers held at END at what a description says: recovered parts of clean minus"
    " floor. Bars: 95 % intervals over centuries. Each century is described by the others.",
    "sparse": "R² of the map and recovered behaviour with the first k neurons by share, order and measurement from"
    " different centuries.",
    "terms": "R² of each named shape alone, for the composed map of each MLP, centred over start years and years.",
}


def save_all(figures: Mapping[str, Draw], folder: Path) -> None:
    """Each figure as SVG under its name; raises `OutputError` when the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {os.fspath(folder)!r} cannot be made: {error.strerror or error}") from None
    for name, draw in figures.items():
        save(draw(), folder / f"{name}.svg")


def composition_figures(
    found: Composition, tiling: Tiling | None = None, faithfulness: Faithfulness | None = None
) -> dict[str, Draw]:
    """What draws each figure of a composition, the tiling first; `tuning_figures` has the curves."""
    figures: dict[str, Draw] = {}
    if tiling is not None and len(tiling):
        figures |= {"tiling": partial(tiling_figure, tiling, found.sparse), "law": partial(law_scatter, tiling)}
        if tiling.exchange is not None and tiling.exchange.by_distance:
            figures["exchange"] = partial(exchange_curve, tiling.exchange)
    if faithfulness is not None:
        figures["faithfulness"] = partial(faithfulness_points, faithfulness)
    return figures | {"sparse": partial(sparse_curve, found.sparse), "terms": partial(term_bars, found)}


@styled
def term_bars(found: Composition) -> Figure:
    """R^2 of each named shape alone, for each layer."""
    figure = new_figure(COLUMN, HEIGHT)
    axes = add_axes(figure, bottom=0.3, top=0.4)
    width = 0.8 / max(len(found.by_layer), 1)
    for place, (layer, part) in enumerate(found.by_layer.items()):
        at = np.arange(len(TERMS)) + (place + 0.5) * width - 0.4
        axes.bar(
            at, [part.regression.alone(term) or 0.0 for term in TERMS], width,
            color=LAYER_COLOURS[place % len(LAYER_COLOURS)], label=f"MLP {layer}",
        )  # fmt: skip
    axes.set_xticks(range(len(TERMS)), [term.replace("_", " ") for term in TERMS])
    axes.set_ylabel("R² alone")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0, columnspacing=1)
    return figure
