"""Routes to the answer: sections for the page of composition and for a neuron's page."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurons.report.blocks import Block, Column, Gallery, Picture, Section, Table, Text, number
from neurons.report.figures import causal_plots
from neurons.report.figures.causal_plots import NAMES
from neurons.report.pages.neuron import neuron_link
from neurons.routes.results import ROUTES, Routes, Split

SHOWN = 20
"""Edges in the table, neurons in the figure."""
MATRIX = (
    "What each neuron (row) adds to the {measure} through each later neuron (column) that it reaches first, in"
    " thousandths, for the {n} neurons of the sufficient set. Both axes are in order of tuning centre; they show its"
    " start year, and neurons without one come last. Red raises, blue lowers; grey: not a later neuron. Colours end at"
    " the 99.5th percentile of the sizes."
)
BARS = (
    "Share of the {measure} of the first {n} neurons by share, split by route: own write through the final LayerNorm"
    " with its scale frozen, through that scale, through later attention at END, through later neurons. The four add up"
    " to the share."
)


def route_sections(
    found: Routes, centres: Sequence[float], paged: frozenset[str], measure: str = "probability difference"
) -> tuple[Section, ...]:
    """For the page of composition. centres: tuning centre of each neuron of the set, NaN without one."""
    share, effect = found.share, found.effect
    order = np.argsort(np.nan_to_num(np.asarray(centres, float), nan=np.inf), kind="stable")
    first = list(map(str, share.neurons[:SHOWN]))
    matrix = Picture(
        "composition-routes",
        partial(causal_plots.route_matrix, share.edges[np.ix_(order, order)], [centres[at] for at in order]),
        f"Matrix of {len(order)} neurons by tuning centre: share through each pair, up to"
        f" {number(1000 * float(np.abs(share.edges).max(initial=0)))} thousandths.",
        MATRIX.format(measure=measure, n=len(order)),
        wide=True,
    )
    bars = Picture(
        "composition-route-parts",
        partial(causal_plots.route_bars, first, share.parts[:SHOWN], "share"),
        f"Share of {len(first)} neurons by route.",
        BARS.format(measure=measure, n=len(first)),
        wide=True,
    )
    blocks: tuple[Block, ...] = (
        Text((_sentence(share, measure),)),
        Gallery((matrix, bars)),
        _edges_table(share, paged),
        _table(
            f"Total effect on the {measure} of single neurons ablated alone, by route; {effect.n_prompts:,} prompts",
            effect,
            paged,
        ),
    )
    return (Section("Routes to the answer", blocks),)


def _sentence(share: Split, measure: str) -> str:
    whole, total = share.parts.sum(0), float(share.total.sum())
    parts = ", ".join(f"{number(value, decimals=3)} {NAMES[name]}" for name, value in zip(ROUTES, whole, strict=True))
    return f"The {len(share.neurons)} neurons of the set share {number(total, decimals=3)} of the {measure}: {parts}."


def _edges_table(share: Split, paged: frozenset[str]) -> Table:
    size = np.abs(share.edges).ravel()
    rows = []
    for place in np.argsort(-size, kind="stable")[:SHOWN].tolist():
        sender, receiver = divmod(place, len(share.receivers))
        if size[place]:
            ends = (str(share.neurons[sender]), str(share.receivers[receiver]))
            rows.append((*(neuron_link(one, paged) for one in ends), float(share.edges[sender, receiver])))
    columns = (Column("neuron"), Column("later neuron"), Column("share through it", "number"))
    return Table("The largest edges between two neurons of the set", columns, tuple(rows))


def _table(caption: str, split: Split, paged: frozenset[str]) -> Table:
    columns = (Column("neuron"), Column("total", "number"), *(Column(NAMES[name], "number") for name in ROUTES))
    rows = tuple(
        (neuron_link(str(neuron), paged), total, *parts)
        for neuron, total, parts in zip(split.neurons, split.total.tolist(), split.parts.tolist(), strict=True)
    )
    return Table(caption, columns, rows)


def neuron_routes(numbers: Mapping[str, Any], paged: frozenset[str]) -> tuple[Section, ...]:
    """For a neuron's own page, from its numbers; nothing where its routes were not followed."""
    found = numbers["routes"]
    if not found:
        return ()
    blocks: list[Block] = [_parts_table(found)]
    share = found["share"]
    if share["through"]:
        columns = (Column("later neuron"), Column("share through it", "number"))
        rows = [(neuron_link(one["neuron"], paged), one["value"]) for one in share["through"]]
        rows.append(("neurons outside the set, and smaller edges", share["neurons"] - sum(row[1] for row in rows)))
        blocks.append(Table("Later neurons that its share runs through, largest first", columns, tuple(rows)))
    return (Section("Routes to the answer", tuple(blocks)),)


def _parts_table(found: Mapping[str, Any]) -> Table:
    named = [(name, found[key]) for name, key in (("share", "share"), ("total effect, ablated alone", "effect"))]
    columns = (Column("of"), Column("total", "number"), *(Column(NAMES[name], "number") for name in ROUTES))
    rows = tuple((name, one["total"], *(one[route] for route in ROUTES)) for name, one in named if one)
    caption = (
        "Probability difference by route: own write with the final LayerNorm's scale frozen, through that scale,"
        " through later attention at END, through later neurons. The four add up to the total"
    )
    return Table(caption, columns, rows)
