"""Sufficiency and necessity of a circuit: it alone, all but it, each part left out, random circuits, and other sizes.

The base is the corrupted run. Nodes of the circuit read what the circuit's nodes before them write, on top of the
residual of the corrupted run; every other component keeps its output of the corrupted run. YY's embedding is always the
prompt's own. With clean heads, as in the first evaluation of Hanna, Liu and Variengien (2023), the circuit's heads keep
their outputs of the clean run, whatever their inputs have become, and its MLPs alone run again. A circuit of edges is
stricter: only its edges carry the clean run.
Measures are the published ones, with the softmax over the full vocabulary.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.circuit.edges import EdgeEffects
from neurons.circuit.graph import Circuit, Edge, Layout, Node, Slot
from neurons.circuit.paths import Patching, depth_first
from neurons.circuit.results import N_RANDOM, CurveBy, Evaluation, Kept, SizeCurve
from neurons.circuit.search_results import Found
from neurons.model.forward import logsumexp, year_logits
from neurons.task.behaviour import Behaviour, measure, year_probabilities
from neurons.types import Progress

SIZES = (10, 20, 50, 100, 200, 500, 1000)
"""Edges of the circuits whose faithfulness is compared, before pruning."""
RANDOM_OF_A_SIZE = 10


@torch.inference_mode()
def evaluate(
    patching: Patching, circuit: Circuit, *, n_random: int = N_RANDOM, seed: int = 0, progress: Progress | None = None
) -> Evaluation:
    """Run the circuit and everything it is compared with. `patching` is as `paths.patching` makes it."""
    paths = patching.swapped()
    parts = [node for node in circuit.nodes if node.layer >= 0]
    members: Sequence[Node] | Sequence[Edge] = circuit.edges if circuit.by_edges else parts
    left_out = {}
    random: list[float] = []
    total = len(members) + n_random
    for member in members:
        rest = [other for other in members if other != member]
        left_out[str(member)] = _measured(paths, _alone(paths, circuit, rest))
        if progress:
            progress(len(left_out), total)
    for drawn in random_circuits(paths.layout, circuit, n_random, np.random.default_rng(seed)):
        random.append(_measured(paths, _alone(paths, circuit, drawn)).probability_difference)
        if progress:
            progress(len(left_out) + len(random), total)
    return Evaluation(
        circuit=circuit,
        n_prompts=len(paths),
        model=_measured(paths, paths.other.final - paths.base.final),
        alone=_measured(paths, _alone(paths, circuit, members)),
        complement=_measured(paths, _all_but(paths, circuit)),
        counterfactual=_measured(paths, torch.zeros_like(paths.base.final)),
        edges_alone=_measured(paths, _along(paths, circuit.edges)) if circuit.edges else None,
        left_out=left_out,
        random=tuple(random),
    )


def _alone(paths: Patching, circuit: Circuit, members: Sequence[Any]) -> Float[Tensor, "P d"]:
    """Return the change of the final residual when these nodes or edges alone carry the clean run."""
    if circuit.by_edges:
        return _along(paths, members)
    return keep_nodes(paths, members, clean_heads=circuit.clean_heads)


def _along(paths: Patching, edges: Sequence[Edge]) -> Float[Tensor, "P d"]:
    """Return the same when the edges alone carry the clean run, from YY's embedding on."""
    start = embedding(paths)
    return paths.follow({start: paths.change(start)[None]}, edges)[0]


def _all_but(paths: Patching, circuit: Circuit) -> Float[Tensor, "P d"]:
    everything = [node for position in paths.layout.positions for node in paths.layout.components(position)]
    if circuit.by_edges:
        return keep_nodes(paths, everything, cut=circuit.edges)
    return keep_nodes(paths, [node for node in everything if node not in set(circuit.nodes)])


def embedding(paths: Patching) -> Node:
    return Node(-1, None, paths.layout.positions[0])


def keep_nodes(
    paths: Patching, nodes: Collection[Node], *, cut: Sequence[Edge] = (), clean_heads: bool = False
) -> Float[Tensor, "P d"]:
    """Return the change of the final residual when these nodes alone run, on what those before them write.

    cut: edges that carry nothing though both their ends run. clean_heads: heads are not run, but keep their outputs of
    the clean run.
    """
    start = embedding(paths)
    written = {start: paths.change(start)}
    arrived = {position: torch.zeros_like(paths.base.final) for position in paths.layout.positions}
    arrived[start.position] = written[start]
    for _, layer_nodes in _by_order(nodes):
        runs = [node for node in layer_nodes if node.layer >= 0]
        held = {node: paths.change(node) for node in runs if clean_heads and node.head is not None}
        new = held | {node: _run(paths, node, arrived, written, cut) for node in runs if node not in held}
        for node, change in new.items():
            arrived[node.position] = arrived[node.position] + change
        written |= new if cut else {}
    return _without(arrived[paths.layout.positions[-1]], written, cut, None, "in", paths.layout.positions[-1])


def _by_order(nodes: Collection[Node]) -> Iterator[tuple[int, list[Node]]]:
    """Yield nodes that cannot read each other together, in the order of depth."""
    groups: dict[int, list[Node]] = {}
    for node in sorted(nodes, key=depth_first):
        groups.setdefault(node.order, []).append(node)
    yield from groups.items()


