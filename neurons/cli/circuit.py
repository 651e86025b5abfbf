"""`neurons circuit`: find a circuit or evaluate one, export it; decompose a neuron's pre-activation."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from neurons.circuit.edges import Choice
from neurons.circuit.graph import Circuit, layout, published_circuit, read_circuit
from neurons.circuit.results import N_RANDOM, PROMPTS, CircuitStudy, PreActivation
from neurons.circuit.search_results import BREADTH, DEPTH, EDGES, THRESHOLD, Method, Search
from neurons.cli.common import JsonOption, print_json, print_table
from neurons.cli.options import on_study
from neurons.report.circuit_files import check_export, export_circuit
from neurons.rounding import descending
from neurons.study.study import Study
from neurons.types import NeuronId, check_choice

PUBLISHED = "gpt2-small"
SHOWN = 8


DepthOption = Annotated[int, typer.Option("--depth", help="Most edges between a node and the logits.")]
ThresholdOption = Annotated[
    float, typer.Option("--threshold", help="Least share of the clean-to-corrupted change that an edge must carry.")
]
BreadthOption = Annotated[
    int, typer.Option("--breadth", help="Most inputs expanded at each level, the strongest first.")
]
MethodOption = Annotated[
    str,
    typer.Option(
        "--method", help="How the circuit is found: path-patching, or eap-ig (edge attribution, integrated gradients)."
    ),
]
EdgesOption = Annotated[int, typer.Option("--edges", help="With eap-ig: number of edges, before pruning.")]
ChooseOption = Annotated[
    str,
    typer.Option("--choose", help="With eap-ig: top-n (the largest effects), or greedy (upwards from the logits)."),
]
EvaluateOption = Annotated[
    str,
    typer.Option(
        "--evaluate",
        help="How the circuit alone is run: nodes (all from kept nodes), or clean-heads (its heads wholly clean).",
    ),
]
ExportOption = Annotated[
    Path | None,
    typer.Option("--export", help="Also write the circuit to this file: .json (as EAP-IG's graph) or .graphml."),
]
GivenOption = Annotated[
    str | None,
    typer.Option("--circuit", help="Evaluate this circuit instead: a JSON file, or gpt2-small (the published one)."),
]
NeuronOption = Annotated[
    str | None, typer.Option("--neuron", help="Decompose only this neuron's pre-activation, like L10N7.")
]
OnPromptsOption = Annotated[
    int | None,
    typer.Option(
        "--on-prompts", min=1, help="Prompts run, spread over start years and nouns.", show_default=str(PROMPTS)
    ),
]
RandomOption = Annotated[
    int | None,
    typer.Option(
        "--random", min=0, help="Random circuits of the same size to compare with.", show_default=str(N_RANDOM)
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(circuit)


@on_study()
def circuit(
    study: Study,
    depth: DepthOption = DEPTH,
    threshold: ThresholdOption = THRESHOLD,
    breadth: BreadthOption = BREADTH,
    method: MethodOption = "path-patching",
    edges: EdgesOption = EDGES,
    choice: ChooseOption = "top-n",
    given: GivenOption = None,
    neuron: NeuronOption = None,
    on_prompts: OnPromptsOption = None,
    n_random: RandomOption = None,
    evaluate: EvaluateOption = "nodes",
    export: ExportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find a circuit, or evaluate one.

    By path patching or by edge attribution (EAP-IG).
    """
    search = Search(
        depth, threshold, breadth, check_choice("method", method, Method), edges, check_choice("choice", choice, Choice)
    )
    if export is not None:
        check_export(export)
    clean_heads = check_choice("evaluate", evaluate, Literal["nodes", "clean-heads"]) == "clean-heads"
    if neuron is not None:
        _explain(study, NeuronId.parse(neuron), on_prompts, as_json=as_json)
        return
    found = study.circuit(
        search=search, given=_given(given, study), prompts=on_prompts, random=n_random, clean_heads=clean_heads
    )
    if export is not None:
        export_circuit(found, export, d_model=study.plan.checkpoint.config.d_model)
    if as_json:
        print_json(found.to_json())
    else:
        print_circuit(found)


