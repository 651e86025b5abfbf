"""Figures of composition, in the style of `plots`; results in, matplotlib Figures out."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neurons.regression.results import LEVELS, SIGN_BAR, Composition
from neurons.regression.terms import TERMS
from neurons.report.figures.cluster_plots import panels, tuning_gallery
from neurons.report.figures.plots import (
    ACCENT,
    COLUMN,
    HEIGHT,
    LAYER_COLOURS,
    NEUTRAL,
    START_YEAR,
    YEAR,
    add_axes,
    new_figure,
    part_maps,
    save,
    styled,
)
from neurons.task.years import N_YEARS
from neurons.types import OutputError


def save_all(figures: Mapping[str, Figure], folder: Path) -> None:
    """Each figure as SVG under its name; raises `OutputError` when the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {os.fspath(folder)!r} cannot be made: {error.strerror or error}") from None
    for name, figure in figures.items():
        save(figure, folder / f"{name}.svg")


def composition_figures(found: Composition) -> dict[str, Figure]:
    """Every figure of a composition by file name."""
    figures = {"tuning": tuning_gallery(found.tuning)} if len(found.tuning) else {}
    figures |= {"singular-values": singular_values(found), "terms": term_bars(found), "signs": sign_curves(found)}
    if found.pursuit.r2_heldout:
        figures["reconstruction"] = reconstruction_curve(found)
    return figures | {"components": components(found), "reconstruction-maps": reconstruction_maps(found)}


@styled
def singular_values(found: Composition, *, most: int = 20) -> Figure:
    """The map's singular values, and how many make 90 and 99 % of its sum of squares."""
    values = found.whole.singular_values[:most]
    figure = new_figure()
    axes = add_axes(figure)
    axes.plot(np.arange(1, len(values) + 1), values, "o-", color=LAYER_COLOURS[0], markersize=3)
    for level, colour in zip(LEVELS, (ACCENT, NEUTRAL), strict=True):
        count = found.whole.components_for(level)
        if count is not None:
            axes.axvline(count, color=colour, linewidth=0.8, dashes=(4, 2), label=f"{level:.0%}: {count} components")
    axes.set(xlabel="component", ylabel="singular value (logits)", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend(loc="upper right")
    return figure


@styled
def components(found: Composition) -> Figure:
    """The leading components, over start years and over years."""
    figure, (tuning, readout) = panels(2, 2, width=2.6, height=1.6)
    shares = found.whole.singular_values**2 / max((found.whole.singular_values**2).sum(), 1e-300)
    for c, profile in enumerate(found.whole.year_components):
        name = f"{c + 1} ({shares[c]:.0%})"
        tuning.plot(found.start_years, found.whole.start_year_components[:, c], color=LAYER_COLOURS[c], label=name)
        readout.plot(range(N_YEARS), profile, color=LAYER_COLOURS[c])
    tuning.set(xlabel=START_YEAR, ylabel="weight (logits)", title="over start years")
    readout.set(xlabel=YEAR, title="over years, norm 1")
    tuning.legend(loc="best")
    return figure


@styled
def reconstruction_curve(found: Composition) -> Figure:
    """R^2 on centuries held out, against the number of neurons on a logarithmic axis."""
    r2 = np.array(found.pursuit.r2_heldout)
    figure = new_figure()
    axes = add_axes(figure)
    axes.plot(np.arange(1, len(r2) + 1), r2, color=LAYER_COLOURS[0])
    for level, colour in zip(LEVELS, (ACCENT, NEUTRAL), strict=True):
        count = found.pursuit.neurons_for(level)
        name = f"{level:.0%}: {'not reached' if count is None else f'{count} neurons'}"
        axes.axhline(level, color=colour, linewidth=0.8, dashes=(4, 2), label=name)
    axes.set(xscale="log", xlabel="neurons", ylabel="held-out R²", ylim=(min(0, r2.min()), 1.02))
    axes.legend(loc="lower right")
    return figure


@styled
def reconstruction_maps(found: Composition) -> Figure:
    """The map of all neurons, its reconstruction from the fewest neurons that reach 90 %, and the residual."""
    target, composed = found.whole.map, found.pursuit.reconstruction
    maps = {
        f"all {found.whole.n_neurons} neurons": target,
        f"{found.pursuit.shown} neurons": composed,
        "residual": target - composed,
    }
    return part_maps(maps, found.start_years, columns=3)


@styled
def term_bars(found: Composition) -> Figure:
    """R^2 of each named shape alone, for each layer."""
    terms = TERMS[:5]
    figure = new_figure(COLUMN, HEIGHT)
    axes = add_axes(figure, bottom=0.3, top=0.4)
    width = 0.8 / max(len(found.by_layer), 1)
    for place, (layer, part) in enumerate(found.by_layer.items()):
        alone = {term.term: term.alone for term in part.regression.terms}
        at = np.arange(len(terms)) + (place + 0.5) * width - 0.4
        axes.bar(
            at, [alone.get(term, 0.0) for term in terms], width,
            color=LAYER_COLOURS[place % len(LAYER_COLOURS)], label=f"MLP {layer}",
        )  # fmt: skip
    axes.set_xticks(range(len(terms)), [term.replace("_", " ") for term in terms])
    axes.set_ylabel("R² alone")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0, columnspacing=1)
    return figure


@styled
def sign_curves(found: Composition) -> Figure:
    """Share of cells with the sign of ">" as neurons are added, greedily and by score, on a logarithmic axis."""
    figure = new_figure()
    axes = add_axes(figure)
    for name, curve, colour in (
        ("greedily", found.signs.greedy, LAYER_COLOURS[1]),
        ("by score", found.signs.by_score, LAYER_COLOURS[0]),
    ):
        axes.plot(np.arange(1, len(curve) + 1), curve, color=colour, label=name)
    axes.axhline(SIGN_BAR, color="black", linewidth=0.7, dashes=(4, 2))
    axes.set(xscale="log", xlabel="neurons", ylabel="share of cells with the sign of >", ylim=(None, 1.0))
    axes.legend(loc="best")
    return figure
