"""`neurons causal`: ablate neurons, groups of them, or whole layers at END, and measure the exact effect."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from neurons.cli.causal_tables import print_ablations, print_curves, print_layers
from neurons.cli.common import JobsOption, JsonOption, SchedulerOption, print_json
from neurons.cli.options import on_study
from neurons.study.ablated import EXACT
from neurons.study.study import Study
from neurons.task.intervention import Intervention
from neurons.types import Ablation, Effect, InputError, Measure, NeuronId

GROUP_MEASURE: Measure = "probability_difference"

NeuronsOption = Annotated[
    str | None, typer.Option("--neurons", help="These neurons, like L9N12,L10N7; several are also ablated together.")
]
ExactOption = Annotated[
    str | None,
    typer.Option(
        "--exact",
        help="Exact effects of the K neurons of largest share (by RelP with --no-attribution), or all (an hour in GPT-2"
        " small).",
        show_default=f"{EXACT}; none with --curves or --layers-table",
    ),
]
AblationOption = Annotated[
    Ablation,
    typer.Option(
        "--ablation",
        help="Replace by the value at a random other start year of the same noun and century (random-year: all neurons"
        " together are at the floor), on the corrupted run (resample), by the mean or by zero (neither is a floor: all"
        " together answer with a late year).",
    ),
]
EffectOption = Annotated[
    Effect,
    typer.Option("--effect", help="total (later layers run again), direct, or frozen (LayerNorm scale kept)."),
]
MeasureOption = Annotated[
    Measure | None,
    typer.Option(
        "--measure",
        help="Unit of the effects.",
        show_default="contrast; probability_difference for groups, curves and layers",
    ),
]
OnNounsOption = Annotated[
    int | None, typer.Option("--on-nouns", help="Ablate on the prompts of the first K nouns only.", show_default="all")
]
CurvesOption = Annotated[
    bool,
    typer.Option("--curves", help="Keep or ablate the top k neurons, for growing k; by exact effect too with --exact."),
]
LayersTableOption = Annotated[
    bool, typer.Option("--layers-table", help="Ablate each MLP and each attention head as a whole.")
]
TopOption = Annotated[int, typer.Option("--top", min=1, help="Neurons in the table; JSON has all.")]


def register(app: typer.Typer) -> None:
    app.command()(causal)


@on_study()
def causal(
    study: Study,
    neurons: NeuronsOption = None,
    exact: ExactOption = None,
    ablation: AblationOption = "random-year",
    effect: EffectOption = "total",
    measure: MeasureOption = None,
    on_nouns: OnNounsOption = None,
    curves: CurvesOption = False,
    layers_table: LayersTableOption = False,
    top: TopOption = 20,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ablate neurons at END and measure the exact effect.

    Against a random other start year. Single neurons, groups, top-k curves, and whole MLPs and attention heads.
    """
    alone = (curves or layers_table) and neurons is None and exact is None
    _check_tables(effect, curves or layers_table, is_spread=alone and (jobs is not None or scheduler is not None))
    named = tuple(dict.fromkeys(NeuronId.parse(part) for part in neurons.split(","))) if neurons is not None else ()
    count = _count(str(EXACT) if exact is None else exact, study, named)
    study.check_nouns(on_nouns)
    intervention = Intervention(ablation, effect, measure or "contrast")
    group_measure = measure or ("contrast" if effect == "frozen" else GROUP_MEASURE)
    if alone:
        _without_effects(study, ablation, on_nouns, group_measure, curves, layers_table, as_json)
        return
    if named:
        found = study.ablate(named, intervention, nouns=on_nouns)
    else:
        found = study.ablations(exact=count, intervention=intervention, nouns=on_nouns, jobs=jobs, scheduler=scheduler)
    if curves:
        found = study.with_curves(found, nouns=on_nouns)
    if layers_table:
        found = replace(found, layers=study.components(ablation=ablation, nouns=on_nouns))
    print_json(found.to_json(group_measure)) if as_json else print_ablations(found, group_measure, top)


def _check_tables(effect: Effect, is_asked: bool, *, is_spread: bool) -> None:
    """Raise `InputError` for curves or a layers' table of other than total effects, or alone on several processes."""
    if effect != "total" and is_asked:
        raise InputError(f"--curves and --layers-table show total effects: leave out --effect {effect}")
    if is_spread:
        raise InputError("--jobs and --scheduler spread exact effects: add --exact, or leave them out")


def _without_effects(
    study: Study,
    ablation: Ablation,
    nouns: int | None,
    measure: Measure,
    curves: bool,
    layers_table: bool,
    as_json: bool,
) -> None:
    """Curves and the layers' table alone, with what they are read against."""
    against = study.references(ablation=ablation, nouns=nouns)
    found = study.top_k_curves(ablation=ablation, nouns=nouns) if curves else None
    layers = study.components(ablation=ablation, nouns=nouns) if layers_table else None
    if as_json:
        about = {
            "model": study.plan.checkpoint.name,
            "ablation": ablation,
            "measure": measure,
            "references": {name: values.to_json() for name, values in against.items()},
        }
        of_curves = {"curves": found[0].to_json(measure) | {"published": found[1].to_json()}} if found else {}
        print_json(about | of_curves | ({"layers": layers.to_json()} if layers else {}))
        return
    if found:
        print_curves(*found, measure, against)
    if layers:
        print_layers(layers, measure, against)


def _count(text: str, study: Study, named: Sequence[NeuronId]) -> int | None:
    """How many exact effects: a number, or None for all; `InputError` for more than there are."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InputError(f"--exact {text!r} is neither a number of neurons nor all")
    count = len(study.plan.layers) * study.plan.checkpoint.config.d_mlp
    if int(text) > count and not named and text != str(EXACT):
        raise InputError(f"--exact {text} is more than there are: these layers have {count} neurons")
    return int(text)
