"""The page `composition`: tiling, faithfulness, sums of the first neurons, regression; and the index's part of it."""

from collections.abc import Container, Mapping
from dataclasses import replace
from functools import partial

from neurons.regression.faithfulness_results import Faithfulness, Recovered
from neurons.regression.results import Composition
from neurons.regression.tiling_results import Tiling, composed_json
from neurons.report.blocks import Column, Facts, Gallery, Page, Picture, Section, Span, Table, Text, number
from neurons.report.figures import composition_plots, tiling_plots
from neurons.report.figures.plots import Draw
from neurons.report.pages.neuron import neuron_link

TWO_COLUMNS = frozenset({"tiling", "faithfulness"})
"""Figures as wide as both columns of a paper."""
MOST = 0.9
"""R^2 of the map from which on the first neurons are said to make it."""


HELD = {
    "mean curve of other centuries": "the mean curves of other centuries",
    "fitted family of each neuron": "each neuron's fitted family",
    "constant for all": "constants",
}
"""Descriptions that the claim of their section names, in its words."""


def tiling_section(found: Composition, tiling: Tiling) -> Section:
    """For the index: the neurons sorted by tuning centre, their readouts, the summed map."""
    caption = composition_plots.CAPTIONS["tiling"]
    draw = partial(tiling_plots.tiling_figure, tiling, found.sparse)
    panels = tiling_plots.tiling_panels(tiling, found.sparse)
    picture = Picture("composition-tiling", draw, caption, caption, wide=True, panels=panels)
    return Section("Finding", (Gallery((picture,)),), law_words(tiling))


def _pointed(gallery: Gallery, tiling: Tiling, found: Composition) -> Gallery:
    """The figure of the tiling with values under the pointer."""
    panels = tiling_plots.tiling_panels(tiling, found.sparse)
    return Gallery(tuple(replace(picture, panels=panels) for picture in gallery.pictures))


def law_words(tiling: Tiling) -> str:
    """The law in one sentence."""
    law = tiling.law
    if law.correlation is None or law.offset is None:
        return f"{len(tiling)} neurons: too few for a law of tuning centres and readout edges."
    side = "before" if law.offset < 0 else "after"
    return (
        f"The centres of {len(tiling)} neurons and the edges of their readouts have a rank correlation of"
        f" {number(law.correlation, decimals=2)} (weighted by share; 95 % interval over neurons"
        f" {number(law.ci_low or 0, decimals=2)} to {number(law.ci_high or 0, decimals=2)}); the median edge lies"
        f" {number(abs(law.offset), decimals=0)} years {side} the centre. Neighbouring centres are at most"
        f" {number(tiling.largest_gap or 0, decimals=1)} years apart."
    )


def composition_page(
    found: Composition, tiling: Tiling | None, faithfulness: Faithfulness | None, paged: frozenset[str]
) -> Page:
    """Composition of the greater-than map: tiling, descriptions put back into the model, sums, regression."""
    figures = composition_plots.composition_figures(found, tiling, faithfulness)
    galleries = {
        name: gallery("composition", {name: draw}, composition_plots.CAPTIONS, TWO_COLUMNS)
        for name, draw in figures.items()
    }
    sections = []
    if tiling is not None and "tiling" in galleries:
        sections.append(Section("Tuning and readout by tuning centre", (
            _pointed(galleries["tiling"], tiling, found), galleries["law"], _places_table(tiling, paged),
        ), law_words(tiling)))  # fmt: skip
    if "exchange" in galleries:
        sections.append(Section("Exchange of tuning curves", (galleries["exchange"],), _exchange_claim(tiling)))
    if faithfulness is not None:
        sections.append(
            Section(
                "Faithfulness of descriptions",
                (galleries["faithfulness"], _faithfulness_table(faithfulness)),
                _faithfulness_claim(faithfulness),
            )
        )
    regression = regression_facts(found), _parts_table(found), _terms_table(found), galleries["terms"]
    sections += [
        Section("Sums of the first neurons", (galleries["sparse"], _sparse_table(found)), _sparse_claim(found)),
        Section("Regression on named shapes", regression, _regression_claim(found)),
    ]
    if found.notes:
        sections.append(Section("Notes", tuple(Text((note,)) for note in found.notes)))
    lead = (
        "Composition of the greater-than map: each neuron scales one fixed profile over the years, and only their sum"
        " is greater-than."
    )
    return Page("composition", "Composition", lead, tuple(sections), data=composed_json(found, tiling, faithfulness))


def _exchange_claim(tiling: Tiling | None) -> str:
    if tiling is None or tiling.exchange is None or not tiling.exchange.by_distance:
        return ""
    near, far = tiling.exchange.by_distance[0], tiling.exchange.by_distance[-1]
    return (
        f"Held at the curve of another neuron whose centre is within {near.years[1]} years, they recover"
        f" {_two(near.cutoff_sharpness)} of the cutoff sharpness; at curves from over {far.years[0]} years away"
        f" {_two(far.cutoff_sharpness)}."
    )


