"""Shares beside what the field uses in their place: how much the first k of each order recover.

1. Every order is scored on the same prompts: the first k run as they are, all others at a random other start year
   (sufficiency), and the other way round (necessity), one draw.
2. `matched random`: the order by share with neurons exchanged at random among those of the same layer and fifth of
   activation variance, averaged over `RANDOM` exchanges: what size, layer and variance alone would do.
3. With `exact`, also the exact effect of each neuron alone: as many runs as there are neurons. With `shapley`, also
   sampled Shapley values of all: as many runs as neurons times samples.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from neurons.attribution.approximations import alone, gradients_between_inputs, one_gradient, relp
from neurons.attribution.results import Attribution
from neurons.attribution.shapley import shapley_by_permutation
from neurons.intervention.context import AblationContext
from neurons.ranking.results import FRACTIONS, SHAPLEY, SIZES, OrderComparison
from neurons.ranking.sets import first_of, kept_measures
from neurons.rounding import descending
from neurons.types import Measure, Progress

RANDOM = 5
DRAWS = 1


def compare_orders(
    ctx: AblationContext,
    share: Attribution,
    direct: Float[np.ndarray, " M"],
    *,
    exact: bool = False,
    shapley: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> OrderComparison:
    """Orders by share, by its approximations and by plain scores, in the measure of `share`.

    direct: in logits. exact: also each neuron alone; shapley: sampled values. progress: prompts done, then samples.
    """
    scores = _in_units(ctx, share, seed)
    effects = np.zeros((2, 0))
    if exact:
        effects = np.stack([*alone(ctx, measures=["contrast", share.measure], draws=DRAWS, seed=seed,
                                   progress=progress).values()])  # fmt: skip
        scores["each neuron alone, exact"] = effects[1]
    if shapley:
        scores[SHAPLEY] = _sampled_values(ctx, share.measure, seed, progress)
    n_units = len(scores)
    scores |= {"direct effect": direct, "activation variance": (variance := variance_of(ctx))}
    orders = [descending(values) for values in scores.values()]
    orders += matched_orders(orders[0], variance, ctx.cache.d_mlp, seed)
    sizes = order_sizes(len(variance))
    kept, removed = _curves(ctx, orders, sizes, share.measure, seed)
    total = [float(values.sum()) if place < n_units else np.nan for place, values in enumerate(scores.values())]
    return OrderComparison(
        measure=share.measure,
        names=(*scores, "matched random"),
        sizes=sizes,
        kept=kept,
        removed=removed,
        correlation=np.array([_spearman(share.share, values) for values in scores.values()] + [np.nan]),
        total=np.array([*total, np.nan]),
        alone=effects,
    )


def _in_units(ctx: AblationContext, share: Attribution, seed: int) -> dict[str, Float[np.ndarray, " M"]]:
    """Scores in units of the measure."""
    m = share.measure
    return {
        "share": share.share,
        "written share": share.written_share,
        "gradient at the clean run": one_gradient(ctx, measures=[m], draws=DRAWS, seed=seed)[m],
        "gradient at the floor": one_gradient(ctx, alpha=0.0, measures=[m], draws=DRAWS, seed=seed)[m],
        "gradients between inputs": gradients_between_inputs(ctx, measures=[m], draws=DRAWS, seed=seed)[m],
        "RelP": relp(ctx, measures=[m])[m],
    }


def _sampled_values(ctx: AblationContext, m: Measure, seed: int, progress: Progress | None) -> Float[np.ndarray, " M"]:
    return shapley_by_permutation(ctx, measures=[m], seed=seed, progress=progress)[m].value


def order_sizes(neurons: int) -> Int[np.ndarray, " G"]:
    """None, the fractions of `FRACTIONS`, and `SIZES` where there are so many."""
    sizes = {0, *(max(1, round(fraction * neurons)) for fraction in FRACTIONS), *(k for k in SIZES if k < neurons)}
    return np.array(sorted(sizes))


def _curves(
    ctx: AblationContext, orders: Sequence[Int[np.ndarray, " M"]], sizes: Int[np.ndarray, " G"], m: Measure, seed: int
) -> tuple[Float[np.ndarray, "A G"], Float[np.ndarray, "A G"]]:
    """Kept and removed, the last `RANDOM` orders as one."""
    sets = np.concatenate([first_of(order, sizes.tolist()) for order in orders])
    both = kept_measures(ctx, np.concatenate([sets, ~sets]), measures=[m], draws=DRAWS, seed=seed)[m].mean(1)
    values = both.reshape(2, len(orders), len(sizes))
    floor, clean = values[0, 0, 0], values[0, 0, -1]
    part = (values - floor) / (clean - floor) if clean != floor else np.zeros_like(values)
    part = np.concatenate([part[:, :-RANDOM], part[:, -RANDOM:].mean(1, keepdims=True)], 1)
    return part[0], part[1]


def variance_of(ctx: AblationContext) -> Float[np.ndarray, " M"]:
    """Activation variance of every neuron over all prompts of the cache, layer by layer."""
    return np.concatenate([ctx.activations.layer(layer).variance for layer in ctx.cache.layers])


def matched_orders(
    order: Int[np.ndarray, " M"], variance: Float[np.ndarray, " M"], d_mlp: int, seed: int
) -> list[Int[np.ndarray, " M"]]:
    """`RANDOM` orders with neurons exchanged within each layer and fifth of variance."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(RANDOM):
        other = np.arange(len(order))
        for start in range(0, len(order), d_mlp):
            by_size = start + np.argsort(variance[start : start + d_mlp], kind="stable")
            for fifth in np.array_split(by_size, 5):
                other[fifth] = rng.permutation(fifth)
        found.append(other[order])
    return found


def _spearman(one: Float[np.ndarray, " M"], other: Float[np.ndarray, " M"]) -> float:
    from scipy.stats import spearmanr  # slow to import

    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else float("nan")
