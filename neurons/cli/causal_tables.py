"""Tables of `neurons causal`. Each names ablation, effect, measure and the three reference values."""

from typing import TYPE_CHECKING

from neurons.cli.common import print_table
from neurons.types import Measure

if TYPE_CHECKING:
    from neurons.intervention.curve_results import Curves, PublishedCurve
    from neurons.intervention.results import Ablations, Agreement, ComponentEffects, GroupEffect, NeuronEffects

References = dict[str, dict[str, float]]
UNITS = {"contrast": "logits", "probability_difference": "probability", "cutoff_sharpness": "probability"}
LAYERS_SHOWN = 20


def beside(measure: str, references: References) -> str:
    """The reference values under every table: clean run, corrupted run, average distribution."""
    known = references[measure]
    return (
        f"{_words(measure)}: {known['baseline']:+.4f} on the clean run, {known['counterfactual']:+.4f} on the"
        " corrupted run,"
        f" {known['average_distribution']:+.4f} for the average distribution over start years"
    )


def print_ablations(found: "Ablations", group_measure: Measure, top: int) -> None:
    """Every table of what was measured."""
    references = {str(measure): values.to_json() for measure, values in found.references.items()}
    print_effects(found.effects, found.group, found.agreement, group_measure, references, top)
    if found.curves and found.published:
        print_curves(found.curves, found.published, group_measure, references)
    if found.layers:
        print_layers(found.layers, group_measure, references)


def print_effects(
    effects: "NeuronEffects",
    group: "GroupEffect | None",
    agreement: "Agreement | None",
    group_measure: Measure,
    references: References,
    top: int,
) -> None:
    """The largest effects first; then the group, and how far scores and effects agree."""
    from neurons.rounding import descending

    done = effects.intervention
    order = descending(abs(effects.effect))[:top].tolist()
    flags = _flags(agreement)
    rows = [
        [str(effects.neurons[row]), _signed(effects.effect[row]), _signed(effects.screen[row]),
         _signed(effects.score[row]), flags.get(str(effects.neurons[row]), "")]
        for row in order
    ]  # fmt: skip
    print_table(
        f"{effects.model}: {done.effect} effect of {done.ablation}-ablating each neuron at END on the"
        f" {_words(done.measure)} ({UNITS[done.measure]}); {len(order)} of {len(effects.neurons)} neurons,"
        f" {effects.n_prompts} prompts{_replacement(done.ablation)}",
        ["neuron", f"{done.effect} effect", "estimate", "score", "disagreement"],
        rows,
        caption="effect: ablated minus clean run; estimate: attribution patching (first order); score: boosting score\n"
        f"{beside(done.measure, references)}",
    )
    if agreement:
        pairs = (f"{name} {v['spearman']:.3f} / {v['pearson']:.3f}" for name, v in agreement.correlation.items())
        print(f"score against minus the exact effect, Spearman / Pearson: {', '.join(pairs)}")
    if group:
        print_group(group, effects, group_measure, references)


def print_group(group: "GroupEffect", effects: "NeuronEffects", measure: Measure, references: References) -> None:
    done = effects.intervention
    rows = [
        [_words(name), _signed(references[name]["baseline"]), _signed(value)] for name, value in group.effect.items()
    ]
    print_table(
        f"\n{len(group.neurons)} neurons {done.ablation}-ablated together: {done.effect} effect",
        ["measure", "clean run", f"{done.effect} effect"],
        rows,
        caption=beside(measure, references),
    )


def print_curves(curves: "Curves", published: "PublishedCurve", measure: Measure, references: References) -> None:
    """One row for each k, one column for each order; then k for 90 % and areas."""
    for kind, ablated in (("keep", "all but the top k neurons"), ("ablate", "the top k neurons")):
        shown = curves.of(measure, kind)  # type: ignore[arg-type]
        rows = [[str(k), *(_signed(curve.values[i]) for curve in shown)] for i, k in enumerate(shown[0].k.tolist())]
        if kind == "keep":
            rows.append(["k for 90 %", *("-" if c.k90 is None else str(c.k90) for c in shown)])
        rows.append(["area", *(f"{curve.area:.3f}" for curve in shown)])
        print_table(
            f"\n{curves.model}: {_words(measure)} with {ablated} {curves.ablation}-ablated at END (total effect);"
            f" {curves.n_neurons} neurons, {curves.n_prompts} prompts, random: mean of {curves.seeds}",
            ["k", *(curve.order for curve in shown)],
            rows,
            caption=beside(measure, references),
        )
    rows = [[str(k), _signed(v)] for k, v in zip(published.k, published.probability_difference, strict=True)]
    print_table(
        f"\n{published.model}: MLP {published.layer}, the k neurons of highest activation variance kept, the rest"
        " zeroed at"
        " all positions; softmax over the 100 years",
        ["k", "probability difference"],
        rows,
    )


def print_layers(table: "ComponentEffects", measure: Measure, references: References) -> None:
    """The components of largest effect under resample ablation."""
    from neurons.rounding import descending

    resample, mean = table.effect["resample"][measure], table.effect["mean"][measure]
    order = descending(abs(resample))[:LAYERS_SHOWN].tolist()
    print_table(
        f"\n{table.model}: total effect of ablating whole MLPs (m) and heads (a) at END on the {_words(measure)};"
        f" {len(order)} of {len(table.components)}, {table.n_prompts} prompts",
        ["component", "resample", "mean"],
        [[table.components[row], _signed(resample[row]), _signed(mean[row])] for row in order],
        caption=beside(measure, references),
    )


def _flags(agreement: "Agreement | None") -> dict[str, str]:
    if agreement is None:
        return {}
    flags = {}
    for row, neuron in enumerate(agreement.neurons):
        what = [
            name for name, yes in (("sign", agreement.sign_differs[row]), ("rank", agreement.rank_differs[row])) if yes
        ]
        if what:
            flags[str(neuron)] = f"{' and '.join(what)}: {agreement.step[row]}"
    return flags


def _replacement(ablation: str) -> str:
    return {
        "resample": "; replaced by the value on the corrupted run",
        "mean": "; replaced by the mean over all prompts",
        "zero": "",
    }[ablation]


def _words(measure: str) -> str:
    return measure.replace("_", " ")


def _signed(value: float) -> str:
    return "-" if value != value else f"{value:+.4f}"
