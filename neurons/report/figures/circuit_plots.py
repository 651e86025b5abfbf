"""Figures of a circuit: the circuit drawn, its measures beside the random ones, attention, residuals, inputs."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurons.circuit.graph import Edge, Layout, Node
from neurons.circuit.results import Evaluation, PreActivation, Projection, Role, SizeCurve
from neurons.report.figures.plots import (
    ACCENT,
    COLUMN,
    LAYER_COLOURS,
    LOWERS,
    NEUTRAL,
    NO_DATA,
    RAISES,
    START_YEAR,
    WIDE,
    add_axes,
    draw_colour_bar,
    limit,
    new_figure,
    styled,
)
from neurons.rounding import descending

HEAD, MLP, END_POINTS = LAYER_COLOURS[0], LAYER_COLOURS[1], "#ffffff"
SPACING = 0.36
"""Between the nodes of one layer and position, where positions are 1 to 6 apart."""
YEARS_COLOURS = "viridis"


@styled
def circuit_figure(layout: Layout, nodes: Sequence[Node], edges: Mapping[Edge, float]) -> Figure:
    """Nodes at position (across) and layer (up); edges as wide as the root of their effect, red where they work
    towards the answer. Without effects edges are grey. Labels: `9.1` is head 1 of layer 9, `m10` an MLP."""
    places = _places(layout, nodes)
    figure = new_figure(WIDE, 1.1 + 0.33 * (layout.n_layers + 1))
    axes = add_axes(figure, left=0.55, bottom=0.35, top=0.1)
    largest = max((abs(effect) for effect in edges.values() if not np.isnan(effect)), default=0.0) or 1.0
    for edge, effect in sorted(edges.items(), key=lambda entry: abs(np.nan_to_num(entry[1]))):
        _draw_edge(axes, places, edge, effect / largest)
    for node, place in places.items():
        _draw_node(axes, node, place)
    columns = _columns(layout, nodes)
    axes.set(
        xticks=[(left + right) / 2 for left, right in columns.values()], xticklabels=list(columns),
        yticks=range(layout.n_layers), ylabel="layer",
        xlim=(-0.5, max(right for _, right in columns.values()) + 0.5), ylim=(-1.6, layout.n_layers + 0.4),
    )  # fmt: skip
    return figure


def _columns(layout: Layout, nodes: Sequence[Node]) -> dict[str, tuple[float, float]]:
    """Where each position that has nodes begins and ends: its heads, then its MLPs."""
    found, x = {}, 0.0
    for position in layout.positions:
        heads = [node.layer for node in nodes if node.position == position and node.head is not None]
        if position in (layout.positions[0], layout.positions[-1]) or any(n.position == position for n in nodes):
            widest = max((heads.count(layer) for layer in heads), default=0)
            found[position] = (x, x + SPACING * widest)
            x += SPACING * widest + 1.2
    return found


def _places(layout: Layout, nodes: Sequence[Node]) -> dict[Node | None, tuple[float, float]]:
    columns = _columns(layout, nodes)
    places: dict[Node | None, tuple[float, float]] = {None: (columns[layout.positions[-1]][1], float(layout.n_layers))}
    for node in nodes:
        left, right = columns[node.position]
        beside = [n for n in nodes if n.position == node.position and n.layer == node.layer and n.head is not None]
        lift = -1.0 if node.layer < 0 else node.layer + 0.25 if node.head is None else node.layer - 0.2
        places[node] = (right if node.head is None else left + SPACING * beside.index(node), lift)
    return places


def _draw_edge(axes: Axes, places: Mapping[Node | None, tuple[float, float]], edge: Edge, effect: float) -> None:
    if edge.sender not in places or edge.receiver not in places:
        return
    colour = NO_DATA if np.isnan(effect) else RAISES if effect < 0 else LOWERS
    size = 0.3 if np.isnan(effect) else abs(effect)
    style = {"q": (0, (1, 1)), "k": (0, (3, 1))}.get(edge.slot, "-")
    (x0, y0), (x1, y1) = places[edge.sender], places[edge.receiver]
    bend = 0.25 if x0 == x1 and abs(y1 - y0) > 1.5 else 0.0
    axes.annotate(
        "", (x1, y1), (x0, y0),
        arrowprops={
            "arrowstyle": "-", "color": colour, "linewidth": 0.4 + 3 * size**0.5, "alpha": 0.35 + 0.6 * size,
            "linestyle": style, "connectionstyle": f"arc3,rad={-bend}", "shrinkA": 5, "shrinkB": 5,
        },
    )  # fmt: skip


def _draw_node(axes: Axes, node: Node | None, place: tuple[float, float]) -> None:
    label = "logits" if node is None else node.component.removeprefix("a").replace(".h", ".")
    end = node is None or node.layer < 0
    colour = END_POINTS if end else MLP if node is not None and node.head is None else HEAD
    shape = "square,pad=0.3" if end or (node is not None and node.head is None) else "round,pad=0.3"
    box = {"boxstyle": shape, "facecolor": colour, "edgecolor": "black", "linewidth": 0.5}
    axes.text(*place, label, ha="center", va="center", color="black" if end else "white", bbox=box)


@styled
def evaluation_figure(evaluation: Evaluation) -> Figure:
    """Probability difference of clean run, circuit, complement, corrupted run and random circuits."""
    figure = new_figure(COLUMN, 1.6)
    axes = add_axes(figure, left=0.95, top=0.1)
    cases = {
        "clean run": evaluation.model,
        "circuit": evaluation.alone,
        "complement": evaluation.complement,
        "corrupted run": evaluation.counterfactual,
    }
    for place, kept in enumerate(cases.values()):
        axes.barh(place, kept.probability_difference, 0.6, color=ACCENT if place == 1 else NEUTRAL)
    if evaluation.random:
        spread = np.linspace(-0.25, 0.25, len(evaluation.random))
        axes.plot(evaluation.random, len(cases) + spread, ".", color=HEAD, markersize=2)
    axes.axvline(0, color="black", linewidth=0.6)
    labels = [*cases, *(["random"] if evaluation.random else [])]
    axes.set(yticks=range(len(labels)), yticklabels=labels, xlabel="probability difference")
    axes.invert_yaxis()
    return figure


@styled
def size_figure(curves: Sequence[SizeCurve], clean: float, corrupted: float) -> Figure:
    """Faithfulness of circuits against their number of edges after pruning; of random ones the range."""
    figure = new_figure(WIDE, 2.4)
    axes = add_axes(figure, left=0.6, right=1.5, top=0.1)
    for curve, colour in zip(curves, LAYER_COLOURS, strict=False):
        values = (curve.probability_difference - corrupted) / (clean - corrupted)
        if curve.by == "random":
            axes.fill_between(curve.asked, values.min(1), values.max(1), color=NEUTRAL, alpha=0.5, label=curve.by)
        else:
            axes.plot(curve.edges[:, 0], values[:, 0], ".-", color=colour, label=curve.by)
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set(xscale="log", xlabel="edges", ylabel="faithfulness")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    return figure


@styled
def attention_figure(roles: Sequence[Role], tokens: Sequence[str]) -> Figure:
    """Mean attention of each head from its position (rows) over the prompt's tokens (columns)."""
    heads = [role for role in roles if role.attention is not None]
    figure = new_figure(WIDE, 0.9 + 0.2 * len(heads))
    axes = add_axes(figure, left=1.0, right=0.75, bottom=0.65, top=0.1)
    values = np.stack([role.attention for role in heads if role.attention is not None])
    norm = mpl.colors.Normalize(0, 1)
    axes.imshow(values, cmap="YlGnBu", norm=norm, aspect="auto", interpolation="none")
    axes.set(yticks=range(len(heads)), yticklabels=[str(role.node) for role in heads], xticks=range(len(tokens)))
    axes.set_xticklabels(tokens, rotation=45, ha="right")
    bar = add_axes(figure, left=WIDE - 0.67, right=0.55, bottom=0.65, top=0.1)
    draw_colour_bar(bar, colours="YlGnBu", norm=norm, label="attention")
    return figure


