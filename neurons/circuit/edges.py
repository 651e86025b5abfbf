"""Effects of all edges of the graph at once, and the circuits that they choose: the first n, or greedily from the
logits. Random circuits to compare with.

Equal effects are in the order of the graph: by position, then by the depth of the sender, then of the receiver.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.circuit.graph import LOGITS, Circuit, Edge, Layout, Node, Slot
from neurons.rounding import descending
from neurons.types import InputError

Choice = Literal["top-n", "greedy"]
Reader = tuple[Node | None, Slot]


@dataclass(frozen=True, eq=False)
class EdgeEffects:
    """The estimated effect of each edge on the probability difference when what it carries comes from the corrupted
    run: negative for what supports the answer.

    effects: for each position a matrix [U, K] of its U senders (`layout.senders`) and K inputs that read there
    (`layout.readers`), both in order of depth; 0 where the sender does not come before the receiver. steps: points of
    the path from the corrupted to the clean embedding; 1 is attribution patching at the clean run.
    """

    layout: Layout
    steps: int
    effects: tuple[Float[np.ndarray, "_U _K"], ...]

    def __len__(self) -> int:
        """The number of edges."""
        return len(self._flat)

    def senders(self, position: str) -> tuple[Node, ...]:
        return self.layout.senders(2 * self.layout.n_layers, position)

    def every_edge(self) -> dict[Edge, float]:
        """Return each edge with its effect, in the order of the graph."""
        return {self._edge(row): effect for row, effect in enumerate(self._flat.tolist())}

    def of_node(self, node: Node) -> float:
        """Return the sum over all edges that leave the node."""
        row = self.senders(node.position).index(node)
        return float(self.effects[self.layout.at(node.position)][row].sum())

    def circuit(self, n: int, choice: Choice = "top-n") -> dict[Edge, float]:
        """Return n edges and their effects, less those on no path from YY's embedding to the logits.

        top-n: those of the largest effects. greedy: from the logits upwards, each time the largest of the edges into
        what is reached. Raises `InputError` for a number that the graph does not have.
        """
        return self.circuits([n], choice)[0]

    def circuits(self, sizes: Sequence[int], choice: Choice = "top-n") -> list[dict[Edge, float]]:
        """Return the circuit of each size."""
        for n in sizes:
            if not 1 <= n <= len(self):
                raise InputError(f"{n} edges asked for: this graph has 1 to {len(self):,}")
        strongest = descending(np.abs(self._flat))
        rows = strongest if choice == "top-n" else self._upwards(strongest, max(sizes))
        return [self._pruned(rows[:n]) for n in sizes]

    def circuit_without_positions(self, n: int) -> dict[Edge, float]:
        """Return what n edges between components stand for, at every position: the circuit of EAP-IG's own graph.

        Their effects are sums over positions. All n where there are fewer.
        """
        every = self.every_edge()
        numbers: dict[tuple[str, str, Slot], int] = {}
        group = np.array([numbers.setdefault(_components(edge), len(numbers)) for edge in every])
        total = np.bincount(group, weights=self._flat)
        chosen = set(descending(np.abs(total))[:n].tolist())
        return self._pruned(np.flatnonzero(np.isin(group, list(chosen))))

    def random_circuits(self, sizes: Sequence[int], rng: np.random.Generator) -> list[dict[Edge, float]]:
        """Return circuits as `greedy` makes them from effects dealt to the edges at random."""
        rows = self._upwards(rng.permutation(len(self)), max(sizes))
        return [self._pruned(rows[:n]) for n in sizes]

    def _pruned(self, rows: Int[np.ndarray, " n"]) -> dict[Edge, float]:
        found = {self._edge(row): float(self._flat[row]) for row in rows.tolist()}
        return {edge: found[edge] for edge in pruned(found, [Node(-1, None, self.layout.positions[0])])}

    @cached_property
    def _real(self) -> tuple[Bool[np.ndarray, "_U _K"], ...]:
        """Which edges there are: those into a later component."""
        return tuple(_comes_before(self.layout, position) for position in self.layout.positions)

    @cached_property
    def _flat(self) -> Float[np.ndarray, " E"]:
        """Every edge's effect, in the order of the graph."""
        return np.concatenate([matrix[real] for matrix, real in zip(self.effects, self._real, strict=True)])

    @cached_property
    def _places(self) -> Int[np.ndarray, "E 3"]:
        """Position, sender and reader of every edge."""
        found = [np.argwhere(real) for real in self._real]
        return np.concatenate([np.insert(places, 0, at, axis=1) for at, places in enumerate(found)])

    def _edge(self, row: int) -> Edge:
        at, sender, reader = self._places[row].tolist()
        receiver, slot = self._names[at][1][reader]
        return Edge(self._names[at][0][sender], receiver, slot)

    @cached_property
    def _names(self) -> list[tuple[tuple[Node, ...], tuple[Reader, ...]]]:
        return [(self.senders(position), self.layout.readers(position)) for position in self.layout.positions]

    @cached_property
    def _into(self) -> dict[Node | None, Int[np.ndarray, " n"]]:
        """Rows of the edges into each component."""
        numbers: dict[Node | None, int] = {}
        of_reader = [
            np.array([numbers.setdefault(node, len(numbers)) for node, _ in names[1]]) for names in self._names
        ]
        receiver = np.concatenate(
            [of_reader[at][self._places[self._places[:, 0] == at, 2]] for at in range(len(of_reader))]
        )
        order = np.argsort(receiver, kind="stable")
        parts = np.split(order, np.searchsorted(receiver[order], np.arange(1, len(numbers))))
        return dict(zip(numbers, parts, strict=True))

    def _upwards(self, order: Int[np.ndarray, " E"], most: int) -> Int[np.ndarray, " n"]:
        """Rows taken from the logits upwards, each time the first in `order` of the edges into what is reached."""
        place = np.empty(len(order), int)
        place[order] = np.arange(len(order))
        waiting, reached, chosen = place[self._into[None]].tolist(), set[Node](), list[int]()
        heapq.heapify(waiting)
        while waiting and len(chosen) < most:
            row = int(order[heapq.heappop(waiting)])
            chosen.append(row)
            at, sender, _ = self._places[row].tolist()
            node = self._names[at][0][sender]
            if node not in reached:
                reached.add(node)
                for one in place[self._into.get(node, [])].tolist():
                    heapq.heappush(waiting, one)
        return np.array(chosen)


