"""The page of a circuit: drawn, measured, its parts' roles, and what feeds the neurons."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from neurons.circuit.graph import Edge
from neurons.circuit.results import CircuitStudy, Evaluation, Kept, PreActivation, Role
from neurons.circuit.search_results import NEURON_THRESHOLD, Found
from neurons.report.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Gallery,
    Inline,
    Page,
    Picture,
    Section,
    Table,
    Text,
    number,
)
from neurons.report.figures import circuit_plots, plots
from neurons.rounding import descending

KEY = "circuit"
STRONGEST = 6
"""Parts shown for each neuron."""
MOST_NEURONS = 30


def circuit_page(study: CircuitStudy, tokens: Sequence[str]) -> Page:
    """tokens: the template's, as the attention figure names them; as many as a prompt has."""
    sections = [
        Section("The circuit", _drawing(study)),
        Section("How much it carries", _evaluation(study.evaluation)),
        Section("Nodes", (_node_table(study),)),
        Section("Edges", _edge_table(study)),
        Section("What its parts do", _roles(study, tokens)),
    ]
    if study.found is not None:
        sections.append(Section("Its neurons", (_neuron_table(study.found),)))
    if study.inputs:
        sections.append(Section("What feeds the neurons", _inputs(study)))
    return Page(key=KEY, title="Circuit", lead=_lead(study), sections=tuple(sections), data=study.to_json())


def _lead(study: CircuitStudy) -> str:
    one = study.evaluation
    found = "found backwards from the logits" if study.found else f"given as {study.circuit.name}"
    return (
        f"{len(study.circuit.nodes)} nodes, {found}, keep {number(100 * one.share, decimals=1)} % of the model's"
        f" probability difference when everything else comes from the 01-run ({one.n_prompts} prompts)."
    )


def _drawing(study: CircuitStudy) -> tuple[Block, ...]:
    draw = partial(circuit_plots.circuit_figure, study.layout, study.circuit.nodes, _edge_effects(study))
    alt = f"The circuit: {', '.join(map(str, study.circuit.nodes))}."
    caption = (
        "Nodes at their position (across) and layer (up): heads as layer.head, MLPs as m and layer. Edges are the wider"
        " the more the behaviour changes when what they carry comes from the 01-run; red: the answer gets worse without"
        " it, blue: better, grey: not measured. Solid: into an MLP, a head's values or the logits; dotted: a query;"
        " dashed: a key."
    )
    return (Gallery((Picture("circuit", draw, alt, caption, wide=True),)),)


def _edge_effects(study: CircuitStudy) -> Mapping[Edge, float]:
    if study.found is None:
        return dict.fromkeys(study.circuit.edges, float("nan"))
    return dict(zip(study.found.edges, study.found.edge_effect.tolist(), strict=True))


def _evaluation(one: Evaluation) -> tuple[Block, ...]:
    entries: list[tuple[str, Inline]] = [
        ("model", _measures(one.model)),
        ("circuit alone", _measures(one.alone)),
        *([("its edges alone", _measures(one.edges_alone))] if one.edges_alone else []),
        ("all but the circuit", _measures(one.complement)),
        ("01-run", _measures(one.counterfactual)),
        ("share of the model's", f"{number(100 * one.share, decimals=1)} %"),
        ("way from 01-run to model", f"{number(100 * one.recovered, decimals=1)} %"),
    ]
    band = one.random_band
    if band:
        told = f"{number(band['mean'])} ({number(band['low'])} to {number(band['high'])})"
        entries.append((f"{len(one.random)} random circuits", told))
    if one.circuit.published:
        published = one.circuit.published
        told = f"{number(100 * published['probability_difference'], decimals=1)} %,"
        entries.append(("published", f"{told} {number(100 * published['share'], decimals=1)} % of the model's"))
    picture = Picture(
        "circuit-kept",
        partial(circuit_plots.evaluation_figure, one),
        f"Probability difference of the model {number(one.model.probability_difference)}, of the circuit alone"
        f" {number(one.alone.probability_difference)}.",
        "Probability difference; each dot is a random circuit with as many heads and MLPs at each position.",
    )
    note = Text(
        (
            "Probability difference, then cutoff sharpness. Kept parts run on what the kept ones before them write;"
            " all others write what they wrote on the 01-counterfactual.",
        )
    )
    return Facts(tuple(entries)), note, Gallery((picture,))


