"""The sections of the circuit page that measure it: faithfulness, completeness, and other sizes."""

from functools import partial

from neurons.circuit.results import CircuitStudy, Evaluation, Kept
from neurons.report.blocks import Block, Column, Facts, Gallery, Inline, Picture, Table, Text, number
from neurons.report.figures import circuit_plots

HOW = {
    "nodes": "Nodes of the circuit receive the outputs of earlier nodes of the circuit",
    "clean-heads": "Heads of the circuit keep their outputs of the clean run, its MLPs receive what the circuit writes",
    "edges": "The circuit's edges alone carry the clean run",
}


def evaluation_blocks(one: Evaluation) -> tuple[Block, ...]:
    entries: list[tuple[str, Inline]] = [
        ("clean run", _measures(one.model)),
        ("circuit alone", _measures(one.alone)),
        *([("edges of the circuit alone", _measures(one.edges_alone))] if one.edges_alone else []),
        ("circuit patched (completeness)", _measures(one.complement)),
        ("corrupted run", _measures(one.counterfactual)),
        ("share of the clean run", f"{number(100 * one.share, decimals=1)} %"),
        ("faithfulness", f"{number(100 * one.recovered, decimals=1)} %"),
    ]
    band = one.random_band
    if band:
        text = f"{number(band['mean'])} ({number(band['low'])} to {number(band['high'])})"
        entries.append((f"{len(one.random)} random circuits", text))
    if one.circuit.published:
        published = one.circuit.published
        text = f"{number(100 * published['probability_difference'], decimals=1)} %,"
        entries.append(("published", f"{text} {number(100 * published['share'], decimals=1)} % of the model's"))
    picture = Picture(
        "circuit-kept",
        partial(circuit_plots.evaluation_figure, one),
        f"Probability difference of the model {number(one.model.probability_difference)}, of the circuit alone"
        f" {number(one.alone.probability_difference)}.",
        "Probability difference of the clean run, the circuit and its complement; each dot is a random circuit with"
        " as many heads and MLPs at each position.",
    )
    note = Text(
        (
            f"Probability difference, then cutoff sharpness. {HOW[one.evaluated_as]}; all other components are patched"
            " from the corrupted run. Faithfulness: (circuit − corrupted) / (clean − corrupted), in probability"
            " difference.",
        )
    )
    return Facts(tuple(entries)), note, Gallery((picture,))


def size_blocks(study: CircuitStudy) -> tuple[Block, ...]:
    clean, corrupted = study.evaluation.model, study.evaluation.counterfactual
    draw = partial(
        circuit_plots.size_figure, study.sizes, clean.probability_difference, corrupted.probability_difference
    )
    picture = Picture(
        "circuit-sizes",
        draw,
        "Faithfulness of circuits by their number of edges.",
        "Faithfulness of the edges alone against their number (logarithmic), after edges on no path from YY's embedding"
        " to the logits are pruned: path patching and edge attribution with integrated gradients (EAP-IG; the largest"
        " effects, or greedily from the logits); band: range of circuits drawn at random upwards from the logits.",
    )
    columns = (
        Column("chosen by"),
        Column("edges", "count", "before pruning"),
        Column("kept", "number", "edges after pruning"),
        Column("probability difference", "number"),
        Column("faithfulness", "number"),
    )
    names = ("by", "asked", "edges", "probability_difference", "recovered")
    rows = tuple(tuple(entry[name] for name in names) for entry in study.to_json()["sizes"])
    return Gallery((picture,)), Table("", columns, rows)


def _measures(kept: Kept) -> str:
    return f"{number(kept.probability_difference, decimals=3)}, {number(kept.cutoff_sharpness, decimals=4)}"
