"""One ablation study of a prompt set: single neurons, a set of them, and sets of growing size.

1. `ablations`: the exact effect of each neuron named, then the direct and the frozen effect of the same neurons, and
   how well direct logit attribution predicts them.
2. `agreement`: three steps can make prediction and effect differ: the ablation, the final LayerNorm, the layers after.
3. `top_k_curves`: keep or ablate the first k neurons of several orders, and the published curve of one layer.
"""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from jaxtyping import Float, Int

from neurons.intervention.context import AblationContext
from neurons.intervention.curve_results import EXACT_ORDER, Curves, PublishedCurve
from neurons.intervention.curves import curves, effect_order, published_curve, variance_order
from neurons.intervention.exact import Beside, floors, group_effect, neuron_effects, references
from neurons.intervention.results import STEPS, Ablations, Agreement, NeuronEffects, References
from neurons.intervention.sweep import sweep
from neurons.parallel import is_spread
from neurons.rounding import cleared, descending, largest
from neurons.task.intervention import Intervention
from neurons.types import Ablation, Bars, InputError, Measure, NeuronId, no_bars

RANK_GAP = 0.25
"""Ranks that differ by more than this share of the neurons compared disagree."""
NOISE = 0.01
"""A neuron is flagged only where prediction or effect is at least this share of the largest."""


def ablations(
    ctx: AblationContext,
    neurons: Sequence[NeuronId],
    intervention: Intervention,
    beside: Mapping[Beside, Float[np.ndarray, "L N"]],
    *,
    together: bool = False,
    jobs: int | None = None,
    scheduler: str | None = None,
    bars: Bars = no_bars,
) -> Ablations:
    """Measure the exact effect of each of these neurons, in units of each measure.

    beside: what stands beside the effects, as in `neuron_effects`. together: also all of them as one set; effects of
    single neurons are then few, and not kept. jobs, scheduler: where the exact effects are computed.
    """
    if is_spread(jobs, scheduler) and not together:
        with bars(f"exact effects of {len(neurons)} neurons, by block") as progress:
            sweep(ctx, neurons, intervention, jobs=jobs, scheduler=scheduler, progress=progress)
    with bars(f"exact effects of {len(neurons)} neurons") as progress:
        effects = neuron_effects(ctx, neurons, intervention, beside=beside, keep=not together, progress=progress)
    others = _other_effects(ctx, effects, beside, bars)
    return Ablations(
        effects=effects,
        references=all_references(ctx, intervention.ablation, bars=bars),
        group=group_effect(ctx, neurons, intervention) if together and len(neurons) > 1 else None,
        agreement=_agreement(effects, *others) if others else None,
        others=others,
    )


def all_references(
    ctx: AblationContext, ablation: Ablation = "random-year", *, bars: Bars = no_bars
) -> dict[Measure, References]:
    """Return the reference values of every measure; the floor is that of random-year ablation."""
    floor: dict[Measure, float] = {}
    if ablation == "random-year":
        with bars("the floor") as progress:
            floor = floors(ctx, progress=progress)
    return {measure: references(ctx, measure, floor=floor.get(measure)) for measure in get_args(Measure)}


def _other_effects(
    ctx: AblationContext, total: NeuronEffects, beside: Mapping[Beside, Float[np.ndarray, "L N"]], bars: Bars
) -> tuple[NeuronEffects, ...]:
    """Direct and frozen effects of neurons whose total effects on the contrast are known; they cost little."""
    if total.intervention.effect != "total" or total.intervention.measure != "contrast" or len(total.neurons) < 3:
        return ()
    scores: dict[Beside, Float[np.ndarray, "L N"]] = {
        "score": beside["score"],
        "year_specific": beside["year_specific"],
    }
    with bars("direct and frozen effects") as progress:
        return tuple(
            neuron_effects(
                ctx, total.neurons, Intervention(total.intervention.ablation, effect), beside=scores, keep=False,
                progress=progress,
            )
            for effect in ("direct", "frozen")
        )  # fmt: skip


def _agreement(total: NeuronEffects, direct: NeuronEffects, frozen: NeuronEffects) -> Agreement:
    return agreement(total.neurons, total.predicted, frozen=frozen.effect, direct=direct.effect, total=total.effect)


def top_k_curves(
    ctx: AblationContext,
    orders: Mapping[str, Int[np.ndarray, " M"]],
    *,
    ablation: Ablation = "random-year",
    effects: NeuronEffects | None = None,
    seed: int = 0,
    bars: Bars = no_bars,
) -> tuple[Curves, PublishedCurve]:
    """Curves in these orders, in order of activation variance and of the exact effects given; the published curve of
    one layer.
    """
    exact = {} if effects is None else {EXACT_ORDER: effect_order(ctx, effects)}
    shown = {**orders, **exact, "activation variance": variance_order(ctx)}
    with bars("top-k curves") as progress:
        found = curves(ctx, shown, ablation=ablation, seed=seed, progress=progress)
    layer = min(max(ctx.model.config.n_layers - 2, ctx.cache.layers[0]), ctx.cache.layers[-1])
    with bars("the published curve") as progress:
        return found, published_curve(ctx, layer=layer, progress=progress)


def agreement(
    neurons: Sequence[NeuronId],
    predicted: Float[np.ndarray, " M"],
    *,
    frozen: Float[np.ndarray, " M"],
    direct: Float[np.ndarray, " M"],
    total: Float[np.ndarray, " M"],
) -> Agreement:
    """Compare what direct logit attribution predicts with the exact effects (ablated minus clean), in logits.

    Raises `InputError` for fewer than three neurons, or neurons without a score.
    """
    if len(neurons) < 3 or np.isnan(predicted).any():
        raise InputError("agreement compares at least three neurons that all have a score")
    lost = {"frozen": -frozen, "direct": -direct, "total": -total}
    chain = np.stack([predicted, *lost.values()])
    furthest = largest(np.abs(np.diff(chain, axis=0)))
    ranks = np.stack([_ranks(predicted), _ranks(lost["total"])])
    counts = (np.abs(chain[[0, 3]]) >= NOISE * np.abs(chain[[0, 3]]).max(1, keepdims=True)).any(0)
    return Agreement(
        neurons=tuple(neurons),
        predicted=predicted,
        **lost,
        correlation={name: _correlations(predicted, lost[name]) for name in ("direct", "total")},
        sign_differs=counts & (np.sign(cleared(predicted)) != np.sign(cleared(lost["total"]))),
        rank_differs=counts & (np.abs(ranks[0] - ranks[1]) > RANK_GAP * len(predicted)),
        step=tuple(STEPS[i] for i in furthest.tolist()),
    )


def _ranks(values: Float[np.ndarray, " M"]) -> np.ndarray:
    return np.argsort(descending(values))


def _correlations(predicted: Float[np.ndarray, " M"], effect: Float[np.ndarray, " M"]) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    return {
        "spearman": float(spearmanr(cleared(predicted), cleared(effect))[0]),
        "pearson": float(pearsonr(predicted, effect)[0]),
    }
