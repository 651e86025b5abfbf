"""The neurons of the index: how their scores are spread, how their maps add up, and the ranked table."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurons.decomposition.effects import LogitEffects
from neurons.ranking.ranking import LEVELS
from neurons.ranking.results import Ranking
from neurons.report.blocks import Block, Column, FileLink, Gallery, Picture, Section, Span, Table, Text
from neurons.report.figures import model_plots, plots
from neurons.report.numbers import call_of
from neurons.report.pages.neuron import neuron_link
from neurons.types import NeuronId

RULE = {
    True: "Boosting: among the first that recover 90 % of clean minus floor on centuries held out, and interval above"
    " zero. Suppressing: share and interval below zero, the fewest that hold 90 % of the negative sum.",
    False: "No attribution: verdicts are of the direct effect, the fewest that hold 90 % of its positive and of its"
    " negative sum, with an interval that excludes zero.",
}
GROWTH = (1, 4, 16, 64, 256, 1024)
LISTED = 100
"""First neurons in rank order that the table has, whatever their verdict."""


def neurons_section(
    effects: LogitEffects, ranking: Ranking, paged: frozenset[str], orders: Mapping[str, Any] | None, *, growth: bool
) -> tuple[Block, ...]:
    """growth: with the summed maps of the first neurons, which the finding has."""
    what = "direct effect (logits)" if ranking.answer is None else "share of the probability difference"
    distribution = Picture(
        "scores",
        partial(model_plots.score_distribution, ranking.judged, ranking.boosting, ranking.suppressing, what=what),
        f"Distribution of the {what} of {len(ranking)} neurons.",
        f"Distribution of the {what}. {RULE[ranking.answer is not None]}",
    )
    return (
        Gallery((distribution,)),
        *_answer(ranking),
        *_orders(orders),
        *(_growth(effects, ranking) if growth else ()),
        _ranked_table(ranking, paged),
        Text(("All neurons with all columns: ", FileLink("ranking.csv", "ranking.csv"), ".")),
    )


def called_claim(ranking: Ranking, called: Mapping[str, Any]) -> str:
    """How many boost and suppress, and which is first."""
    what = "direct effect" if ranking.answer is None else "share"
    return (
        f"{called['boosting']:,} of {len(ranking):,} neurons boost the later years, {called['suppressing']:,} suppress"
        f" them; {ranking.neurons[0]} is first by {what}."
    )


def _answer(ranking: Ranking) -> tuple[Block, ...]:
    """What shares add up to, and how many neurons it takes."""
    if ranking.answer is None:
        return ()
    about = ranking.answer
    rows = tuple(
        (name.replace("_", " "), clean, about.floor[name], *(about.k.get(name, {}).get(level) for level in LEVELS))
        for name, clean in about.clean.items()
    )
    columns = (
        Column("measure"),
        Column("clean", "number", "as it is"),
        Column("floor", "number", "all neurons of the layers at a random other start year"),
        *(
            Column(f"k for {level} %", "count", "first neurons that recover so much of clean minus floor")
            for level in LEVELS
        ),
    )
    meaning = (
        "Shares add up to clean minus floor. k: the first neurons by share run as they are, all others take a random"
        " other start year; ordered on one half of the centuries, measured on the other. The sum is certain,"
        " membership is not: other sets of this size may recover as much."
    )
    return (Table("How much the neurons of these layers do, and how many it takes", columns, rows), Text((meaning,)))


def _orders(orders: Mapping[str, Any] | None) -> tuple[Block, ...]:
    """What the first k of each order recover, where orders were compared."""
    if orders is None:
        return ()
    ks = [key for key in orders["orders"][0] if key.startswith("kept_")]
    rows = tuple(
        (one["order"], one["correlation"], one["sum"], *(one[key] for key in ks), one["cpr"], one["cmd"])
        for one in orders["orders"]
    )
    columns = (
        Column("order"),
        Column("correlation", "number", "Spearman's, with the share"),
        Column("sum", "number", "of the scores, where they are in units of the measure"),
        *(Column(key.replace("_", " "), "number", "part of clean minus floor recovered by the first k") for key in ks),
        Column("CPR", "number", "area under the recovered part over the fraction of neurons kept"),
        Column("CMD", "number", "area between the recovered part and 1"),
    )
    return (Table("Shares beside their approximations and plain scores", columns, rows),)


def positions_sections(positions: Mapping[str, Any] | None) -> tuple[Section, ...]:
    """Where else than at END the answer comes about, where that was measured."""
    if positions is None:
        return ()
    part, names = np.array(positions["part"]), positions["positions"]
    picture = Picture(
        "positions",
        partial(model_plots.position_map, part, names),
        "Share of the absolute attribution in each layer and position, as a heat map.",
        "Share of the absolute attribution of all neurons that lies in each layer (up) and position (across; BOS to"
        " END, the last). Before YY nothing depends on YY. The colour scale is the square root of the share.",
    )
    rows = tuple(
        (one["neuron"], f"{one['position']}: {one['name']}", one["attribution"]) for one in positions["leaders"]
    )
    columns = (
        Column("neuron"),
        Column("position"),
        Column("attribution", "number", "of the probability difference, by RelP"),
    )
    meaning = (
        "By RelP, one backward pass with LayerNorm scales, attention patterns and"
        " activation ratios frozen, times each neuron's distance from a random other start year. It is an"
        " approximation: it does not add up to clean minus floor."
    )
    blocks = (Gallery((picture,)), Text((meaning,)), Table("The first neurons before END", columns, rows))
    claim = (
        f"{100 * positions['before_end']:.0f} % of the absolute attribution of all neurons of all layers lies before"
        " END: the ranking is of END alone."
    )
    return (Section("Attribution before END", blocks, claim),)


def _growth(effects: LogitEffects, ranking: Ranking) -> tuple[Gallery, ...]:
    boosting = ranking.boosting_neurons()
    if not boosting:
        return ()
    counts = [*[count for count in GROWTH if count < len(boosting)][:3], len(boosting)]
    picture = Picture(
        "growth",
        partial(plots.part_maps, _summed_maps(effects, boosting, counts), effects.start_years),
        f"Summed effect maps of the first {', '.join(map(str, counts))} boosting neurons.",
        "Sum of the effect maps of the first boosting neurons in rank order, centred over the years, on one colour"
        " scale.",
        wide=True,
    )
    return (Gallery((picture,)),)


def _summed_maps(effects: LogitEffects, neurons: Sequence[NeuronId], counts: Sequence[int]) -> dict[str, np.ndarray]:
    curves = {layer: (effects.tuning(layer), effects.readout(layer)) for layer in effects.layers}
    maps = {}
    for count in counts:
        total = np.zeros((len(effects.start_years), 100))
        for neuron in neurons[:count]:
            tuning, readout = curves[neuron.layer]
            total += np.outer(tuning[:, neuron.index], readout[neuron.index])
        maps[f"{count} neuron{'s' * (count > 1)}"] = centred(total)
    return maps


def centred(effect: np.ndarray) -> np.ndarray:
    """Without what is common to all years: it changes no contrast."""
    return effect - effect.mean(1, keepdims=True)


def _ranked_table(ranking: Ranking, paged: frozenset[str]) -> Table:
    records = [ranking.record(row) for row in range(len(ranking))]
    listed = [record for record in records if record["rank"] <= LISTED or record["boosting"] or record["suppressing"]]
    rows = tuple(
        (
            record["rank"],
            neuron_link(record["neuron"], paged),
            record["layer"],
            call_of(record),
            record["share"],
            Span(record["ci_low"], record["ci_high"]),
            record["written_share"],
            record["sharpness_share"],
            record["year_specific"],
            record["static"],
            record["tuning_centre"],
            record["readout_edge"],
        )
        for record in listed
    )
    columns = (
        Column("rank", "count"),
        Column("neuron"),
        Column("layer", "count"),
        Column("verdict"),
        Column("share", "number", "of the probability difference"),
        Column("95 % interval", "number", "over centuries"),
        Column("written", "number", "share with later neurons held: what it writes itself"),
        Column("sharpness", "number", "share of the cutoff sharpness"),
        Column("direct effect", "number", "logits; covariance over start years of activation and contrast"),
        Column("static", "number", "logits; mean activation times mean contrast: looks at no start year"),
        Column("centre", "count", "start year at which its tuning is furthest from its mean"),
        Column("edge", "count", "year that best parts its readout"),
    )
    return Table(
        _caption_of_ranked(len(rows), len(ranking)), columns, rows, interactive=True, filters=("layer", "verdict")
    )


def _caption_of_ranked(listed: int, count: int) -> str:
    if listed == count:
        return f"All {count:,} neurons of the cached layers in rank order"
    return (
        f"{listed:,} of {count:,} neurons in rank order: the first {LISTED}, and all that boost or suppress; the"
        " explorer and ranking.csv have every neuron"
    )