def _measures(kept: Kept) -> str:
    return f"{number(kept.probability_difference, decimals=3)}, {number(kept.cutoff_sharpness, decimals=4)}"


def _node_table(study: CircuitStudy) -> Table:
    without = study.evaluation.left_out
    alone = study.evaluation.alone.probability_difference
    effects: dict[str, tuple[float | None, float | None, int | None]] = {}
    if study.found is not None:
        found = study.found
        for node, effect, level in zip(found.nodes, found.node_effect.tolist(), found.level, strict=True):
            effects[str(node)] = (effect, effect / found.whole, level)
    rows: list[tuple[Cell, ...]] = []
    for node in study.circuit.nodes:
        left = without.get(str(node))
        change = None if left is None else left.probability_difference - alone
        rows.append((node.component, node.position, *effects.get(str(node), (None, None, None)), change))
    columns = (
        Column("node"),
        Column("position"),
        Column("effect", "number", "change along the circuit's edges when the node comes from the 01-run"),
        Column("share", "number", "of the whole change between prompt and 01-run"),
        Column("level", "count", "edges between it and the logits"),
        Column("left out", "number", "change of the circuit's probability difference without the node"),
    )
    return Table("Probability differences; the first two among the 100 years.", columns, tuple(rows))


def _edge_table(study: CircuitStudy) -> tuple[Block, ...]:
    if study.found is None:
        if not study.circuit.edges:
            return (Text(("The circuit was given as nodes: what they write reaches every kept node after them.",)),)
        rows: tuple[tuple[Cell, ...], ...] = tuple((str(edge.sender), edge.target) for edge in study.circuit.edges)
        return (Table("", (Column("from"), Column("to")), rows),)
    entries = study.found.to_json()["edges"]
    columns = (Column("from"), Column("to"), Column("effect", "number"), Column("share", "number"))
    rows = tuple((entry["from"], entry["to"], entry["effect"], entry["share"]) for entry in entries)
    search = study.found.search
    closed = study.found.unopened
    note = f"Depth {search.depth}, threshold {search.threshold:g} of the whole change."
    if closed:
        note += f" {len(closed)} inputs were left closed, as {search.breadth} at most are opened a level."
    return Text((note,)), Table("", columns, rows, interactive=True)


def _neuron_table(found: Found) -> Table:
    """The strongest neurons of the circuit's MLPs."""
    columns = (
        Column("neuron"),
        Column("effect", "number", "change when its direct write to the logits comes from the 01-run"),
        Column("share", "number"),
    )
    entries = list(zip(found.neurons, found.neuron_effect.tolist(), strict=True))
    rows = tuple((str(neuron), effect, effect / found.whole) for neuron, effect in entries[:MOST_NEURONS])
    share = number(100 * NEURON_THRESHOLD, decimals=1)
    caption = f"{len(entries)} neurons carry at least {share} % of the change on their direct path; the strongest:"
    return Table(caption, columns, rows)


def _roles(study: CircuitStudy, tokens: Sequence[str]) -> tuple[Block, ...]:
    columns = (
        Column("node"),
        Column("attention on YY", "number", "mean over prompts"),
        Column("writes", "text", "the shape that its map correlates with most, at least 0.4"),
        *(Column(f"r {name}", "number") for name in ("triangle", "diagonal", "span limit")),
        Column("size", "number", "root mean square of the centred map, logits"),
    )
    rows = tuple(_role_row(role) for role in study.roles)
    blocks: list[Block] = [
        Text(
            (
                "What each part at END writes, through the final LayerNorm and the unembedding: a map of start year by"
                " year, rows and columns centred, correlated with three shapes. Triangle: 1 for y > YY. Diagonal: a"
                " bell of 5 years around YY. Span limit: −1 for y > YY + 50.",
            )
        ),
        Table("", columns, rows),
    ]
    pictures = _role_pictures(study, tokens)
    return (*blocks, Gallery(pictures))


