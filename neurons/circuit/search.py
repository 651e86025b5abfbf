"""Circuit discovery: backwards from the logits, by exact path patching.

1. Level 1: every component at END is patched on its direct path to the logits; those that change the behaviour
   by the threshold's share are in the circuit.
2. Each next level opens the inputs of the last level's nodes: an MLP's input; a head's query, and its keys and
   values at each position. An input is opened if patching all of it changes the behaviour enough.
3. Inputs are opened late ones first: every component that is read there is patched on its path into that input
   alone, onward along the edges found so far.
4. After `depth` levels, or when no new node is found, nodes that no edge found connects with YY's embedding are left
   out, but for those whose inputs stayed closed. Each node is patched along all edges kept, and each neuron of the
   MLPs that write to the logits along its own direct path.

The share is of the behaviour's change between the clean and the corrupted run (`Patching.whole`). Finished
inputs are kept at `parts`, so an interrupted search continues where it stopped.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from neurons.cache.parts import Parts, parts_beside
from neurons.circuit.edges import pruned
from neurons.circuit.graph import LOGITS, Edge, Node, Slot
from neurons.circuit.paths import Patching, depth_first
from neurons.circuit.search_results import NEURON_THRESHOLD, Found, Search
from neurons.intervention.context import AblationContext
from neurons.rounding import MARGIN, clearly_above, descending, reaches
from neurons.types import InputError, NeuronId, Progress


@dataclass(frozen=True)
class _Input:
    """One thing that a node reads at a position; the node None is the logits."""

    receiver: Node | None
    slot: Slot
    position: str
    level: int

    @property
    def order(self) -> tuple[int, int, str, str]:
        assert self.receiver is not None
        return *depth_first(self.receiver), self.slot, self.position

    def __str__(self) -> str:
        """`a9.h1.v@END at YY`."""
        if self.receiver is None:
            return LOGITS
        return f"{Edge(self.receiver, self.receiver, self.slot).target} at {self.position}"


@dataclass
class _State:
    """What the search has found so far."""

    edges: dict[Edge, float] = field(default_factory=dict)
    level: dict[Node, int] = field(default_factory=dict)
    unopened: list[str] = field(default_factory=list)
    closed: set[Node] = field(default_factory=set)
    """Nodes with an input that the breadth left closed."""


def find_circuit(
    patching: Patching,
    search: Search = Search(),  # noqa: B008 - frozen
    *,
    parts: Parts | None = None,
    progress: Progress | None = None,
) -> Found:
    """Search backwards from the logits. `progress` counts inputs opened, of those known by then.

    Raises `InputError` if the clean and the corrupted run do not differ in behaviour, `CacheError` if the parts'
    folder cannot be written.
    """
    if not clearly_above(abs(patching.whole), 0.0, scale=1.0):
        raise InputError("no circuit to find: on these prompts the corrupted run equals the clean run")
    state, opened = _State(), 0
    waiting = [_Input(None, "in", patching.layout.positions[-1], 1)]
    while waiting:
        level = waiting[0].level
        for place, one in enumerate(waiting):
            _open(patching, state, one, search, parts)
            if progress:
                progress(opened + place + 1, opened + len(waiting))
        opened += len(waiting)
        waiting = _next_inputs(patching, state, search, parts, level) if level < search.depth else []
    return _found(patching, state, search)


def _next_inputs(
    patching: Patching, state: _State, search: Search, parts: Parts | None, level: int
) -> list[_Input]:  # fmt: skip
    """Return the inputs of a level's nodes that matter as a whole, late ones first."""
    newest = [node for node, found in state.level.items() if found == level and node.layer >= 0]
    newest = [newest[row] for row in descending(np.array([_strength(state, node) for node in newest]))]
    onward = list(state.edges)
    found: dict[_Input, float] = {}
    for node in newest[: search.breadth]:
        inputs = [_Input(node, slot, position, level + 1) for slot, position in patching.layout.inputs(node)]
        effects = _kept(parts, f"whole {node}", onward)
        if effects is None:
            effects = np.array([patching.input_effect(node, one.slot, one.position, onward) for one in inputs])
            _keep(parts, f"whole {node}", onward, effects)
        found |= {one: abs(effect) for one, effect in zip(inputs, effects.tolist(), strict=True)}
    enough = [one for one, effect in found.items() if reaches(effect, search.threshold * abs(patching.whole))]
    enough = [enough[row] for row in descending(np.array([found[one] for one in enough]))]
    left = newest[search.breadth :], enough[search.breadth :]
    state.unopened += [str(one) for part in left for one in part]
    state.closed |= {*left[0], *(one.receiver for one in left[1] if one.receiver is not None)}
    return sorted(enough[: search.breadth], key=lambda one: one.order, reverse=True)


