"""The page `causal`: exact effects of ablating neurons, groups of neurons and whole components at END."""

from functools import partial

import numpy as np

from neurons.intervention.curve_results import Curves, Kind
from neurons.intervention.results import Ablations, Agreement, ComponentEffects, NeuronEffects
from neurons.report.blocks import Column, Facts, Gallery, Page, Picture, Section, Table, Text, number
from neurons.report.figures import causal_plots
from neurons.report.pages.neuron import neuron_link
from neurons.rounding import descending
from neurons.types import Ablation, Measure, NeuronId

GROUPS: Measure = "probability_difference"
PREDICTED = {True: "boosting score", False: "year-specific part of the boosting score"}
KIND_NAMES: dict[Kind, str] = {"keep": "kept and the rest ablated", "ablate": "ablated"}
MEASURE_NAMES: dict[Measure, str] = {
    "contrast": "contrast (logits)",
    "probability_difference": "probability difference",
    "cutoff_sharpness": "cutoff sharpness",
    "logit_step": "logit step (logits)",
}
AGAINST: dict[Ablation, str] = {
    "random-year": "each takes its activation on a prompt of the same noun and century with another start year. With"
    " all neurons of the layers at such a year the answer is at the floor",
    "resample": "each takes its activation on the corrupted run (YY replaced by 01)",
    "mean": "each takes its mean activation over all prompts. This is no floor: with all neurons at their mean the"
    " answer is a late year whatever YY is",
    "zero": "each is set to zero, which is no floor",
}


def causal_page(found: Ablations, paged: frozenset[str]) -> Page:
    """paged: the neurons that have a page in this report."""
    done = found.effects.intervention
    sections = [Section("Reference values", (_references(found),))]
    if found.layers:
        sections.append(
            Section("Effects of MLPs and attention heads", _layers(found.layers), _layers_claim(found.layers))
        )
    if found.curves:
        sections.append(Section("Top-k curves", _curves(found, found.curves)))
    sections.append(
        Section("Effects of single neurons", (_neurons(found.effects, paged),), _neurons_claim(found.effects))
    )
    if found.agreement:
        sections.append(
            Section(
                "Direct logit attribution against ablation",
                _agreement(found.agreement, paged),
                _agreement_claim(found.agreement),
            )
        )
    lead = (
        f"Exact effects of {done.ablation} ablation at END on {found.effects.n_prompts:,} prompts:"
        f" {AGAINST[done.ablation]}. Everything after the ablated neurons runs again. An effect is the ablated run"
        " minus the clean run, so that of a boosting neuron is negative; its interval is over centuries."
    )
    return Page("causal", "Ablation", lead, tuple(sections), data=found.to_json() | {"others": _others(found, paged)})


def _layers_claim(table: ComponentEffects) -> str:
    effect = table.effect[GROUPS]
    most = int(descending(-effect)[0])
    return f"Ablating {table.components[most]} costs most: {number(float(effect[most]))} {MEASURE_NAMES[GROUPS]}."


def _neurons_claim(effects: NeuronEffects) -> str:
    most = int(descending(np.abs(effects.effect))[0])
    return (
        f"{effects.neurons[most]} has the largest effect of {len(effects.neurons):,} neurons ablated one by one:"
        f" {number(float(effects.effect[most]))} on the {MEASURE_NAMES[effects.intervention.measure]}."
    )


def _agreement_claim(found: Agreement) -> str:
    differ = int((found.sign_differs | found.rank_differs).sum())
    return f"Direct effect and ablation differ in sign or rank for {differ:,} of {len(found.neurons):,} neurons."


def _others(found: Ablations, paged: frozenset[str]) -> dict[str, dict[str, list[float]]]:
    """Direct and frozen effects by start year of the neurons whose pages show them."""
    rows = {str(neuron): row for row, neuron in enumerate(found.effects.neurons) if str(neuron) in paged}
    return {
        one.intervention.effect: {name: one.by_start_year[row].tolist() for name, row in rows.items()}
        for one in found.others
    }