def _role_row(role: Role) -> tuple[Cell, ...]:
    shape = None if role.written is None else role.shape or "none of them"
    return (
        str(role.node),
        role.on_year,
        shape,
        *(role.correlations.get(name) for name in ("triangle", "diagonal", "span limit")),
        None if role.written is None else role.size,
    )


def _role_pictures(study: CircuitStudy, tokens: Sequence[str]) -> tuple[Picture, ...]:
    pictures = []
    if any(role.attention is not None for role in study.roles):
        pictures.append(
            Picture(
                "circuit-attention",
                partial(circuit_plots.attention_figure, study.roles, tokens),
                "Attention of the circuit's heads over the prompt.",
                "Mean attention of each head from its position.",
                wide=True,
            )
        )
    maps = {str(role.node): role.written for role in study.roles if role.written is not None and role.node.head is None}
    if maps:
        years = study.roles[0].start_years
        pictures.append(
            Picture(
                "circuit-maps",
                partial(plots.part_maps, maps, years),
                f"What {', '.join(maps)} write for each start year.",
                "What each MLP adds to the logit of each year y (column) after each start year YY (row).",
                wide=True,
            )
        )
    pictures.append(
        Picture(
            "circuit-projection",
            partial(circuit_plots.projection_figure, study.projections),
            "Mean residuals of the start years on two axes, at YY and at END.",
            "Residuals on the two main axes of the start years' means, from dark (early) to bright (late).",
            wide=True,
        )
    )
    return tuple(pictures)


def _inputs(study: CircuitStudy) -> tuple[Block, ...]:
    heads = [node.component for node in study.circuit.nodes if node.head is not None and node.position == "END"]
    pictures = [
        Picture(
            "circuit-feeds",
            partial(circuit_plots.feed_figure, study.inputs, [*dict.fromkeys(heads)]),
            "Share of each neuron's tuning that each head brings.",
            "How much of each neuron's tuning each head of the circuit brings directly: covariance of its part with the"
            " pre-activation over start years, as a share of the pre-activation's variance.",
            wide=True,
        )
    ]
    if not heads:
        pictures = []
    return (input_table(study.inputs), *([Gallery(tuple(pictures))] if pictures else []))


def input_table(inputs: Sequence[PreActivation]) -> Table:
    """The strongest parts of each neuron's tuning."""
    columns = (Column("neuron"), *(Column(f"{place}.", "text") for place in range(1, STRONGEST + 1)))
    rows = tuple((str(one.neuron), *_strongest(one)) for one in inputs)
    return Table("Shares of the variance of each neuron's pre-activation over start years.", columns, rows)


def _strongest(one: PreActivation) -> tuple[str, ...]:
    carried = np.nan_to_num(one.carried)
    order = descending(np.abs(carried))[:STRONGEST]
    told = [f"{one.components[row]} {number(100 * carried[row], decimals=0)} %" for row in order]
    return (*told, *[""] * (STRONGEST - len(told)))


def input_section(one: PreActivation) -> Section:
    """For a neuron's own page: what makes its pre-activation what it is."""
    picture = Picture(
        f"{one.neuron}-inputs",
        partial(circuit_plots.input_figure, one),
        f"Pre-activation of {one.neuron} by start year, and its strongest parts.",
        "Pre-activation at END by start year, each curve minus its mean, and the parts of it that vary most: heads,"
        " MLPs and the embedding through the LayerNorm with its scale as it was. All parts sum to the whole.",
    )
    return Section("What feeds it", (input_table([one]), Gallery((picture,))))
