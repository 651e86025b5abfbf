"""A circuit as a file of other tools: the JSON of EAP-IG's `Graph`, and GraphML.

EAP-IG's graph has no positions: an edge is in it if it is at any position, and its score is the sum over positions.
Scores there are effects on the negative probability difference, as EAP-IG's loss has it: positive for what supports
the answer. The graph holds every edge that the model has; of an edge without an effect the score is 0.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neurons.circuit.graph import LOGITS, Edge, Node
from neurons.circuit.results import CircuitStudy
from neurons.types import InputError

GRAPHML = "http://graphml.graphdrawing.org/xmlns"


def check_export(path: Path) -> Path:
    """Return the path; raises `InputError` for a file name of neither format."""
    if path.suffix not in {".json", ".graphml"}:
        raise InputError(f"cannot export to {path}: end the name with .json (EAP-IG's graph) or .graphml")
    return path


def export_circuit(study: CircuitStudy, path: Path, *, d_model: int) -> None:
    """Write the circuit in the format that the file's name ends with; raises `InputError` where it cannot."""
    graph = check_export(path).suffix == ".json"
    text = json.dumps(eap_ig_graph(study, d_model=d_model)) if graph else graphml(study)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot export to {path}: {error.strerror or error}") from None


def eap_ig_graph(study: CircuitStudy, *, d_model: int) -> dict[str, Any]:
    """Return what EAP-IG's `Graph.from_json` reads: `cfg`, `nodes` and `edges`."""
    where = study.layout
    kept = {_without_positions(edge) for edge in study.circuit.edges}
    inside = {_name(node) for node in study.circuit.nodes} | {LOGITS}
    scores = dict.fromkeys(_every_edge(study), 0.0)
    for edge, effect in _effects(study).items():
        scores[_without_positions(edge)] -= effect
    nodes = ["input", *(_name(node) for node in where.components(where.positions[-1])), LOGITS]
    return {
        "cfg": {
            "n_layers": where.n_layers, "n_heads": where.n_heads, "parallel_attn_mlp": False, "d_model": d_model,
        },
        "nodes": {name: {"in_graph": name in inside} for name in nodes},
        "edges": {name: {"score": score, "in_graph": name in kept} for name, score in scores.items()},
    }  # fmt: skip


def _effects(study: CircuitStudy) -> Mapping[Edge, float]:
    """Effects of the method that found the circuit, of all edges where it gives them."""
    found = study.found
    if found is None:
        return {}
    if found.search.method == "eap-ig" and study.edge_effects is not None:
        return study.edge_effects.every_edge()
    return dict(zip(found.edges, found.edge_effect.tolist(), strict=True))


def _every_edge(study: CircuitStudy) -> Iterator[str]:
    """Names of all edges of the graph without positions."""
    where = study.layout
    components = (Node(-1, None, ""), *where.components(where.positions[-1]))
    for receiver in [*components[1:], None]:
        for sender in components:
            if receiver is None:
                yield f"{_name(sender)}->{LOGITS}"
            elif sender.order < receiver.order:
                for slot in "qkv" if receiver.head is not None else [""]:
                    yield f"{_name(sender)}->{_name(receiver)}{f'<{slot}>' if slot else ''}"


def _without_positions(edge: Edge) -> str:
    """`a9.h1->m10`, `input->a0.h3<v>`, `m11->logits`."""
    receiver = LOGITS if edge.receiver is None else _name(edge.receiver)
    return f"{_name(edge.sender)}->{receiver}" + ("" if edge.slot == "in" else f"<{edge.slot}>")


def _name(node: Node) -> str:
    return "input" if node.layer < 0 else node.component


def graphml(study: CircuitStudy) -> str:
    """Return the circuit with its positions as GraphML: layer, head and position of nodes, effects of edges."""
    root = ET.Element("graphml", xmlns=GRAPHML)
    keys = {"component": "string", "layer": "int", "head": "int", "position": "string"}
    for name, of_type in keys.items():
        ET.SubElement(root, "key", {"id": name, "for": "node", "attr.name": name, "attr.type": of_type})
    for name, of_type in {"slot": "string", "effect": "double"}.items():
        ET.SubElement(root, "key", {"id": name, "for": "edge", "attr.name": name, "attr.type": of_type})
    graph = ET.SubElement(root, "graph", id=study.circuit.name, edgedefault="directed")
    for node in study.circuit.nodes:
        values = {"component": node.component, "layer": node.layer, "head": node.head, "position": node.position}
        _element(graph, "node", {"id": str(node)}, values)
    _element(graph, "node", {"id": LOGITS}, {"component": LOGITS, "position": study.layout.positions[-1]})
    effects = _effects(study)
    for edge in study.circuit.edges:
        ends = {"source": str(edge.sender), "target": LOGITS if edge.receiver is None else str(edge.receiver)}
        _element(graph, "edge", ends, {"slot": edge.slot, "effect": effects.get(edge)})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _element(graph: ET.Element, name: str, attributes: dict[str, str], values: Mapping[str, object]) -> None:
    made = ET.SubElement(graph, name, attributes)
    for key, value in values.items():
        if value is not None:
            ET.SubElement(made, "data", key=key).text = str(value)