def _open(patching: Patching, state: _State, one: _Input, search: Search, parts: Parts | None) -> None:
    """Patch every component into one input and keep the edges whose effect reaches the threshold.

    All see the same onward edges: what is found here starts at earlier components.
    """
    below = 2 * patching.layout.n_layers if one.receiver is None else one.receiver.order
    senders = patching.layout.senders(below, one.position)
    if not senders:
        return
    onward = list(state.edges)
    effects = _kept(parts, str(one), onward)
    if effects is None:
        effects = patching.path_effects(senders, one.receiver, one.slot, onward)
        _keep(parts, str(one), onward, effects)
    for sender, effect in zip(senders, effects.tolist(), strict=True):
        if reaches(abs(effect), search.threshold * abs(patching.whole)):
            state.edges[Edge(sender, one.receiver, one.slot)] = effect
            state.level.setdefault(sender, one.level)


def _strength(state: _State, node: Node) -> float:
    return max(abs(effect) for edge, effect in state.edges.items() if edge.sender == node)


def _found(patching: Patching, state: _State, search: Search) -> Found:
    edges = _connected(patching, state, search)
    ends = {edge.sender for edge in edges}
    nodes = tuple(sorted(ends, key=lambda n: (patching.layout.at(n.position), depth_first(n))))
    neurons = _strong_neurons(patching, edges)
    return Found(
        search=search,
        whole=patching.whole,
        nodes=nodes,
        node_effect=patching.node_effects(nodes, edges),
        level=tuple(state.level[node] for node in nodes),
        edges=edges,
        edge_effect=np.array([state.edges[edge] for edge in edges]),
        neurons=tuple(neurons),
        neuron_effect=np.array(list(neurons.values())),
        unopened=tuple(state.unopened),
    )


def _connected(patching: Patching, state: _State, search: Search) -> tuple[Edge, ...]:
    """Edges on a path from YY's embedding, or from a node whose inputs stayed closed."""
    embedding = Node(-1, None, patching.layout.positions[0])
    deepest = {node for node, level in state.level.items() if level == search.depth}
    return pruned(state.edges, {embedding, *deepest, *state.closed})


def _strong_neurons(patching: Patching, edges: Sequence[Edge]) -> dict[NeuronId, float]:
    """Neurons of the MLPs with an edge to the logits, and what their own direct paths carry, the largest first."""
    found: dict[NeuronId, float] = {}
    for edge in edges:
        if edge.receiver is None and edge.sender.head is None and edge.sender.layer >= 0:
            effects = patching.neuron_effects(edge.sender.layer)
            strong = np.flatnonzero(np.abs(effects) >= NEURON_THRESHOLD * (1 - MARGIN) * abs(patching.whole))
            found |= {NeuronId(edge.sender.layer, i): float(effects[i]) for i in strong.tolist()}
    names = list(found)
    return {names[row]: found[names[row]] for row in descending(np.abs(list(found.values())))}


def search_parts(ctx: AblationContext, patching: Patching) -> Parts:
    """Return where the finished inputs of a search on these prompts are kept."""
    rows = hashlib.sha256(ctx.rows.astype("<i8").tobytes()).hexdigest()
    return parts_beside(
        ctx.cache, "circuit", {"rows": rows, "prompts": len(patching), "dtype": str(ctx.model.W_E.dtype)}
    )


def _prefix(name: str, onward: Sequence[Edge]) -> str:
    """An input's effects depend on the edges onward from it, and on nothing else that was found."""
    return hashlib.sha256("\n".join([name, *sorted(map(str, onward))]).encode()).hexdigest()[:24]


def _keep(parts: Parts | None, name: str, onward: Sequence[Edge], effects: Float[np.ndarray, " n"]) -> None:
    if parts is not None:
        parts.save(_prefix(name, onward), {"effects": effects})


def _kept(parts: Parts | None, name: str, onward: Sequence[Edge]) -> Float[np.ndarray, " n"] | None:
    if parts is None:
        return None
    return next((arrays["effects"] for arrays in parts.load(_prefix(name, onward)) if "effects" in arrays), None)