def ablation_section(found: Ablations, neuron: NeuronId) -> Section | None:
    """For a neuron's own page: the effect of its ablation; None where its exact effect was not measured."""
    effects, agreement = found.effects, found.agreement
    if neuron not in effects.neurons or agreement is None:
        return None
    row = effects.neurons.index(neuron)
    entries = (
        ("total effect on the contrast", f"{number(effects.effect[row])} logits, {_interval(effects, row)}"),
        ("direct effect", f"{number(-agreement.direct[row])} logits"),
        ("frozen direct effect", f"{number(-agreement.frozen[row])} logits"),
        ("attribution patching", f"{number(effects.patching[row])} logits"),
        ("disagreement with the direct effect", _differs(agreement, row) or "none"),
        ("largest source of the difference", agreement.step[row]),
    )
    curves = {str(one.intervention.effect): one.by_start_year[row] for one in (effects, *found.others)}
    picture = Picture(
        f"{neuron}-ablation",
        partial(causal_plots.ablation_figure, curves, effects.start_years),
        f"Effect of ablating {neuron} on the contrast by start year: {', '.join(curves)}",
        f"Effect of {effects.intervention.ablation} ablation of {neuron} on the contrast, in logits, by start year:"
        " ablated minus clean run."
        " Total: all later layers run again. Direct: only its own output changes. Frozen: the final LayerNorm's scale"
        " is also held fixed.",
    )
    return Section("Effect of ablation", (Facts(entries), Gallery((picture,))))


def _interval(effects: NeuronEffects, row: int) -> str:
    low, high = effects.ci_low[row], effects.ci_high[row]
    return "no interval (one century)" if np.isnan(low) else f"95 % interval {number(low)} to {number(high)}"


def _draws(ablation: Ablation, draws: int) -> str:
    return f" (other start years drawn for each prompt: {draws})" if ablation == "random-year" else ""


def _references(found: Ablations) -> Table:
    """The clean run, and what the ablation of all neurons leaves where that knows no YY."""
    ablation, clean = found.effects.intervention.ablation, (Column("measure"), Column("clean run", "number"))
    if ablation == "random-year":
        rows = tuple(
            (MEASURE_NAMES[measure], r.baseline, np.nan if r.floor is None else r.floor)
            for measure, r in found.references.items()
        )
        caption = (
            "Each measure on the clean run and at the floor: all neurons of the layers at a random other start year"
        )
        return Table(caption, (*clean, Column("floor", "number")), rows)
    if ablation == "resample":
        rows = tuple((MEASURE_NAMES[measure], r.baseline, r.counterfactual) for measure, r in found.references.items())
        caption = "Each measure on the clean run and on the corrupted run, scored against the true YY"
        return Table(caption, (*clean, Column("corrupted run", "number")), rows)
    alone = tuple((MEASURE_NAMES[measure], r.baseline) for measure, r in found.references.items())
    return Table(f"Each measure on the clean run; {ablation} ablation is no floor", clean, alone)


def _layers(table: ComponentEffects) -> tuple[Gallery, Table]:
    figure = Picture(
        "causal-layers",
        partial(causal_plots.layers_figure, table, measure=GROUPS),
        f"Effect on the {MEASURE_NAMES[GROUPS]} of ablating each MLP and each attention head",
        f"Effect on the {MEASURE_NAMES[GROUPS]} of {table.ablation}-ablating each MLP (bars) and each attention head"
        " (points) at END, by layer: ablated minus clean run.",
        wide=True,
    )
    columns = (Column("component"), *(Column(MEASURE_NAMES[measure], "number") for measure in table.effect))
    strongest = descending(np.abs(table.effect[GROUPS]))[:20]
    rows = tuple(
        (table.components[i], *(float(values[i]) for values in table.effect.values())) for i in strongest.tolist()
    )
    caption = (
        f"Components of largest effect on the {MEASURE_NAMES[GROUPS]} under {table.ablation} ablation"
        f"{_draws(table.ablation, table.draws)}, at most 20"
    )
    return Gallery((figure,)), Table(caption, columns, rows)