def _run(
    paths: Patching,
    node: Node,
    arrived: dict[str, Tensor],
    written: dict[Node, Tensor],
    cut: Sequence[Edge],
) -> Float[Tensor, "P d"]:
    changes: dict[tuple[Slot, str], Tensor] = {
        (slot, position): _without(arrived[position], written, cut, node, slot, position)[None]
        for slot, position in paths.layout.inputs(node)
    }
    return paths.again(node, changes)[0]


def _without(
    change: Float[Tensor, "P d"],
    written: dict[Node, Tensor],
    cut: Sequence[Edge],
    receiver: Node | None,
    slot: Slot,
    position: str,
) -> Float[Tensor, "P d"]:
    for edge in cut:
        if edge.receiver == receiver and edge.slot == slot and edge.sender.position == position:
            change = change - written[edge.sender]
    return change


@torch.inference_mode()
def behaviour_alone(patching: Patching, circuit: Circuit) -> Behaviour:
    """Measure each prompt while the circuit's nodes alone run clean and all else keeps the corrupted run's outputs."""
    paths = patching.swapped()
    return _behaviour(paths, _alone(paths, circuit, circuit.edges if circuit.by_edges else circuit.nodes))


@torch.inference_mode()
def size_curves(
    patching: Patching, effects: EdgeEffects, found: Found, *, seed: int = 0, progress: Progress | None = None
) -> tuple[SizeCurve, ...]:
    """Measure what the edges alone carry, for circuits of several sizes by each method and by chance.

    Of path patching, where the circuit was found by it, the first n of its edges by effect.
    """
    sizes, rng = [n for n in SIZES if n <= len(effects)], np.random.default_rng(seed)
    wanted: list[tuple[CurveBy, list[int], list[list[dict[Edge, float]]]]] = [
        ("eap-ig", sizes, [effects.circuits(sizes)]),
        ("eap-ig greedy", sizes, [effects.circuits(sizes, "greedy")]),
        ("random", sizes, [effects.random_circuits(sizes, rng) for _ in range(RANDOM_OF_A_SIZE)]),
    ]
    if found.search.method == "path-patching":
        own = [*(n for n in sizes if n < len(found.edges)), len(found.edges)]
        wanted.append(("path-patching", own, [[found.strongest(n) for n in own]]))
    total, done = sum(len(asked) * len(draws) for _, asked, draws in wanted), count(1)

    def value(circuit: dict[Edge, float]) -> float:
        measured = _measured(paths, _along(paths, list(circuit))).probability_difference
        if progress:
            progress(next(done), total)
        return measured

    paths = patching.swapped()
    return tuple(
        SizeCurve(
            by,
            tuple(asked),
            edges=np.array([[len(circuit) for circuit in draw] for draw in draws]).T,
            probability_difference=np.array([[value(circuit) for circuit in draw] for draw in draws]).T,
        )
        for by, asked, draws in wanted
    )


def _behaviour(paths: Patching, change: Float[Tensor, "P d"]) -> Behaviour:
    residual = paths.base.final + change
    logits = year_logits(paths.model, residual, paths.year_ids).numpy(force=True)
    return measure(year_probabilities(logits, logsumexp(paths.model, residual).numpy(force=True)), paths.start_year)


def _measured(paths: Patching, change: Float[Tensor, "P d"]) -> Kept:
    found = _behaviour(paths, change)
    return Kept(
        float(found.probability_difference @ paths.averaging),
        float(found.cutoff_sharpness @ paths.averaging),
    )


def random_circuits(
    layout: Layout, circuit: Circuit, count: int, rng: np.random.Generator
) -> Iterator[list[Node] | list[Edge]]:
    """Draw circuits of the same size: as many heads and MLPs at each position, or as many edges into each type of
    input.
    """
    draw = partial(_random_edges if circuit.by_edges else _random_nodes, layout, circuit, rng)
    for _ in range(count):
        yield draw()


def _random_nodes(layout: Layout, circuit: Circuit, rng: np.random.Generator) -> list[Node]:
    drawn: list[Node] = []
    members = [node for node in circuit.nodes if node.layer >= 0]
    for position in layout.positions:
        for is_mlp in (False, True):
            choices = [node for node in layout.components(position) if (node.head is None) == is_mlp]
            size = sum(node.position == position and (node.head is None) == is_mlp for node in members)
            drawn += [choices[i] for i in rng.choice(len(choices), size, replace=False)]
    return drawn


def _random_edges(layout: Layout, circuit: Circuit, rng: np.random.Generator) -> list[Edge]:
    """Replace each edge's sender and receiver by others of the same types at the same positions, where possible."""
    return [_random_edge(layout, edge, rng) for edge in circuit.edges]


def _random_edge(layout: Layout, edge: Edge, rng: np.random.Generator) -> Edge:
    receiver, below = None, 2 * layout.n_layers
    if edge.receiver is not None:
        at_start = edge.sender.position == layout.positions[0]
        alike = [
            node
            for node in layout.components(edge.receiver.position)
            if (node.head is None) == (edge.receiver.head is None) and (at_start or node.order > 0)
        ]
        receiver = alike[rng.integers(len(alike))]
        below = receiver.order
    senders = layout.senders(below, edge.sender.position)
    return Edge(senders[rng.integers(len(senders))], receiver, edge.slot)