def _faithfulness_claim(found: Faithfulness) -> str:
    sharp = {one.description: _two(one.cutoff_sharpness) for one in found.rows}
    said = [f"{value} at {words}" for name, words in HELD.items() if (value := sharp.get(name)) is not None]
    return (
        f"Of the cutoff sharpness the model recovers {', '.join(said)}, when all neurons are held there."
        if said
        else ""
    )


def _sparse_claim(found: Composition) -> str:
    records = found.sparse.to_json()
    enough = next((one for one in records if one["r2"] >= MOST), records[-1])
    return f"The first {enough['k']:,} neurons by share make {number(enough['r2'], decimals=2)} of the map (R²)."


def _regression_claim(found: Composition) -> str:
    step, whole = found.whole.regression.alone("step"), found.whole.regression.r2
    if step is None or whole is None:
        return "The map is zero everywhere: no shape explains it."
    return (
        f"A step at the start year alone explains {number(step, decimals=2)} of the map (R²), all named shapes together"
        f" {number(whole, decimals=2)}."
    )


def _two(found: Recovered) -> str:
    return number(found.value, decimals=2)


def _places_table(tiling: Tiling, paged: frozenset[str]) -> Table:
    columns = (
        Column("neuron"), Column("share", "scientific", "of the probability difference"),
        Column("centre", "number", "start year at the middle of the top of its tuning"),
        Column("± standard error", "number", "jackknife over centuries"),
        Column("width", "number", "years at half the height"),
        Column("edge", "count", "last year before the step up of its readout"),
        Column("nearly as good", "text", "steps that explain at least 90 % of what the edge does"),
        Column("height (logits)", "number"),
    )  # fmt: skip
    rows = tuple(
        (neuron_link(str(one.neuron), paged), one.share, one.centre, one.centre_error, one.width, one.edge,
         f"{one.edge_low}–{one.edge_high}", one.height)
        for one in tiling.neurons
    )  # fmt: skip
    return Table("Neurons in order of their tuning centre", columns, rows, interactive=True)


def _faithfulness_table(found: Faithfulness) -> Table:
    columns = (
        Column("neurons are held at"), Column("neurons", "count"), Column("cutoff sharpness", "number"),
        Column("95 % interval", "number"), Column("probability difference", "number"),
        Column("95 % interval", "number"),
    )  # fmt: skip
    rows = tuple(
        (one.description, one.neurons, sharp.value, Span(sharp.ci_low, sharp.ci_high), other.value,
         Span(other.ci_low, other.ci_high))
        for one, sharp, other in ((one, one.cutoff_sharpness, one.probability_difference) for one in found.rows)
    )  # fmt: skip
    return Table(f"Recovered parts of clean minus floor on {found.prompts:,} prompts", columns, rows)


def _sparse_table(found: Composition) -> Table:
    columns = (Column("first k", "count"), Column("R² of the map", "number"), Column("cutoff sharpness", "number"),
               Column("probability difference", "number"))  # fmt: skip
    rows = tuple(
        (one["k"], one["r2"], one["cutoff_sharpness"], one["probability_difference"]) for one in found.sparse.to_json()
    )
    caption = "Neurons in order of share, each with its own weights"
    return Table(f"{caption}, measured on centuries held out" if found.sparse.held_out else caption, columns, rows)


def _terms_table(found: Composition) -> Table:
    columns = (
        Column("term"), Column("coefficient", "number"), Column("95 % interval", "number"),
        Column("share", "number", help="drop in R² without the term"),
        Column("alone", "number", help="R² of the term alone"),
    )  # fmt: skip
    rows = tuple(
        (t.term.replace("_", " "), t.coefficient, Span(t.ci_low, t.ci_high), t.share, t.alone)
        for t in found.whole.regression.terms
    )
    return Table(
        "Terms of the regression of the map of all neurons; they overlap, so shares need not add up", columns, rows
    )


def regression_facts(found: Composition) -> Facts:
    regression = found.whole.regression
    known = {
        "R² of the step alone": regression.alone("step"),
        "R² of all named terms": regression.r2,
        "R² on centuries held out": regression.r2_heldout,
    }
    shown = [(name, "undefined" if value is None else number(value, decimals=3)) for name, value in known.items()]
    return Facts(tuple(shown))


def _parts_table(found: Composition) -> Table:
    named = {"all neurons": found.whole} | {part.name: part for part in found.by_layer.values()}
    named |= {f"cluster {name}": part for name, part in found.by_group.items()}
    columns = (
        Column("part"), Column("neurons", "count"), Column("contrast (logits)", "number"),
        Column("R² of the step", "number"), Column("R² of all terms", "number"), Column("held out", "number"),
    )  # fmt: skip
    rows = tuple(
        (name, part.n_neurons, part.contrast, part.regression.alone("step"), part.regression.r2,
         part.regression.r2_heldout)
        for name, part in named.items()
    )  # fmt: skip
    return Table(
        "Composed maps, centred over start years and years, of all neurons, each MLP and each cluster", columns, rows
    )


def gallery(page: str, figures: Mapping[str, Draw], captions: Mapping[str, str], wide: Container[str]) -> Gallery:
    """Figures of a page; wide: those of two columns."""
    return Gallery(
        tuple(
            Picture(f"{page}-{name}", draw, captions[name], captions[name], wide=name in wide)
            for name, draw in figures.items()
        )
    )
