"""Tables of `neurons causal`. Each names ablation, effect, measure and what the numbers are against."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from neurons.cli.common import print_table
from neurons.types import OF_LOGITS

if TYPE_CHECKING:
    from neurons.intervention.curve_results import Curves, PublishedCurve
    from neurons.intervention.results import Ablations, Agreement, ComponentEffects, References
    from neurons.types import Measure

LAYERS_SHOWN = 20
REPLACED = {
    "random-year": "replaced by the value at a random other start year, {draws}",
    "resample": "replaced by the value on the corrupted run",
    "mean": "replaced by the mean over all prompts",
    "zero": "replaced by zero",
}
PREDICTED = {True: "boosting score", False: "direct effect (year-specific part of the boosting score)"}


def beside(measure: "Measure", references: "Mapping[Measure, References]", ablation: str) -> str:
    """What the numbers of a table are against: the clean run, and what the ablation of all neurons leaves."""
    known = references[measure]
    floor = {
        "random-year": f", {_signed(known.floor)} at the floor (all neurons at a random other start year)",
        "resample": f", {_signed(known.counterfactual)} on the corrupted run",
        "mean": "; mean ablation is no floor: with all neurons at their mean the answer is late whatever YY is",
        "zero": "; zero ablation is no floor",
    }
    return f"{_words(measure)}: {known.baseline:+.4f} on the clean run{floor[ablation]}"


def print_ablations(found: "Ablations", group_measure: "Measure", top: int) -> None:
    """Every table of what was measured."""
    print_effects(found, top)
    if found.group:
        print_group(found, group_measure)
    if found.curves and found.published:
        print_curves(found.curves, found.published, group_measure, found.references)
    if found.layers:
        print_layers(found.layers, group_measure, found.references)


def print_effects(found: "Ablations", top: int) -> None:
    """The largest effects first, and how far predictions and effects agree."""
    from neurons.rounding import descending

    effects, agreement = found.effects, found.agreement
    done = effects.intervention
    order = descending(abs(effects.effect))[:top].tolist()
    flags = _flags(agreement)
    rows = [
        [str(effects.neurons[row]), _signed(effects.effect[row]),
         f"{_signed(effects.ci_low[row])} to {_signed(effects.ci_high[row])}", _signed(effects.patching[row]),
         _signed(effects.predicted[row]), flags.get(str(effects.neurons[row]), "")]
        for row in order
    ]  # fmt: skip
    print_table(
        f"{effects.model}: {done.effect} effect of {done.ablation}-ablating each neuron at END on the"
        f" {_words(done.measure)} ({'logits' if done.measure in OF_LOGITS else 'probability'}); {len(order)} of"
        f" {len(effects.neurons)} neurons, {effects.n_prompts} prompts; {_replaced(done.ablation, effects.draws)}",
        ["neuron", f"{done.effect} effect", "95 % interval", "patching", "predicted", "disagreement"],
        rows,
        caption="effect: ablated minus clean run, interval over centuries; patching: attribution patching (first"
        f" order); predicted: {PREDICTED[done.ablation == 'zero']}, lost by the ablation\n"
        f"{beside(done.measure, found.references, done.ablation)}",
    )
    if agreement:
        pairs = (f"{name} {v['spearman']:.3f} / {v['pearson']:.3f}" for name, v in agreement.correlation.items())
        print(f"predicted against minus the exact effect, Spearman / Pearson: {', '.join(pairs)}")


def print_group(found: "Ablations", measure: "Measure") -> None:
    group, done = found.group, found.effects.intervention
    assert group
    rows = [
        [_words(name), _signed(found.references[name].baseline), _signed(value),
         " to ".join(_signed(end) for end in group.interval[name])]
        for name, value in group.effect.items()
    ]  # fmt: skip
    print_table(
        f"\n{len(group.neurons)} neurons {done.ablation}-ablated together: {done.effect} effect;"
        f" {_replaced(done.ablation, group.draws)}",
        ["measure", "clean run", f"{done.effect} effect", "95 % interval"],
        rows,
        caption=beside(measure, found.references, done.ablation),
    )


def print_curves(
    curves: "Curves", published: "PublishedCurve", measure: "Measure", references: "Mapping[Measure, References]"
) -> None:
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
            caption=beside(measure, references, curves.ablation),
        )
    rows = [[str(k), _signed(v)] for k, v in zip(published.k, published.probability_difference, strict=True)]
    print_table(
        f"\n{published.model}: MLP {published.layer}, the k neurons of highest activation variance kept, the rest"
        " zeroed at"
        " all positions; softmax over the 100 years",
        ["k", "probability difference"],
        rows,
    )


def print_layers(table: "ComponentEffects", measure: "Measure", references: "Mapping[Measure, References]") -> None:
    """The components of largest effect."""
    from neurons.rounding import descending

    effect = table.effect[measure]
    order = descending(abs(effect))[:LAYERS_SHOWN].tolist()
    print_table(
        f"\n{table.model}: total effect of {table.ablation}-ablating whole MLPs (m) and heads (a) at END on the"
        f" {_words(measure)}; {len(order)} of {len(table.components)}, {table.n_prompts} prompts;"
        f" {_replaced(table.ablation, table.draws)}",
        ["component", "total effect"],
        [[table.components[row], _signed(effect[row])] for row in order],
        caption=beside(measure, references, table.ablation),
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


def _replaced(ablation: str, draws: int) -> str:
    return REPLACED[ablation].format(draws="one draw" if draws == 1 else f"{draws} draws")


def _words(measure: str) -> str:
    return measure.replace("_", " ")


def _signed(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:+.4f}"
