"""The page `causal`: what removing neurons, groups of them and whole components does, from kept results."""

from functools import partial

import numpy as np

from neurons.intervention.curve_results import Curves, Kind
from neurons.intervention.results import (
    Ablations,
    Agreement,
    ComponentAblation,
    ComponentEffects,
    NeuronEffects,
    References,
)
from neurons.report.blocks import Column, Facts, Gallery, Page, Picture, Section, Table, Text, number
from neurons.report.figures import causal_plots
from neurons.report.pages.neuron import neuron_link
from neurons.rounding import descending
from neurons.types import Measure, NeuronId

GROUPS: Measure = "probability_difference"
KIND_NAMES: dict[Kind, str] = {"keep": "kept and the rest ablated", "ablate": "ablated"}
MEASURE_NAMES: dict[Measure, str] = {
    "contrast": "contrast (logits)",
    "probability_difference": "probability difference",
    "cutoff_sharpness": "cutoff sharpness",
}


def causal_page(found: Ablations, paged: frozenset[str]) -> Page:
    """paged: the neurons that have a page in this report."""
    done = found.effects.intervention
    sections = [Section("Beside what to read it", (_references(found.references),))]
    if found.layers:
        sections.append(Section("Which components matter", _layers(found.layers)))
    if found.curves:
        sections.append(Section("How few neurons are enough", _curves(found, found.curves)))
    sections.append(Section("Neurons, each removed alone", (_neurons(found.effects, paged),)))
    if found.agreement:
        sections.append(Section("Prediction and intervention", _agreement(found.agreement, paged)))
    lead = (
        f"What really happens at END when neurons are removed ({done.ablation}-ablated) on {found.effects.n_prompts:,}"
        f" prompts. Exact: everything after the change is run again. An effect is ablated minus as it is, so a boosting"
        " neuron's is negative."
    )
    return Page("causal", "Causal", lead, tuple(sections), data=found.to_json() | {"others": _others(found, paged)})


def _others(found: Ablations, paged: frozenset[str]) -> dict[str, dict[str, list[float]]]:
    """Direct and frozen effects by start year of the neurons whose pages show them."""
    rows = {str(neuron): row for row, neuron in enumerate(found.effects.neurons) if str(neuron) in paged}
    return {
        one.intervention.effect: {name: one.by_start_year[row].tolist() for name, row in rows.items()}
        for one in found.others
    }


def removal_section(found: Ablations, neuron: NeuronId) -> Section | None:
    """For a neuron's own page: what its removal does; None where it was not among those ablated exactly."""
    effects, agreement = found.effects, found.agreement
    if neuron not in effects.neurons or agreement is None:
        return None
    row = effects.neurons.index(neuron)
    entries = (
        ("total effect on the contrast", f"{number(effects.effect[row])} logits"),
        ("direct effect", f"{number(-agreement.direct[row])} logits"),
        ("frozen direct effect", f"{number(-agreement.frozen[row])} logits"),
        ("first-order screen", f"{number(effects.screen[row])} logits"),
        ("disagrees with the score in", _differs(agreement, row) or "nothing"),
        ("the step that parts them most", agreement.step[row]),
    )
    curves = {str(one.intervention.effect): one.by_start_year[row] for one in (effects, *found.others)}
    picture = Picture(
        f"{neuron}-removal",
        partial(causal_plots.removal_figure, curves, effects.start_years),
        f"Effect of removing {neuron} on the contrast, by start year: {', '.join(curves)}",
        f"What removing {neuron} ({effects.intervention.ablation}-ablated) does to the contrast, by start year. Total:"
        " everything after it runs again. Direct: only its own write changes. Frozen: the final LayerNorm's scale"
        " stays too.",
    )
    return Section("What its removal does", (Facts(entries), Gallery((picture,))))


def _references(references: dict[Measure, References]) -> Table:
    columns = (
        Column("measure"), Column("as it is", "number"), Column("01-run", "number"),
        Column("average distribution", "number"),
    )  # fmt: skip
    rows = tuple(
        (MEASURE_NAMES[measure], r.baseline, r.counterfactual, r.average_distribution)
        for measure, r in references.items()
    )
    return Table("The model, and the two values that knowing nothing of YY can reach", columns, rows)