def _components(edge: Edge) -> tuple[str, str, Slot]:
    return edge.sender.component, edge.receiver.component if edge.receiver else LOGITS, edge.slot


def _comes_before(layout: Layout, position: str) -> Bool[np.ndarray, "U K"]:
    senders, readers = layout.senders(2 * layout.n_layers, position), layout.readers(position)
    orders = np.array([2 * layout.n_layers if node is None else node.order for node, _ in readers])
    return np.array([node.order for node in senders])[:, None] < orders


def pruned(edges: Iterable[Edge], sources: Collection[Node]) -> tuple[Edge, ...]:
    """Keep the edges that lie on a path from one of the sources to the logits, in their order."""
    edges = tuple(edges)
    reached: set[Node] = set(sources)
    leading: set[Node | None] = {None}
    for edge in sorted(edges, key=lambda edge: edge.sender.order):
        if edge.sender in reached and edge.receiver is not None:
            reached.add(edge.receiver)
    for edge in sorted(edges, key=lambda edge: -edge.sender.order):
        if edge.receiver in leading:
            leading.add(edge.sender)
    return tuple(edge for edge in edges if edge.sender in reached and edge.receiver in leading)


def levels(edges: Iterable[Edge]) -> dict[Node, int]:
    """Return the fewest edges between each sender and the logits; the edges all lead there."""
    found: dict[Node | None, int] = {None: 0}
    for edge in sorted(edges, key=lambda edge: -edge.sender.order):
        found[edge.sender] = min(found.get(edge.sender, found[edge.receiver] + 1), found[edge.receiver] + 1)
    return {node: level for node, level in found.items() if node is not None}


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