@styled
def projection_figure(projections: Sequence[Projection]) -> Figure:
    """Mean residuals of the start years on their first two principal components, coloured by year."""
    figure = new_figure(WIDE, 2.6)
    share = WIDE / len(projections)
    for place, one in enumerate(projections):
        axes = add_axes(figure, left=0.6 + place * share, right=WIDE - (place + 1) * share + 0.25, top=0.3)
        axes.scatter(one.points[:, 0], one.points[:, 1], c=one.start_years, cmap=YEARS_COLOURS, s=9, linewidths=0)
        for year, point in zip(one.start_years, one.points, strict=True):
            if year % 10 == 0:
                axes.annotate(f"{year:02d}", point, xytext=(2, 2), textcoords="offset points")
        first, second = (f"{100 * part:.0f} %" for part in one.explained)
        axes.set(
            title=f"{one.position}, before layer {one.layer}",
            xlabel=f"component 1 ({first})",
            ylabel=f"component 2 ({second})",
        )
        axes.set(xticks=[], yticks=[])
    return figure


@styled
def input_figure(inputs: PreActivation, *, most: int = 6) -> Figure:
    """A neuron's pre-activation by start year and its components of largest variance."""
    figure = new_figure(COLUMN, 2.5)
    axes = add_axes(figure, top=0.55)
    strongest = descending(inputs.parts.std(1))[:most]
    axes.plot(inputs.start_years, inputs.total - inputs.total.mean(), color="black", label="all")
    for row, colour in zip(strongest, LAYER_COLOURS, strict=False):
        part = inputs.parts[row] - inputs.parts[row].mean()
        axes.plot(inputs.start_years, part, color=colour, linewidth=0.9, label=inputs.components[row])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel=START_YEAR, ylabel="pre-activation − mean")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0, columnspacing=1)
    return figure


@styled
def feed_figure(inputs: Sequence[PreActivation], heads: Sequence[str]) -> Figure:
    """Share of each neuron's tuning that comes directly from each head, of its pre-activation's variance."""
    figure = new_figure(WIDE, 0.9 + 0.18 * len(inputs))
    axes = add_axes(figure, left=0.8, right=0.75, bottom=0.6, top=0.1)
    values = np.array(
        [[one.carried[one.components.index(h)] if h in one.components else np.nan for h in heads] for one in inputs]
    )
    size = limit(values)
    norm = mpl.colors.Normalize(-size, size)
    axes.imshow(values, cmap="RdBu_r", norm=norm, aspect="auto", interpolation="none")
    axes.set(yticks=range(len(inputs)), yticklabels=[str(one.neuron) for one in inputs], xticks=range(len(heads)))
    axes.set_xticklabels(heads, rotation=45, ha="right")
    bar = add_axes(figure, left=WIDE - 0.67, right=0.55, bottom=0.6, top=0.1)
    draw_colour_bar(bar, colours="RdBu_r", norm=norm, label="share")
    return figure