def _layers(table: ComponentEffects) -> tuple[Gallery, Table]:
    figure = Picture(
        "causal-layers",
        partial(causal_plots.layers_figure, table, measure=GROUPS),
        f"Effect on the {MEASURE_NAMES[GROUPS]} of ablating each MLP and each attention head",
        f"Effect on the {MEASURE_NAMES[GROUPS]} of ablating each MLP (bars) and each attention head (points) at END.",
        wide=True,
    )
    shown: list[tuple[Measure, ComponentAblation]] = [
        (measure, ablation) for measure in (GROUPS, "contrast") for ablation in ("resample", "mean")
    ]
    columns = (
        Column("component"),
        *(Column(f"{MEASURE_NAMES[m]}, {a}", "number") for m, a in shown),
    )
    strongest = descending(np.abs(table.effect["resample"][GROUPS]))[:20]
    values = [table.effect[a][m] for m, a in shown]
    rows = tuple((table.components[i], *(float(value[i]) for value in values)) for i in strongest.tolist())
    return Gallery((figure,)), Table("The strongest components, by resample ablation", columns, rows)


def _curves(found: Ablations, curves: Curves) -> tuple[Gallery, Table]:
    references = found.references[GROUPS]
    pictures = [
        Picture(
            f"causal-{kind}",
            partial(causal_plots.curves_figure, curves, references, measure=GROUPS, kind=kind),
            f"The {MEASURE_NAMES[GROUPS]} when the top k neurons are {told}",
            f"The {MEASURE_NAMES[GROUPS]} when the top k neurons are {told}, by several orders and at random.",
        )
        for kind, told in KIND_NAMES.items()
    ]
    if found.published:
        pictures.append(
            Picture(
                "causal-published",
                partial(causal_plots.published_figure, found.published),
                f"Neurons of MLP {found.published.layer} kept by activation variance",
                f"The published variant: only MLP {found.published.layer}, its k neurons of highest activation variance"
                " kept, the rest zero at all positions, softmax over the 100 years alone.",
            )
        )
    columns = (
        Column("order"), Column("k for 90 %", "count", help="neurons that keep 90 % of the behaviour"),
        Column("area, keep", "number"), Column("area, ablate", "number"),
    )  # fmt: skip
    ablate = {curve.order: curve.area for curve in curves.of(GROUPS, "ablate")}
    rows = tuple((c.order, c.k90, c.area, ablate[c.order]) for c in curves.of(GROUPS, "keep"))
    table = Table(
        "Neurons needed, and area under each curve over log2(1 + k), between none kept and all", columns, rows
    )
    return Gallery(tuple(pictures)), table


def _neurons(effects: NeuronEffects, paged: frozenset[str]) -> Table:
    unit = MEASURE_NAMES[effects.intervention.measure]
    columns = (
        Column("neuron"), Column(f"{effects.intervention.effect} effect on the {unit}", "number"),
        Column("first-order screen", "number"), Column("boosting score (logits)", "number"),
    )  # fmt: skip
    order = descending(np.abs(effects.effect))
    rows = tuple(
        (neuron_link(str(effects.neurons[i]), paged), float(effects.effect[i]), float(effects.screen[i]),
         None if np.isnan(effects.score[i]) else float(effects.score[i]))
        for i in order.tolist()
    )  # fmt: skip
    caption = f"{len(effects.neurons):,} neurons, exact; the screen is an estimate and stands beside it"
    return Table(caption, columns, rows, interactive=True)


def _agreement(found: Agreement, paged: frozenset[str]) -> tuple[Gallery, Text, Table]:
    picture = Picture(
        "causal-agreement",
        partial(causal_plots.agreement_figure, found),
        "Boosting score against what the neuron's removal takes from the contrast",
        "Boosting score, a prediction, against what the neuron's removal takes from the contrast.",
    )
    parts = "; ".join(
        f"{name} effect: Spearman {number(c['spearman'], decimals=3)}, Pearson {number(c['pearson'], decimals=3)}"
        for name, c in found.correlation.items()
    )
    columns = (
        Column("neuron"), Column("score", "number"), Column("frozen", "number"), Column("direct", "number"),
        Column("total", "number"), Column("differs in"), Column("mostly through"),
    )  # fmt: skip
    rows = tuple(
        (neuron_link(str(found.neurons[i]), paged), *(float(v[i]) for v in (found.score, found.frozen, found.direct,
         found.total)), _differs(found, i), found.step[i])
        for i in np.flatnonzero(found.sign_differs | found.rank_differs).tolist()
    )  # fmt: skip
    caption = "Neurons whose score and removal disagree: logits taken from the contrast, and the step that parts them"
    return Gallery((picture,)), Text((parts,)), Table(caption, columns, rows, interactive=len(rows) > 20)


def _differs(found: Agreement, row: int) -> str:
    marks = {"sign": found.sign_differs[row], "rank": found.rank_differs[row]}
    return " and ".join(name for name, differs in marks.items() if differs)
