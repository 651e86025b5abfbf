"""Circuits as graphs: nodes at positions, edges between them, read from JSON and checked.

A node is a component at a position: `a9.h1@END` (head 1 of layer 9), `m10@END` (an MLP), `embed@YY`. Positions are
`YY`, `YY+1`, ... and `END`; nothing before YY differs between a prompt and its 01-counterfactual.
An edge goes from a node to an input of another: `m10@END` (an MLP's input), `a9.h1.q@END` (a head's query; `.k` and
`.v` for keys and values, read at the position of the edge's sender), or `logits`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neurons.types import InputError

Slot = Literal["in", "q", "k", "v"]
LOGITS = "logits"
END = "END"


@dataclass(frozen=True)
class Node:
    """A component at a position. layer -1 is the embedding (token and position); head None is the layer's MLP."""

    layer: int
    head: int | None
    position: str

    @property
    def order(self) -> int:
        """Place along the depth: a component reads those of lower order. Heads of a layer share one."""
        if self.layer < 0:
            return -1
        return 2 * self.layer + (self.head is None)

    @property
    def component(self) -> str:
        if self.layer < 0:
            return "embed"
        return f"m{self.layer}" if self.head is None else f"a{self.layer}.h{self.head}"

    def __str__(self) -> str:
        return f"{self.component}@{self.position}"


@dataclass(frozen=True)
class Edge:
    """The output of `sender` into one input of `receiver`; receiver None is the logits."""

    sender: Node
    receiver: Node | None
    slot: Slot = "in"

    @property
    def target(self) -> str:
        if self.receiver is None:
            return LOGITS
        slot = "" if self.slot == "in" else f".{self.slot}"
        return f"{self.receiver.component}{slot}@{self.receiver.position}"

    def __str__(self) -> str:
        return f"{self.sender} -> {self.target}"


@dataclass(frozen=True)
class Layout:
    """The nodes that can exist: a model's layers and heads, and the names of the positions from YY to END."""

    n_layers: int
    n_heads: int
    positions: tuple[str, ...]

    def at(self, position: str) -> int:
        """Return a position's place, counted from YY."""
        return self.positions.index(position)

    def components(self, position: str) -> tuple[Node, ...]:
        """Return every head and MLP at a position, in order of depth."""
        layers = range(self.n_layers)
        return tuple(Node(layer, h, position) for layer in layers for h in [*range(self.n_heads), None])

    def senders(self, below: int, position: str) -> tuple[Node, ...]:
        """Return what a component of order `below` can read at a position. Of embeddings only YY's differs in the
        corrupted run.
        """
        embedding = (Node(-1, None, position),) if position == self.positions[0] else ()
        return embedding + tuple(node for node in self.components(position) if node.order < below)

    def inputs(self, receiver: Node) -> tuple[tuple[Slot, str], ...]:
        """Return a node's inputs, each with the position at which it is read."""
        if receiver.head is None:
            return (("in", receiver.position),)
        seen = self.positions[: self.at(receiver.position) + 1]
        keys: list[tuple[Slot, str]] = [("k", position) for position in seen]
        values: list[tuple[Slot, str]] = [("v", position) for position in seen]
        return (("q", receiver.position), *keys, *values)

    def readers(self, position: str) -> tuple[tuple[Node | None, Slot], ...]:
        """Return every input that reads at a position, in order of depth; the node None is the logits.

        Of a layer: the queries of its heads there; the keys that its heads at this position read, then those that its
        heads at the next read, ...; the values likewise; the MLP.
        """
        later = self.positions[self.at(position) :]
        found: list[tuple[Node | None, Slot]] = []
        for layer in range(self.n_layers):
            found += [(Node(layer, head, position), "q") for head in range(self.n_heads)]
            for slot in ("k", "v"):
                found += [(Node(layer, head, at), slot) for at in later for head in range(self.n_heads)]
            found.append((Node(layer, None, position), "in"))
        return (*found, (None, "in")) if position == END else tuple(found)

    def check_node(self, node: Node, entry: str) -> Node:
        """Return the node; raises `InputError` naming the entry if the model has no such node."""
        if node.position not in self.positions:
            raise InputError(f"{entry}: invalid position {node.position!r}: choose among {', '.join(self.positions)}")
        if node.layer >= self.n_layers:
            raise InputError(f"{entry}: layer {node.layer} is not in this model: it has layers 0-{self.n_layers - 1}")
        if node.head is not None and node.head >= self.n_heads:
            raise InputError(f"{entry}: head {node.head} is not in this model: layers have heads 0-{self.n_heads - 1}")
        if node.layer < 0 and node.position != self.positions[0]:
            raise InputError(f"{entry}: only the embedding at {self.positions[0]} differs in the corrupted run")
        return node

    def check_edge(self, edge: Edge, entry: str) -> Edge:
        """Return the edge; raises `InputError` naming the entry if it is impossible."""
        self.check_node(edge.sender, entry)
        if edge.receiver is None:
            if edge.sender.position != self.positions[-1]:
                raise InputError(f"{entry}: the logits read END, not {edge.sender.position}")
            return edge
        self.check_node(edge.receiver, entry)
        if edge.receiver.layer < 0:
            raise InputError(f"{entry}: the embedding has no input")
        if (edge.receiver.head is None) != (edge.slot == "in"):
            raise InputError(
                f"{entry}: name a head's input q, k or v, as in a9.h1.v@END; an MLP has one, as in m10@END"
            )
        here, there = self.at(edge.sender.position), self.at(edge.receiver.position)
        if here > there:
            raise InputError(
                f"{entry}: the sender's position {edge.sender.position} comes after {edge.receiver.position}"
            )
        if edge.slot in ("in", "q") and here != there:
            raise InputError(f"{entry}: only a head's keys and values (k, v) are read at another position")
        if edge.sender.order >= edge.receiver.order:
            raise InputError(f"{entry}: the sender {edge.sender.component} does not come before the receiver")
        return edge


