"""Everything that one ablation study of a prompt set measures: single neurons, a group, sets of growing size, layers.

1. The exact effect of each chosen neuron; the first-order screen chooses them where none is named.
2. The direct and the frozen effect of the same neurons, and how far the direct logit attribution predicts them.
3. On request the top-k curves over all neurons, and every MLP and head as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float

from neurons.decomposition.effects import logit_effects
from neurons.intervention.agreement import agreement
from neurons.intervention.components import component_effects
from neurons.intervention.context import AblationContext
from neurons.intervention.curves import curves, effect_order, published_curve, variance_order
from neurons.intervention.exact import group_effect, neuron_effects, references, top_of
from neurons.intervention.results import Ablations, Curves, NeuronEffects, PublishedCurve
from neurons.intervention.screen import screen
from neurons.intervention.sweep import sweep
from neurons.parallel import is_spread
from neurons.task.intervention import Intervention
from neurons.types import Bars, Measure, NeuronId, no_bars


@dataclass(frozen=True)
class Wanted:
    """What is measured. exact: how many neurons, those that the screen puts first; None for all.

    neurons: these instead, together too. curves, components: also the top-k curves, and every MLP and head.
    """

    intervention: Intervention = Intervention()
    exact: int | None = 512
    neurons: tuple[NeuronId, ...] = ()
    curves: bool = False
    components: bool = False


def ablations(
    ctx: AblationContext,
    wanted: Wanted,
    *,
    seed: int = 0,
    jobs: int | None = None,
    scheduler: str | None = None,
    bars: Bars = no_bars,
) -> Ablations:
    """Measure what is wanted, in units of each measure. jobs, scheduler: where the exact effects are computed."""
    if is_spread(jobs, scheduler) and not wanted.neurons:
        _sweep(ctx, wanted, jobs, scheduler, bars)
    scores = direct_scores(ctx)
    effects = _effects(ctx, wanted, scores, bars)
    others = _other_effects(ctx, effects, bars)
    found = _curves(ctx, effects, wanted.intervention, scores, seed, bars) if wanted.curves else None
    with bars("ablating MLPs and heads") as progress:
        table = component_effects(ctx, progress=progress) if wanted.components else None
    return Ablations(
        effects=effects,
        references={measure: references(ctx, measure) for measure in get_args(Measure)},
        group=group_effect(ctx, wanted.neurons, wanted.intervention) if len(wanted.neurons) > 1 else None,
        agreement=agreement(
            effects.neurons, effects.score, frozen=others[1].effect, direct=others[0].effect, total=effects.effect
        )
        if others
        else None,
        curves=found[0] if found else None,
        published=found[1] if found else None,
        layers=table,
        others=others,
    )


def direct_scores(ctx: AblationContext) -> Float[np.ndarray, "L N"]:
    """Boosting scores of the cached layers, in logits, over the whole cache."""
    effects = logit_effects(ctx.cache, years=ctx.start_years)
    return np.stack([effects.layer_contrast(layer).mean(0) for layer in ctx.cache.layers])


def _chosen(ctx: AblationContext, wanted: Wanted, bars: Bars) -> tuple[Sequence[NeuronId], Float[np.ndarray, "L N"]]:
    """The neurons whose exact effects are measured, and the screen of all."""
    with bars("first-order screen") as progress:
        screened = screen(ctx, wanted.intervention, progress=progress)
    return wanted.neurons or top_of(ctx, screened, min(wanted.exact or screened.size, screened.size)), screened


def _sweep(ctx: AblationContext, wanted: Wanted, jobs: int | None, scheduler: str | None, bars: Bars) -> None:
    chosen, _ = _chosen(ctx, wanted, bars)
    with bars(f"exact effects of {len(chosen)} neurons, by block") as progress:
        sweep(ctx, chosen, wanted.intervention, jobs=jobs, scheduler=scheduler, progress=progress)


def _effects(ctx: AblationContext, wanted: Wanted, scores: Float[np.ndarray, "L N"], bars: Bars) -> NeuronEffects:
    chosen, screened = _chosen(ctx, wanted, bars)
    with bars(f"exact effects of {len(chosen)} neurons") as progress:
        return neuron_effects(
            ctx, chosen, wanted.intervention, screened=screened, scores=scores, keep=not wanted.neurons,
            progress=progress,
        )  # fmt: skip


def _other_effects(ctx: AblationContext, total: NeuronEffects, bars: Bars) -> tuple[NeuronEffects, ...]:
    """Direct and frozen effects of neurons whose total effects on the contrast are known; they cost little."""
    if total.intervention.effect != "total" or total.intervention.measure != "contrast" or len(total.neurons) < 3:
        return ()
    with bars("direct and frozen effects") as progress:
        return tuple(
            neuron_effects(
                ctx, total.neurons, Intervention(total.intervention.ablation, effect), keep=False, progress=progress
            )
            for effect in ("direct", "frozen")
        )


def _curves(
    ctx: AblationContext,
    effects: NeuronEffects,
    intervention: Intervention,
    scores: Float[np.ndarray, "L N"],
    seed: int,
    bars: Bars,
) -> tuple[Curves, PublishedCurve]:
    orders = {
        "boosting score": np.argsort(-scores.reshape(-1), kind="stable"),
        "exact effect": effect_order(ctx, effects),
        "activation variance": variance_order(ctx),
    }
    with bars("top-k curves") as progress:
        found = curves(ctx, orders, ablation=intervention.ablation, seed=seed, progress=progress)
    layer = min(max(ctx.model.config.n_layers - 2, ctx.cache.layers[0]), ctx.cache.layers[-1])
    with bars("the published curve") as progress:
        return found, published_curve(ctx, layer=layer, progress=progress)