def _explain(study: Study, neuron: NeuronId, on_prompts: int | None, *, as_json: bool) -> None:
    checkpoint = study.plan.checkpoint
    checkpoint.config.check_neuron(neuron, tuple(range(checkpoint.config.n_layers)))
    explained = study.inputs(neuron, prompts=on_prompts)
    if as_json:
        print_json({"model": checkpoint.name, **explained.to_json()})
    else:
        print_inputs(checkpoint.name, explained)


def _given(text: str | None, study: Study) -> Circuit | None:
    if text is None:
        return None
    config, prompts = study.plan.checkpoint.config, study.plan.prompts
    where = layout(config.n_layers, config.n_heads, prompts.tokens.shape[1] - prompts.year_position)
    return published_circuit(where) if text == PUBLISHED else read_circuit(Path(text), where)


def print_inputs(model: str, found: PreActivation) -> None:
    parts = found.to_json()["parts"]
    parts = [parts[row] for row in descending(np.array([abs(part["share"] or 0.0) for part in parts]))]
    rows = [[part["component"], _percent(part["share"]), f"{part['mean']:+.4f}"] for part in parts]
    print_table(
        f"{model} {found.neuron}: components of the pre-activation at END",
        ["component", "share of tuning", "mean"],
        rows,
        caption="share of tuning: covariance with the pre-activation over start years, divided by its variance; mean:"
        f" over start years, in sum {found.total.mean():+.4f}",
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:+.1f} %"


def print_circuit(study: CircuitStudy) -> None:
    """The nodes, then the measures."""
    whole = study.found.whole if study.found else None
    without, alone = study.evaluation.left_out, study.evaluation.alone.probability_difference
    entries = study.to_json()["nodes"]
    rows = []
    for entry in entries:
        name = f"{entry['node']}@{entry['position']}"
        left = f"{without[name].probability_difference - alone:+.4f}" if name in without else ""
        rows.append([entry["node"], entry["position"], _percent(entry["effect"] / whole) if whole else "", left])
    print_table(
        f"{study.model}: {study.circuit.name} circuit, {len(study.circuit.nodes)} nodes,"
        f" {len(study.circuit.edges)} edges",
        ["node", "position", "share", "necessity"],
        rows,
        left=2,
        caption="share: of the change between clean and corrupted run, along the circuit's edges (eap-ig: estimated,"
        " along all edges); necessity: change of the circuit's probability difference without the node",
    )
    _print_behaviour(study)
    _print_sizes(study)
    if study.found is not None and study.found.neurons:
        strongest = ", ".join(map(str, study.found.neurons[:SHOWN]))
        print(
            f"\n{len(study.found.neurons)} neurons of its MLPs have 0.1 % or more of the change on their direct"
            f" path: {strongest}, ..."
        )


def _print_sizes(study: CircuitStudy) -> None:
    rows = [
        [entry["by"], str(entry["asked"]), f"{entry['edges']:.0f}", f"{entry['probability_difference']:+.4f}",
         f"{100 * entry['recovered']:.1f} %"]
        for entry in study.to_json()["sizes"]
    ]  # fmt: skip
    if rows:
        print()
        print_table(
            "Edges alone, by their number",
            ["chosen by", "edges", "kept", "probability difference", "faithfulness"],
            rows,
            caption="kept: edges on a path from YY to the logits; faithfulness: (circuit - corrupted) / (clean -"
            " corrupted)",
        )


def _print_behaviour(study: CircuitStudy) -> None:
    one = study.evaluation
    cases = {"clean run": one.model, "circuit": one.alone, "complement": one.complement,
             "corrupted run": one.counterfactual}  # fmt: skip
    if one.edges_alone is not None:
        cases["edges of the circuit"] = one.edges_alone
    rows = [[name, f"{k.probability_difference:+.4f}", f"{k.cutoff_sharpness:+.4f}"] for name, k in cases.items()]
    band = one.random_band
    if band:
        rows.append([f"{len(one.random)} random circuits", f"{band['low']:+.4f} .. {band['high']:+.4f}", ""])
    if one.circuit.published:
        rows.append(["published", f"{one.circuit.published['probability_difference']:+.4f}", ""])
    print()
    print_table(
        f"The circuit alone has {100 * one.share:.1f} % of the clean run's probability difference",
        ["", "probability difference", "cutoff sharpness"],
        rows,
    )
