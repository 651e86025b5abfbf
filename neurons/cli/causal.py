"""`neurons causal`: what really happens when neurons, groups of them, or whole layers are removed at END."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result
from neurons.cli.causal_tables import print_curves, print_effects, print_layers
from neurons.cli.common import (
    JobsOption,
    JsonOption,
    SchedulerOption,
    check_spread,
    open_measured,
    print_json,
    progress_bar,
)
from neurons.cli.request import Request, with_request
from neurons.parallel import is_spread
from neurons.task.intervention import Intervention
from neurons.types import Ablation, Effect, InputError, Measure, NeuronId

if TYPE_CHECKING:
    from neurons.intervention.agreement import Agreement
    from neurons.intervention.context import AblationContext
    from neurons.intervention.results import Ablations, Curves, GroupEffect, NeuronEffects, PublishedCurve

EXACT = "512"
GROUP_MEASURE: Measure = "probability_difference"


def register(app: typer.Typer) -> None:
    app.command()(causal)


@dataclass(frozen=True)
class Removal:
    """The options of the command, checked. exact None: all of them."""

    neurons: tuple[NeuronId, ...]
    exact: int | None
    intervention: Intervention
    group_measure: Measure
    jobs: int | None = None
    scheduler: str | None = None


@with_request()
def causal(
    asked: Request,
    neurons: Annotated[
        str | None,
        typer.Option("--neurons", help="These neurons, like L9N12,L10N7; several are ablated together too."),
    ] = None,
    exact: Annotated[
        str,
        typer.Option(
            "--exact",
            help="Exact effects of the K neurons that the screen puts first, or all (an hour in GPT-2 small).",
        ),
    ] = EXACT,
    ablation: Annotated[
        str,
        typer.Option("--ablation", help="Replace by the value on the 01-counterfactual (resample), the mean, or zero."),
    ] = "resample",
    effect: Annotated[
        str,
        typer.Option("--effect", help="total (all that follows runs again), direct, or frozen (LayerNorm scale kept)."),
    ] = "total",
    measure: Annotated[
        str | None,
        typer.Option(
            "--measure",
            help="contrast, probability_difference or cutoff_sharpness.",
            show_default="contrast; probability_difference for groups, curves and layers",
        ),
    ] = None,
    on_nouns: Annotated[
        int | None,
        typer.Option("--on-nouns", help="Ablate on the prompts of the first K nouns only.", show_default="all"),
    ] = None,
    curves: Annotated[bool, typer.Option("--curves", help="Keep or ablate the top k neurons, for growing k.")] = False,
    layers_table: Annotated[
        bool, typer.Option("--layers-table", help="Ablate each MLP and each attention head as a whole.")
    ] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="Neurons shown in the table; JSON has all.")] = 20,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """What really happens when neurons are removed at END: exact effects, not estimates."""
    removal = replace(check(neurons, exact, ablation, effect, measure), jobs=jobs, scheduler=scheduler)
    check_spread(asked, jobs, scheduler)
    if effect != "total" and (curves or layers_table):
        raise InputError(f"--curves and --layers-table show total effects: leave out --effect {effect}")
    _check_against(asked, removal)
    cache = open_measured(asked)
    found = _find(cache, asked, removal, on_nouns=on_nouns, curves=curves, layers_table=layers_table)
    if as_json:
        print_json(found.to_json(removal.group_measure))
        return
    references = {str(measure): values.to_json() for measure, values in found.references.items()}
    print_effects(found.effects, found.group, found.agreement, removal.group_measure, references, top)
    if found.curves and found.published:
        print_curves(found.curves, found.published, removal.group_measure, references)
    if found.layers:
        print_layers(found.layers, removal.group_measure, references)


def run_ablations(cache: Cache, asked: Request) -> "Ablations":
    """Everything that a report shows, with the command's defaults: as kept beside the cache, or run and kept."""
    kept = kept_ablations(cache, asked)
    if kept is None:
        removal = check(None, EXACT, "resample", "total", None)
        kept = _find(cache, asked, removal, on_nouns=None, curves=True, layers_table=True)
        keep_result(cache, "causal", _settings(asked), kept)
    return kept


def kept_ablations(cache: Cache, asked: Request) -> "Ablations | None":
    """The ablations that an earlier report ran on this cache, without torch; None where there are none."""
    from neurons.intervention.results import Ablations

    return kept_result(cache, "causal", _settings(asked), Ablations)


def _settings(asked: Request) -> dict[str, Any]:
    return {"years": list(asked.years), "seed": asked.seed, "exact": EXACT}


def check(neurons: str | None, exact: str, ablation: str, effect: str, measure: str | None) -> Removal:
    """Read the options; raises `InputError` for unknown choices, or an effect and a measure that do not fit."""
    named = tuple(dict.fromkeys(NeuronId.parse(part) for part in neurons.split(","))) if neurons is not None else ()
    if exact != "all" and not (exact.isascii() and exact.isdigit() and int(exact) > 0):
        raise InputError(f"--exact {exact!r} is neither a number of neurons nor all")
    _choose("--ablation", ablation, get_args(Ablation))
    _choose("--effect", effect, get_args(Effect))
    _choose("--measure", measure or "contrast", get_args(Measure))
    intervention = Intervention(ablation, effect, measure or "contrast")  # type: ignore[arg-type]
    group: Measure = "contrast" if effect == "frozen" else GROUP_MEASURE
    return Removal(named, None if exact == "all" else int(exact), intervention, measure or group)  # type: ignore[arg-type]


