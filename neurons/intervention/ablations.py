"""One ablation study of a prompt set: single neurons, a set of them, and sets of growing size.

1. `ablations`: the exact effect of each chosen neuron (attribution patching chooses if none is named), then the direct
   and the frozen effect of the same neurons, and how well direct logit attribution predicts them.
2. `agreement`: three steps can make score and effect differ: the ablation, the final LayerNorm, the layers after.
3. `top_k_curves`: keep or ablate the first k neurons of several orders, and the published curve of one layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from jaxtyping import Float

from neurons.decomposition.effects import LogitEffects
from neurons.intervention.context import AblationContext
from neurons.intervention.curve_results import Curves, PublishedCurve
from neurons.intervention.curves import curves, effect_order, published_curve, variance_order
from neurons.intervention.exact import group_effect, neuron_effects, references, top_of
from neurons.intervention.results import STEPS, Ablations, Agreement, NeuronEffects
from neurons.intervention.screen import screen
from neurons.intervention.sweep import sweep
from neurons.parallel import is_spread
from neurons.rounding import cleared, descending, largest
from neurons.task.intervention import Intervention
from neurons.types import Bars, InputError, Measure, NeuronId, no_bars

RANK_GAP = 0.25
"""Ranks that differ by more than this share of the neurons compared disagree."""
NOISE = 0.01
"""A neuron is flagged only where score or effect is at least this share of the largest."""


@dataclass(frozen=True)
class Wanted:
    """Which neurons are ablated, and how. exact: the number that attribution patching puts first; None for all.

    neurons: these instead, and all of them together.
    """

    intervention: Intervention = field(default_factory=Intervention)
    exact: int | None = 512
    neurons: tuple[NeuronId, ...] = ()


def ablations(
    ctx: AblationContext,
    wanted: Wanted,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    bars: Bars = no_bars,
) -> Ablations:
    """Measure what is wanted, in units of each measure. jobs, scheduler: where the exact effects are computed."""
    with bars("first-order screen") as progress:
        screened = screen(ctx, wanted.intervention, progress=progress)
    chosen = wanted.neurons or top_of(ctx, screened, min(wanted.exact or screened.size, screened.size))
    if is_spread(jobs, scheduler) and not wanted.neurons:
        with bars(f"exact effects of {len(chosen)} neurons, by block") as progress:
            sweep(ctx, chosen, wanted.intervention, jobs=jobs, scheduler=scheduler, progress=progress)
    with bars(f"exact effects of {len(chosen)} neurons") as progress:
        effects = neuron_effects(
            ctx, chosen, wanted.intervention, screened=screened, scores=direct_scores(ctx), keep=not wanted.neurons,
            progress=progress,
        )  # fmt: skip
    others = _other_effects(ctx, effects, bars)
    return Ablations(
        effects=effects,
        references={measure: references(ctx, measure) for measure in get_args(Measure)},
        group=group_effect(ctx, wanted.neurons, wanted.intervention) if len(wanted.neurons) > 1 else None,
        agreement=_agreement(effects, *others) if others else None,
        others=others,
    )


def direct_scores(ctx: AblationContext) -> Float[np.ndarray, "L N"]:
    """Boosting scores of the cached layers, in logits, over the whole cache."""
    effects = LogitEffects(ctx.activations, ctx.start_years)
    return np.stack([effects.layer_contrast(layer).mean(0) for layer in ctx.cache.layers])


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


def _agreement(total: NeuronEffects, direct: NeuronEffects, frozen: NeuronEffects) -> Agreement:
    return agreement(total.neurons, total.score, frozen=frozen.effect, direct=direct.effect, total=total.effect)


def top_k_curves(
    ctx: AblationContext, effects: NeuronEffects, *, seed: int = 0, bars: Bars = no_bars
) -> tuple[Curves, PublishedCurve]:
    """Curves in order of boosting score, exact effect and activation variance; the published curve of one layer."""
    orders = {
        "boosting score": descending(direct_scores(ctx).reshape(-1)),
        "exact effect": effect_order(ctx, effects),
        "activation variance": variance_order(ctx),
    }
    with bars("top-k curves") as progress:
        found = curves(ctx, orders, ablation=effects.intervention.ablation, seed=seed, progress=progress)
    layer = min(max(ctx.model.config.n_layers - 2, ctx.cache.layers[0]), ctx.cache.layers[-1])
    with bars("the published curve") as progress:
        return found, published_curve(ctx, layer=layer, progress=progress)


def agreement(
    neurons: Sequence[NeuronId],
    score: Float[np.ndarray, " M"],
    *,
    frozen: Float[np.ndarray, " M"],
    direct: Float[np.ndarray, " M"],
    total: Float[np.ndarray, " M"],
) -> Agreement:
    """Compare boosting scores with the exact effects (ablated minus baseline) on the contrast, in logits.

    Raises `InputError` for fewer than three neurons, or neurons without a score.
    """
    if len(neurons) < 3 or np.isnan(score).any():
        raise InputError("agreement compares at least three neurons that all have a boosting score")
    lost = {"frozen": -frozen, "direct": -direct, "total": -total}
    chain = np.stack([score, *lost.values()])
    furthest = largest(np.abs(np.diff(chain, axis=0)))
    ranks = np.stack([_ranks(score), _ranks(lost["total"])])
    counts = (np.abs(chain[[0, 3]]) >= NOISE * np.abs(chain[[0, 3]]).max(1, keepdims=True)).any(0)
    return Agreement(
        neurons=tuple(neurons),
        score=score,
        **lost,
        correlation={name: _correlations(score, lost[name]) for name in ("direct", "total")},
        sign_differs=counts & (np.sign(cleared(score)) != np.sign(cleared(lost["total"]))),
        rank_differs=counts & (np.abs(ranks[0] - ranks[1]) > RANK_GAP * len(score)),
        step=tuple(STEPS[i] for i in furthest.tolist()),
    )


def _ranks(values: Float[np.ndarray, " M"]) -> np.ndarray:
    return np.argsort(descending(values))


def _correlations(score: Float[np.ndarray, " M"], effect: Float[np.ndarray, " M"]) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    return {
        "spearman": float(spearmanr(cleared(score), cleared(effect))[0]),
        "pearson": float(pearsonr(score, effect)[0]),
    }
