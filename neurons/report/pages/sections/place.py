"""First sections of a neuron's page: its curves on one axis of years, its place in the tiling, its own description."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurons.regression.tiling_results import Tiling
from neurons.report.blocks import Block, Column, Gallery, Picture, Section, Span, Table, number
from neurons.report.figures import neuron_plots, plots

Numbers = Mapping[str, Any]
MEASURES = {"probability_difference": "probability difference", "cutoff_sharpness": "cutoff sharpness"}
WELL, LITTLE = 0.9, 0.5
"""Parts from which on a description is said to keep an effect, and below which to miss much of it."""


def curves_section(numbers: Numbers, start_years: Sequence[int]) -> Section:
    """Tuning beside readout, and their product."""
    name, fit = numbers["neuron"], numbers["fit"]
    tuning, readout = np.array(numbers["tuning"]), np.array(numbers["readout"])
    centre, edge = _centre_and_edge(numbers)
    low, high = (None if numbers[f"tuning_{end}"] is None else np.array(numbers[f"tuning_{end}"])
                 for end in ("low", "high"))  # fmt: skip
    draw = partial(
        neuron_plots.tuning_and_readout, start_years, tuning, readout, low=low, high=high,
        fit=np.array(fit["values"]) if fit else None, centre=centre, edge=None if edge is None else edge + 0.5,
    )  # fmt: skip
    curves = Picture(
        f"{name}-tuning",
        draw,
        f"Tuning curve of {name} over its readout: activation {_range(tuning)}, readout {_range(readout)} logits.",
        "Above: tuning curve, the mean activation at END over the final LayerNorm's scale (a/σ) by start year, with its"
        " 95 % interval over centuries; dashed: the fitted family. Below, on the same axis of years: readout, the"
        " logits that one unit of a/σ adds to each year.",
    )
    effect = Picture(
        f"{name}-map",
        partial(plots.effect_map, np.outer(tuning, readout), start_years),
        f"Effect map of {name}: effect on each year's logit after each start year. {numbers['description']}",
        "Effect map: tuning curve times readout, the mean direct effect on the logit of each year y (column) after each"
        " start year YY (row). Right of the dashed diagonal lie the years after YY.",
    )
    return Section("Tuning and readout", (Gallery((curves, effect)),), _curves_claim(numbers))


def _curves_claim(numbers: Numbers) -> str:
    centre, edge = _centre_and_edge(numbers)
    if centre is None or edge is None:
        return f"{numbers['neuron']} has no tuning centre or no readout edge: one of its curves is flat."
    side = "before" if edge < centre else "after"
    away = f", {abs(centre - edge):.0f} years {side} it" if abs(centre - edge) >= 0.5 else ", at the same year"
    peak = f"Its tuning is furthest from its mean at start year {centre:02.0f}"
    return f"{peak}; its readout steps after {edge:02.0f}{away}."


def _centre_and_edge(numbers: Numbers) -> tuple[float | None, float | None]:
    """Those of the tiling where the neuron is part of it, else the ranking's."""
    place = numbers["place"]
    if place is not None:
        return place["centre"], float(place["edge"])
    centre, edge = numbers["tuning_centre"], numbers["readout_edge"]
    return None if centre is None else float(centre), None if edge is None else float(edge)


# --- place in the tiling --------------------------------------------------------------------------


def place_sections(numbers: Numbers, tiling: Tiling | None) -> Iterator[Section]:
    """Where there is a tiling, and the neuron has a centre and an edge."""
    centre, edge = _centre_and_edge(numbers)
    if tiling is None or not len(tiling) or centre is None or edge is None:
        return
    name = numbers["neuron"]
    picture = Picture(
        f"{name}-place",
        partial(neuron_plots.place_figure, tiling, name, centre, edge),
        f"{name} at tuning centre {centre:.0f} and readout edge {edge:.0f} among {len(tiling)} neurons.",
        f"Readout edge against tuning centre of the {len(tiling)} neurons that recover 90 % of the probability"
        f" difference, area by share; red ring: {name}. Dashed: edge at the centre.",
    )
    yield Section("Place in the tiling", (Gallery((picture,)),), _place_claim(numbers, tiling))


def _place_claim(numbers: Numbers, tiling: Tiling) -> str:
    name, place = numbers["neuron"], numbers["place"]
    if place is None:
        return (
            f"{name} is not among the {len(tiling)} neurons of the tiling, which recover 90 % of the probability"
            " difference; its own centre and edge are marked."
        )
    error = "" if place["centre_error"] is None else f" (standard error {number(place['centre_error'], decimals=1)})"
    beside = " and ".join(one for one in (place["before"], place["after"]) if one)
    return (
        f"By tuning centre {name} is number {place['by_centre']} of {place['of']} neurons that tile the century, at"
        f" {number(place['centre'], decimals=1)}{error}; steps of its readout at {place['edge_low']} to"
        f" {place['edge_high']} explain it nearly as well as its edge at {place['edge']}. Next to it: {beside}."
    )


# --- its own description --------------------------------------------------------------------------


def description_sections(numbers: Numbers, start_years: Sequence[int]) -> Iterator[Section]:
    """What the fitted family keeps of the neuron's effect; nothing where it was not measured."""
    found = numbers["own_description"]
    if found is None:
        return
    name, shown = numbers["neuron"], {MEASURES[measure]: found[measure] for measure in MEASURES}
    picture = Picture(
        f"{name}-description",
        partial(neuron_plots.own_description, start_years, shown),
        f"Change of {' and '.join(shown)} by start year: {name} at its own curve, and as described.",
        f"Change of each measure by start year when {name} alone goes from its mean to its own curve (solid) and to the"
        f" fitted family of that curve (dashed: {found['family']}). All other neurons of the layers are at their mean"
        " curves of other centuries; everything after them runs again.",
        wide=True,
    )
    columns = (
        Column("measure"),
        Column("part kept", "number", "1 less the squared error of the description over the squared effect"),
        Column("95 % interval", "number", "over centuries"),
        Column("size of the effect", "scientific", "root mean square over start years, in units of the measure"),
    )
    rows = tuple(
        (measure, one["part"], Span(one["ci_low"], one["ci_high"]), one["size"]) for measure, one in shown.items()
    )
    caption = "Part of the neuron's own effect that its description keeps; a dash where the effect is too small to tell"
    blocks: tuple[Block, ...] = (Gallery((picture,)), Table(caption, columns, rows))
    yield Section("Faithfulness of its own description", blocks, _description_claim(found))


def _description_claim(found: Numbers) -> str:
    if found["family"] in {"none", "constant"}:
        return (
            "No family of curves describes its tuning, so its description is its mean: nothing of its effect is kept."
        )
    said = "; ".join(f"of that on the {MEASURES[m]} {_kept(found[m]['part'])}" for m in MEASURES)
    return f"Described as a {found['family']}, it keeps of its own effect, start year by start year: {said}."


def _kept(part: float | None) -> str:
    if part is None:
        return "too small to tell"
    if part < 0:
        return f"nothing ({number(part, decimals=2)}: worse than its mean)"
    word = "nearly all" if part >= WELL else "much" if part >= LITTLE else "little"
    return f"{word} ({number(part, decimals=2)})"


def _range(values: np.ndarray) -> str:
    return f"from {number(float(values.min()))} to {number(float(values.max()))}"
