"""Sufficiency and necessity of a circuit: it alone, all but it, each part left out, random circuits, and other sizes.

The base is the corrupted run. Nodes of the circuit read what the circuit's nodes before them write, on top of the
residual of the corrupted run; every other component keeps its output of the corrupted run. YY's embedding is always the
prompt's own. With clean heads, as in the first evaluation of Hanna, Liu and Variengien (2023), the circuit's heads keep
their outputs of the clean run, whatever their inputs have become, and its MLPs alone run again. A circuit of edges is
stricter: only its edges carry the clean run.
Measures are the published ones, with the softmax over the full vocabulary.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.circuit.edges import EdgeEffects, random_circuits
from neurons.circuit.graph import Circuit, Edge, Node, Slot
from neurons.circuit.paths import ROWS, Patching, depth_first
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
    left_out: dict[str, Kept] = {}
    random: list[float] = []
    total = len(members) + n_random
    for member, change in _without_each(paths, circuit, members):
        left_out[str(member)] = _measured(paths, change)
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
        left_out={str(member): left_out[str(member)] for member in members},
        random=tuple(random),
    )


def _alone(paths: Patching, circuit: Circuit, members: Sequence[Any]) -> Float[Tensor, "P d"]:
    """Return the change of the final residual when these nodes or edges alone carry the clean run."""
    if circuit.by_edges:
        return _along(paths, members)
    return keep_nodes(paths, members, clean_heads=circuit.clean_heads)


def _without_each(
    paths: Patching, circuit: Circuit, members: Sequence[Any]
) -> Iterator[tuple[Any, Float[Tensor, "P d"]]]:
    """Yield each member and the same when all of them but this one carry the clean run."""
    if not circuit.by_edges:
        yield from keep_all_but_each(paths, members, clean_heads=circuit.clean_heads)
        return
    for member in members:
        yield member, _along(paths, [other for other in members if other != member])


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
    end, arrived = paths.layout.positions[-1], _arrived_first(paths)
    written = {embedding(paths): arrived[paths.layout.positions[0]]}
    for group in _by_order(nodes):
        new = _outputs(paths, group, arrived, clean_heads, written, cut)
        arrived = _added(arrived, new)
        written |= new if cut else {}
    return _without(arrived[end], written, cut, None, "in", end)[0]


def keep_all_but_each(
    paths: Patching, nodes: Collection[Node], *, clean_heads: bool = False
) -> Iterator[tuple[Node, Float[Tensor, "P d"]]]:
    """Yield each node and the change of the final residual when all of these nodes but this one run.

    Nodes before the one that is left out run once for all of them; those after it, for all of one depth together.
    """
    groups, arrived, size = list(_by_order(nodes)), _arrived_first(paths), max(1, ROWS // len(paths))
    for place, group in enumerate(groups):
        new = _outputs(paths, group, arrived, clean_heads)
        for start in range(0, len(group), size):
            some = group[start : start + size]
            others = [_added(arrived, {node: new[node] for node in group if node != out}) for out in some]
            each = {position: torch.cat([one[position] for one in others]) for position in arrived}
            for later in groups[place + 1 :]:
                each = _added(each, _outputs(paths, later, each, clean_heads))
            yield from zip(some, each[paths.layout.positions[-1]], strict=True)
        arrived = _added(arrived, new)


Arrived = dict[str, Float[Tensor, "n P d"]]
"""What has changed of the residual at each position, in n variants."""


def _arrived_first(paths: Patching) -> Arrived:
    start = embedding(paths)
    nothing = {position: torch.zeros_like(paths.base.final)[None] for position in paths.layout.positions}
    return nothing | {start.position: paths.change(start)[None]}


def _added(arrived: Arrived, new: Mapping[Node, Float[Tensor, "n P d"]]) -> Arrived:
    after = dict(arrived)
    for node, change in new.items():
        after[node.position] = after[node.position] + change
    return after


def _outputs(
    paths: Patching,
    group: Sequence[Node],
    arrived: Arrived,
    clean_heads: bool,
    written: Mapping[Node, Float[Tensor, "n P d"]] = MappingProxyType({}),
    cut: Sequence[Edge] = (),
) -> dict[Node, Float[Tensor, "n P d"]]:
    """What nodes of one depth write. What its heads read is normalised once for all of them, where nothing is cut."""
    n = len(arrived[paths.layout.positions[0]])
    heads = [node for node in group if node.head is not None]
    if clean_heads:
        found = {node: paths.change(node).expand(n, -1, -1) for node in heads}
    elif cut:
        found = {node: _run(paths, node, arrived, written, cut) for node in heads}
    else:
        inputs = {node: paths.layout.inputs(node) for node in heads}
        positions = dict.fromkeys(position for node in heads for _, position in inputs[node])
        read = {position: paths.read(group[0].layer, position, arrived[position]) for position in positions}
        found = {node: paths.head_reading(node, {one: read[one[1]] for one in inputs[node]}) for node in heads}
    return found | {node: _run(paths, node, arrived, written, cut) for node in group if node.head is None}


def _by_order(nodes: Collection[Node]) -> Iterator[list[Node]]:
    """Yield nodes that cannot read each other together, in the order of depth; embeddings are none that run."""
    groups: dict[int, list[Node]] = {}
    for node in sorted((node for node in nodes if node.layer >= 0), key=depth_first):
        groups.setdefault(node.order, []).append(node)
    yield from groups.values()


def _run(
    paths: Patching,
    node: Node,
    arrived: Arrived,
    written: Mapping[Node, Float[Tensor, "n P d"]],
    cut: Sequence[Edge],
) -> Float[Tensor, "n P d"]:
    changes: dict[tuple[Slot, str], Tensor] = {
        (slot, position): _without(arrived[position], written, cut, node, slot, position)
        for slot, position in paths.layout.inputs(node)
    }
    return paths.again(node, changes)


def _without(
    change: Float[Tensor, "n P d"],
    written: Mapping[Node, Float[Tensor, "n P d"]],
    cut: Sequence[Edge],
    receiver: Node | None,
    slot: Slot,
    position: str,
) -> Float[Tensor, "n P d"]:
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
