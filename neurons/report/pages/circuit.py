"""The page of a circuit: graph, evaluation, nodes and edges, roles, and inputs of the neurons."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from neurons.circuit.graph import Edge
from neurons.circuit.results import CircuitStudy, PreActivation, Role
from neurons.circuit.search_results import NEURON_THRESHOLD, Found, Method
from neurons.report.blocks import (
    Block,
    Cell,
    Column,
    Gallery,
    Page,
    Picture,
    Section,
    Table,
    Text,
    number,
)
from neurons.report.figures import circuit_plots, plots
from neurons.report.pages.circuit_evaluation import evaluation_blocks, size_blocks
from neurons.rounding import descending

KEY = "circuit"
FOUND_BY: Mapping[Method, str] = {
    "path-patching": "path patching back from the logits",
    "eap-ig": "edge attribution with integrated gradients",
}
STRONGEST = 6
"""Parts shown for each neuron."""
MOST_NEURONS = 30


def circuit_page(study: CircuitStudy, tokens: Sequence[str]) -> Page:
    """tokens: the template's, as the attention figure names them; as many as a prompt has."""
    sections = [
        Section("Graph", _drawing(study)),
        Section("Faithfulness and completeness", evaluation_blocks(study.evaluation)),
        *([Section("Faithfulness by size", size_blocks(study))] if study.sizes else []),
        Section("Nodes", (_node_table(study),)),
        Section("Edges", _edge_table(study)),
        Section("Attention and direct effects of nodes", _roles(study, tokens)),
    ]
    if study.found is not None and study.found.neurons:
        sections.append(Section("Neurons of its MLPs", (_neuron_table(study.found),)))
    if study.inputs:
        sections.append(Section("Inputs of the neurons", _inputs(study)))
    return Page(key=KEY, title="Circuit", lead=_lead(study), sections=tuple(sections), data=study.to_json())


def _lead(study: CircuitStudy) -> str:
    one = study.evaluation
    found = f"found by {FOUND_BY[study.found.search.method]}" if study.found else f"given as {study.circuit.name}"
    return (
        f"{len(study.circuit.nodes)} nodes, {found}, keep {number(100 * one.share, decimals=1)} % of the model's"
        f" probability difference when all other components are patched from the corrupted run ({one.n_prompts}"
        " prompts)."
    )


def _drawing(study: CircuitStudy) -> tuple[Block, ...]:
    draw = partial(circuit_plots.circuit_figure, study.layout, study.circuit.nodes, _edge_effects(study))
    alt = f"The circuit: {', '.join(map(str, study.circuit.nodes))}."
    caption = (
        "Nodes by position (horizontal) and layer (vertical): heads as layer.head, MLPs as m and layer. Width of an"
        " edge: effect on the behaviour when the edge is patched from the corrupted run; red: the behaviour gets"
        " worse, blue: better, grey: not measured. Solid: into an MLP, a head's values or the logits; dotted: into a"
        " query; dashed: into a key."
    )
    return (Gallery((Picture("circuit", draw, alt, caption, wide=True),)),)


def _edge_effects(study: CircuitStudy) -> Mapping[Edge, float]:
    if study.found is None:
        return dict.fromkeys(study.circuit.edges, float("nan"))
    return dict(zip(study.found.edges, study.found.edge_effect.tolist(), strict=True))


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
        Column("effect", "number", "change when what the node sends is patched from the corrupted run"),
        Column("share", "number", "of the change between clean and corrupted run"),
        Column("level", "count", "fewest edges to the logits"),
        Column("necessity", "number", "change of the circuit's probability difference without the node"),
    )
    estimated = study.found is not None and study.found.search.method == "eap-ig"
    what = "estimated, along all edges" if estimated else "along the circuit's edges, among the 100 years alone"
    return Table(f"Changes of probability difference; effect and share: {what}", columns, tuple(rows))


def _edge_table(study: CircuitStudy) -> tuple[Block, ...]:
    if study.found is None:
        if not study.circuit.edges:
            return (Text(("The circuit is given by its nodes: each receives the outputs of all earlier ones.",)),)
        rows: tuple[tuple[Cell, ...], ...] = tuple((str(edge.sender), edge.target) for edge in study.circuit.edges)
        return (Table("", (Column("from"), Column("to")), rows),)
    entries = study.found.to_json()["edges"]
    columns = (Column("from"), Column("to"), Column("effect", "number"), Column("share", "number"))
    rows = tuple((entry["from"], entry["to"], entry["effect"], entry["share"]) for entry in entries)
    return Text((_search_note(study.found),)), Table("", columns, rows, interactive=True)