def _curves(found: Ablations, curves: Curves) -> tuple[Gallery, Table]:
    references = found.references[GROUPS]
    pictures = [
        Picture(
            f"causal-{kind}",
            partial(causal_plots.curves_figure, curves, references, measure=GROUPS, kind=kind),
            f"{MEASURE_NAMES[GROUPS].capitalize()} when the top k neurons are {name}",
            f"{MEASURE_NAMES[GROUPS].capitalize()} when the top k neurons are {name} ({curves.ablation} ablation), in"
            " several orders and in random order.",
        )
        for kind, name in KIND_NAMES.items()
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
        Column("order"), Column("k for 90 %", "count", help="fewest neurons that keep 90 % of the behaviour"),
        Column("area, keep", "number"), Column("area, ablate", "number"),
    )  # fmt: skip
    ablate = {curve.order: curve.area for curve in curves.of(GROUPS, "ablate")}
    rows = tuple((c.order, c.k90, c.area, ablate[c.order]) for c in curves.of(GROUPS, "keep"))
    table = Table(
        "Neurons needed for 90 % of the behaviour, and area under each curve over log2(1 + k) between none and all"
        " kept",
        columns,
        rows,
    )
    return Gallery(tuple(pictures)), table


def _neurons(effects: NeuronEffects, paged: frozenset[str]) -> Table:
    unit = MEASURE_NAMES[effects.intervention.measure]
    columns = (
        Column("neuron"), Column(f"{effects.intervention.effect} effect on the {unit}", "number"),
        Column("95 % from", "number"), Column("95 % to", "number"), Column("attribution patching", "number"),
        Column("direct effect (logits)", "number", help=PREDICTED[effects.intervention.ablation == "zero"]),
    )  # fmt: skip
    order = descending(np.abs(effects.effect))
    rows = tuple(
        (neuron_link(str(effects.neurons[i]), paged),
         *(None if np.isnan(values[i]) else float(values[i])
           for values in (effects.effect, effects.ci_low, effects.ci_high, effects.patching, effects.predicted)))
        for i in order.tolist()
    )  # fmt: skip
    caption = (
        f"Exact effects of {len(effects.neurons):,} neurons, each ablated alone, minus the clean run"
        f"{_draws(effects.intervention.ablation, effects.draws)}; intervals are"
        " over centuries; attribution patching is the first-order estimate"
    )
    return Table(caption, columns, rows, interactive=True)


def _agreement(found: Agreement, paged: frozenset[str]) -> tuple[Gallery, Text, Table]:
    picture = Picture(
        "causal-agreement",
        partial(causal_plots.agreement_figure, found),
        "Direct effect against the contrast lost when the neuron is ablated",
        "Direct effect (direct logit attribution) against the contrast lost when the neuron is ablated, in logits,"
        " one dot for each neuron.",
    )
    parts = "; ".join(
        f"{name} effect: Spearman {number(c['spearman'], decimals=3)}, Pearson {number(c['pearson'], decimals=3)}"
        for name, c in found.correlation.items()
    )
    columns = (
        Column("neuron"), Column("predicted", "number"), Column("frozen", "number"), Column("direct", "number"),
        Column("total", "number"), Column("disagreement"), Column("largest source"),
    )  # fmt: skip
    rows = tuple(
        (neuron_link(str(found.neurons[i]), paged), *(float(v[i]) for v in (found.predicted, found.frozen, found.direct,
         found.total)), _differs(found, i), found.step[i])
        for i in np.flatnonzero(found.sign_differs | found.rank_differs).tolist()
    )  # fmt: skip
    caption = (
        "Neurons whose direct effect and ablation disagree: contrast lost in logits, and the step that differs most"
    )
    return Gallery((picture,)), Text((parts,)), Table(caption, columns, rows, interactive=len(rows) > 20)


def _differs(found: Agreement, row: int) -> str:
    marks = {"sign": found.sign_differs[row], "rank": found.rank_differs[row]}
    return " and ".join(name for name, differs in marks.items() if differs)