def _choose(option: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise InputError(f"{option} {given!r} is unknown: choose {', '.join(choices)}")


def _check_against(asked: Request, removal: Removal) -> None:
    """Neurons and numbers against the checkpoint, before anything is loaded."""
    config = asked.checkpoint.config
    for neuron in removal.neurons:
        config.check_neuron(neuron, asked.layers)
    count = len(asked.layers) * config.d_mlp
    if removal.exact is not None and removal.exact > count and not (removal.neurons or str(removal.exact) == EXACT):
        raise InputError(f"--exact {removal.exact} is more than there are: these layers have {count} neurons")


def _find(
    cache: Cache, asked: Request, removal: Removal, *, on_nouns: int | None, curves: bool, layers_table: bool
) -> "Ablations":
    from neurons.intervention.components import component_effects
    from neurons.intervention.context import ablation_context
    from neurons.intervention.exact import references
    from neurons.intervention.results import Ablations
    from neurons.model.checkpoint import load_model

    ctx = ablation_context(load_model(asked.checkpoint, device=asked.device), cache, years=asked.years, nouns=on_nouns)
    effects = _effects(ctx, removal)
    others = _other_effects(ctx, effects)
    found_curves, published = _curves(ctx, effects, removal, asked.seed) if curves else (None, None)
    table = None
    if layers_table:
        with progress_bar("ablating MLPs and heads") as progress:
            table = component_effects(ctx, progress=progress)
    return Ablations(
        effects=effects,
        references={measure: references(ctx, measure) for measure in get_args(Measure)},
        group=_group(ctx, removal),
        agreement=_agreement(effects, *others) if others else None,
        curves=found_curves,
        published=published,
        layers=table,
        others=others,
    )


def _effects(ctx: "AblationContext", removal: Removal) -> "NeuronEffects":
    from neurons.intervention.exact import neuron_effects, top_of
    from neurons.intervention.screen import screen

    with progress_bar("first-order screen") as progress:
        screened = screen(ctx, removal.intervention, progress=progress)
    count = min(removal.exact or screened.size, screened.size)
    chosen = removal.neurons or top_of(ctx, screened, count)
    if is_spread(removal.jobs, removal.scheduler) and not removal.neurons:
        from neurons.intervention.sweep import sweep

        with progress_bar(f"exact effects of {len(chosen)} neurons, by block") as progress:
            sweep(ctx, chosen, removal.intervention, jobs=removal.jobs, scheduler=removal.scheduler, progress=progress)
    with progress_bar(f"exact effects of {len(chosen)} neurons") as progress:
        return neuron_effects(
            ctx, chosen, removal.intervention, screened=screened, scores=_scores(ctx), keep=not removal.neurons,
            progress=progress,
        )  # fmt: skip


def _scores(ctx: "AblationContext") -> Any:
    """Boosting scores [L, N] of the cached layers, from the whole cache."""
    import numpy as np

    from neurons.decomposition.effects import logit_effects

    effects = logit_effects(ctx.cache, years=ctx.start_years)
    return np.stack([effects.layer_contrast(layer).mean(0) for layer in ctx.cache.layers])


def _group(ctx: "AblationContext", removal: Removal) -> "GroupEffect | None":
    from neurons.intervention.exact import group_effect

    return group_effect(ctx, removal.neurons, removal.intervention) if len(removal.neurons) > 1 else None


def _other_effects(ctx: "AblationContext", total: "NeuronEffects") -> "tuple[NeuronEffects, ...]":
    """Direct and frozen effects of neurons whose total effects on the contrast are known; they cost little."""
    if total.intervention.effect != "total" or total.intervention.measure != "contrast" or len(total.neurons) < 3:
        return ()
    from neurons.intervention.exact import neuron_effects

    with progress_bar("direct and frozen effects") as progress:
        return tuple(
            neuron_effects(
                ctx, total.neurons, Intervention(total.intervention.ablation, effect), keep=False, progress=progress
            )
            for effect in ("direct", "frozen")
        )


def _agreement(total: "NeuronEffects", direct: "NeuronEffects", frozen: "NeuronEffects") -> "Agreement":
    from neurons.intervention.agreement import agreement

    return agreement(total.neurons, total.score, frozen=frozen.effect, direct=direct.effect, total=total.effect)


def _curves(
    ctx: "AblationContext", effects: "NeuronEffects", removal: Removal, seed: int
) -> "tuple[Curves, PublishedCurve]":
    import numpy as np

    from neurons.intervention.curves import curves, effect_order, published_curve, variance_order

    orders = {
        "boosting score": np.argsort(-_scores(ctx).reshape(-1), kind="stable"),
        "exact effect": effect_order(ctx, effects),
        "activation variance": variance_order(ctx),
    }
    with progress_bar("top-k curves") as progress:
        found = curves(ctx, orders, ablation=removal.intervention.ablation, seed=seed, progress=progress)
    layer = min(max(ctx.model.config.n_layers - 2, ctx.cache.layers[0]), ctx.cache.layers[-1])
    with progress_bar("the published curve") as progress:
        return found, published_curve(ctx, layer=layer, progress=progress)
