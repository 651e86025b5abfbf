"""Results of circuit discovery: the settings of a search and the circuit found. No torch."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from neurons.circuit.edges import Choice, pruned
from neurons.circuit.graph import Circuit, Edge, Node
from neurons.rounding import descending
from neurons.types import InputError, NeuronId, check_choice

Method = Literal["path-patching", "eap-ig"]
DEPTH, THRESHOLD, BREADTH = 4, 0.004, 16
EDGES = 200
"""As many as EAP-IG's own greater-than takes, before pruning."""

NEURON_THRESHOLD = 0.001
"""Share of the behaviour's change that a neuron must carry; an MLP has hundreds, so it is less than a component's."""


@dataclass(frozen=True)
class Search:
    """Settings of a search. Raises `InputError` for invalid ones.

    Of path patching: depth in levels, threshold as a share of the behaviour's change, and breadth, the largest number
    of inputs opened for a level, the strongest first. Of eap-ig: the number of edges before pruning, and their choice.
    """

    depth: int = DEPTH
    threshold: float = THRESHOLD
    breadth: int = BREADTH
    method: Method = "path-patching"
    edges: int = EDGES
    choice: Choice = "top-n"

    def __post_init__(self) -> None:
        check_choice("method", self.method, Method)
        check_choice("choice", self.choice, Choice)
        if self.depth < 1:
            raise InputError(f"invalid depth {self.depth}: it must be at least 1 (the direct paths to the logits)")
        if not 0 < self.threshold < 1:
            raise InputError(f"invalid threshold {self.threshold:g}: it must be within 0-1")
        if self.breadth < 1:
            raise InputError(f"invalid breadth {self.breadth}: it must be at least 1")
        if self.edges < 1:
            raise InputError(f"invalid number of edges {self.edges}: it must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """Return the method and its own settings."""
        if self.method == "eap-ig":
            return {"method": self.method, "n_edges": self.edges, "choice": self.choice}
        return {"method": self.method, "depth": self.depth, "threshold": self.threshold, "breadth": self.breadth}


@dataclass(frozen=True, eq=False)
class Found:
    """A discovered circuit. Effects are changes of the probability difference when the node, or the edge's content,
    comes from the corrupted run: negative for what supports the answer. Path patching measures them among the years,
    along the circuit's edges; eap-ig estimates them with the softmax over the full vocabulary, a node's along all its
    edges.

    level: of each node, how many edges lie between it and the logits. whole: the change when everything comes from
    the corrupted run; a share is effect / whole. neurons: those of the circuit's MLPs at END whose own direct path
    to the logits carries `NEURON_THRESHOLD`, the largest first. unopened: inputs that the breadth left closed.
    """

    search: Search
    whole: float
    nodes: tuple[Node, ...]
    node_effect: Float[np.ndarray, " n"]
    level: tuple[int, ...]
    edges: tuple[Edge, ...]
    edge_effect: Float[np.ndarray, " e"]
    neurons: tuple[NeuronId, ...]
    neuron_effect: Float[np.ndarray, " m"]
    unopened: tuple[str, ...] = ()

    @property
    def circuit(self) -> Circuit:
        return Circuit("discovered", self.nodes, self.edges)

    def strongest(self, n: int) -> dict[Edge, float]:
        """Return the n edges of the largest effects, less those on no path from YY's embedding to the logits."""
        rows = descending(np.abs(self.edge_effect))[:n].tolist()
        effects = {self.edges[row]: float(self.edge_effect[row]) for row in rows}
        return {edge: effects[edge] for edge in pruned(effects, [node for node in self.nodes if node.layer < 0])}

    def to_json(self) -> dict[str, Any]:
        """`nodes` and `edges` as in the JSON of `neurons circuit`, the largest effects first."""
        nodes = [
            {
                "node": node.component,
                "position": node.position,
                "effect": float(effect),
                "share": float(effect / self.whole),
                "level": level,
            }
            for node, effect, level in zip(self.nodes, self.node_effect, self.level, strict=True)
        ]
        edges = [
            {
                "from": str(edge.sender),
                "to": edge.target,
                "effect": float(effect),
                "share": float(effect / self.whole),
            }
            for edge, effect in zip(self.edges, self.edge_effect, strict=True)
        ]
        return {
            **self.search.to_json(),
            "whole": self.whole,
            "nodes": _strongest_first(nodes),
            "edges": _strongest_first(edges),
            "neurons": [
                {"neuron": str(neuron), "effect": effect, "share": effect / self.whole}
                for neuron, effect in zip(self.neurons, self.neuron_effect.tolist(), strict=True)
            ],
            "unopened": list(self.unopened),
        }


def _strongest_first(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entries[row] for row in descending(np.abs([entry["effect"] for entry in entries]))]