def _search_note(found: Found) -> str:
    search, closed = found.search, found.unopened
    if search.method == "eap-ig":
        how = "of the largest effects" if search.choice == "top-n" else "chosen greedily from the logits"
        return f"{search.edges} edges {how}, less those on no path from YY's embedding to the logits."
    note = f"Depth {search.depth}; threshold {search.threshold:g} of the change between clean and corrupted run."
    if closed:
        note += f" {len(closed)} inputs were not expanded: at most {search.breadth} are at each level."
    return note


def _neuron_table(found: Found) -> Table:
    """The strongest neurons of the circuit's MLPs."""
    columns = (
        Column("neuron"),
        Column("effect", "number", "change when its direct path to the logits is patched from the corrupted run"),
        Column("share", "number"),
    )
    entries = list(zip(found.neurons, found.neuron_effect.tolist(), strict=True))
    rows = tuple((str(neuron), effect, effect / found.whole) for neuron, effect in entries[:MOST_NEURONS])
    share = number(100 * NEURON_THRESHOLD, decimals=1)
    caption = f"Neurons of largest direct effect, of the {len(entries)} with at least {share} % of the change"
    return Table(caption, columns, rows)


def _roles(study: CircuitStudy, tokens: Sequence[str]) -> tuple[Block, ...]:
    columns = (
        Column("node"),
        Column("attention on YY", "number", "mean over prompts"),
        Column("shape", "text", "the pattern of largest correlation with its map, at least 0.4"),
        *(Column(f"r {name}", "number") for name in ("triangle", "diagonal", "span limit")),
        Column("RMS", "number", "root mean square of the centred map, logits"),
    )
    rows = tuple(_role_row(role) for role in study.roles)
    blocks: list[Block] = [
        Text(
            (
                "Direct effect of each node at END, through the final LayerNorm and the unembedding: a map of start"
                " year by year, centred over rows and columns, and its correlation with three patterns. Triangle: 1"
                " for y > YY. Diagonal: a Gaussian of 5 years around YY. Span limit: −1 for y > YY + 50.",
            )
        ),
        Table("", columns, rows),
    ]
    pictures = _role_pictures(study, tokens)
    return (*blocks, Gallery(pictures))


def _role_row(role: Role) -> tuple[Cell, ...]:
    shape = None if role.written is None else role.shape or "none"
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
                "Attention of each head from its position to each token, mean over prompts.",
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
                f"Direct effect of {', '.join(maps)} by start year.",
                "Direct effect of each MLP on the logit of each year y (column) after each start year YY (row).",
                wide=True,
            )
        )
    pictures.append(
        Picture(
            "circuit-projection",
            partial(circuit_plots.projection_figure, study.projections),
            "Mean residuals of the start years on two axes, at YY and at END.",
            "Mean residual stream of each start year on its first two principal components, from dark (early) to"
            " bright (late).",
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
            "Share of each neuron's tuning that comes from each head.",
            "Share of each neuron's tuning that comes directly from each head of the circuit: covariance of the head's"
            " contribution with the pre-activation over start years, divided by the pre-activation's variance.",
            wide=True,
        )
    ]
    if not heads:
        pictures = []
    return (input_table(study.inputs), *([Gallery(tuple(pictures))] if pictures else []))


def input_table(inputs: Sequence[PreActivation]) -> Table:
    """The largest contributions to each neuron's tuning."""
    columns = (Column("neuron"), *(Column(f"{place}.", "text") for place in range(1, STRONGEST + 1)))
    rows = tuple((str(one.neuron), *_strongest(one)) for one in inputs)
    return Table(
        "Components of largest share of the variance of each neuron's pre-activation over start years", columns, rows
    )


def _strongest(one: PreActivation) -> tuple[str, ...]:
    carried = np.nan_to_num(one.carried)
    order = descending(np.abs(carried))[:STRONGEST]
    parts = [f"{one.components[row]} {number(100 * carried[row], decimals=0)} %" for row in order]
    return (*parts, *[""] * (STRONGEST - len(parts)))


def input_section(one: PreActivation) -> Section:
    """For a neuron's own page: the components of its pre-activation."""
    picture = Picture(
        f"{one.neuron}-inputs",
        partial(circuit_plots.input_figure, one),
        f"Pre-activation of {one.neuron} by start year, and its largest components.",
        "Pre-activation at END by start year and its components of largest variance, each minus its mean: heads, MLPs"
        " and the embedding, through the LayerNorm with its scale held fixed. All components sum to the whole.",
    )
    return Section("Components of the pre-activation", (input_table([one]), Gallery((picture,))))