@dataclass(frozen=True)
class Circuit:
    """Nodes, and edges where they are known. source: where it is from; published: what is reported of it.

    How it is evaluated: by_edges, as its edges alone; else by its nodes, of which clean_heads leaves the heads as they
    are in the clean run.
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    by_edges: bool = False
    clean_heads: bool = False
    published: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


def layout(n_layers: int, n_heads: int, n_positions: int) -> Layout:
    """Name the `n_positions` positions from YY to END."""
    between = tuple(f"YY+{i}" for i in range(1, n_positions - 1))
    return Layout(n_layers, n_heads, ("YY", *between, END))


def parse_node(text: Any) -> Node:
    """Read `a9.h1@END`; raises `InputError`."""
    node, slot = _parse_place(text)
    if slot != "in":
        raise InputError(f"invalid node {text!r}: it names an input; write a node like a9.h1@END")
    return node


def parse_edge(sender: Any, target: Any) -> Edge:
    """Read the two ends of an edge; raises `InputError`."""
    start = parse_node(sender)
    if target == LOGITS:
        return Edge(start, None)
    receiver, slot = _parse_place(target)
    return Edge(start, receiver, slot)


_PLACE = re.compile(r"(?:(embed)|m(\d{1,4})|a(\d{1,4})\.h(\d{1,4})(?:\.([qkv]))?)@(YY|YY\+\d{1,4}|END)", re.ASCII)


def _parse_place(text: Any) -> tuple[Node, Slot]:
    match = _PLACE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InputError(f"invalid node {text!r}: write it like a9.h1@END, m10@END or embed@YY")
    embed, mlp, layer, head, slot = match.groups()[:5]
    position = match[6]
    if embed:
        return Node(-1, None, position), "in"
    if mlp:
        return Node(int(mlp), None, position), "in"
    read: Slot = slot or "in"  # type: ignore[assignment]
    return Node(int(layer), int(head), position), read


def read_circuit(path: Path, where: Layout) -> Circuit:
    """Read a circuit from JSON: `nodes` (`"m10@END"`, or objects with `node` and `position`) and/or `edges`.

    `neurons circuit --json` prints such a circuit. Without `nodes` the circuit is its edges. Raises `InputError`
    for an invalid file, naming the entry that is malformed or impossible.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"circuit {path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise InputError(f"circuit {path} is not JSON: give a file that `neurons circuit --json` printed") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(k, []), list) for k in ("nodes", "edges")):
        raise InputError(f'circuit {path} is not a circuit: it must have a list "nodes" or "edges"')
    return circuit_of(content, where, name=path.name)


def circuit_of(content: Mapping[str, Any], where: Layout, *, name: str) -> Circuit:
    """Make the circuit that nodes and edges as in JSON describe; see `read_circuit`."""
    nodes = [_node_entry(entry, i, where) for i, entry in enumerate(content.get("nodes", []))]
    edges = [_edge_entry(entry, i, where) for i, entry in enumerate(content.get("edges", []))]
    if not nodes and not edges:
        raise InputError(f'circuit {name} is empty: list nodes like "m10@END" or edges')
    ends = [node for edge in edges for node in (edge.sender, edge.receiver) if node is not None]
    members = tuple(dict.fromkeys(nodes or ends))
    return Circuit(name, members, tuple(dict.fromkeys(edges)), by_edges=not nodes)


def _node_entry(entry: Any, place: int, where: Layout) -> Node:
    text = entry
    if isinstance(entry, dict):
        text = f"{entry.get('node')}@{entry.get('position')}"
    named = f"node {place + 1} ({text})"
    try:
        node = parse_node(text)
    except InputError as error:
        raise InputError(f"node {place + 1}: {error}") from None
    return where.check_node(node, named)


def _edge_entry(entry: Any, place: int, where: Layout) -> Edge:
    if not isinstance(entry, dict) or not {"from", "to"} <= set(entry):
        raise InputError(
            f'edge {place + 1}: {str(entry)[:60]!r} is not an edge: write {{"from": "m9@END", "to": "logits"}}'
        )
    try:
        edge = parse_edge(entry["from"], entry["to"])
    except InputError as error:
        raise InputError(f"edge {place + 1}: {error}") from None
    return where.check_edge(edge, f"edge {place + 1} ({edge})")


_PUBLISHED_NODES: Sequence[str] = (
    *(f"a{name}@END" for name in ("9.h1", "8.h11", "7.h10", "6.h9", "5.h5", "8.h8", "5.h1")),
    *(f"m{layer}@END" for layer in range(8, 12)),
    *(f"m{layer}@YY" for layer in range(4)),
    *(f"a0.h{head}@YY" for head in (1, 3, 5)),
)


def published_circuit(where: Layout) -> Circuit:
    """Return the circuit of GPT-2 small, from Hanna, Liu and Variengien (NeurIPS 2023) and their released code.

    Raises `InputError` for a model without these components.
    """
    found = circuit_of({"nodes": list(_PUBLISHED_NODES)}, where, name="gpt2-small")
    return Circuit(
        found.name,
        found.nodes,
        published={"probability_difference": 0.727, "share": 0.895},
        source="Hanna, Liu and Variengien (NeurIPS 2023)",
    )
