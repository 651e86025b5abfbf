"""How many neurons are enough, and what a set of them leaves out.

1. `set_study`: the curve of keeping the first k by share (sufficiency) and of removing them (necessity), ordered on one
   half of the centuries and measured on the other, beside random sets matched on layer and activation variance.
2. The set C that recovers 90 % of the probability difference: what each of its members alone is worth to it, and
   whether it is complete. With K removed, a complete set does as the whole model does with K removed, whatever K
   within C: the gap |F(C without K) - F(all without K)| is measured for random K (Wang et al. 2022).
3. C in both directions (`directions`).
4. `on_other_prompts`: the same neurons in the same order on prompts of another template.

All else of the layers takes the activations of a random other start year, one draw.
"""

import numpy as np
from jaxtyping import Bool, Float

from neurons.attribution.recovery import Recovery
from neurons.attribution.results import Attributed, Attribution
from neurons.intervention.context import PER_YEAR, AblationContext
from neurons.ranking.directions import directions
from neurons.ranking.orders import matched_orders, variance_of
from neurons.ranking.ranking import HELD
from neurons.ranking.set_results import Members, OtherPrompts, PatchedRuns, SetCurve, SetStudy
from neurons.ranking.sets import ONE_DRAW, RECOVERED, first_of, halves, kept_measures, recovered, set_sizes
from neurons.types import Bars, Progress, check_is, check_whole, no_bars

SUBSETS = 100
"""Random K within C."""
OF_CURVES = PER_YEAR // 2
"""Most prompts of each start year in each half of the centuries: differences between them are small beside sets'."""


def set_study(ctx: AblationContext, attributed: Attributed, *, seed: int = 0, bars: Bars = no_bars) -> SetStudy:
    """Curves, members, completeness and both directions.

    attributed: shares of the same prompts. Raises `InputError` where a noun has one start year alone in its century.
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_is("attributed", attributed, Attributed, "what study.attributed() returns")
    check_whole("seed", seed, least=0)
    share = attributed.share(RECOVERED[0])
    curves, n_sampled = _curves(ctx, attributed, seed, bars)
    k = attributed.recovery(share.measure).fewest(HELD)
    members = _members(ctx, share, k, seed, bars) if k else None
    patched: tuple[PatchedRuns, ...] = ()
    if k:
        with bars("the set in both directions") as progress:
            patched = directions(ctx, first_of(share.order(), [k])[0], seed=seed, progress=progress)
    return SetStudy(
        model=ctx.cache.model,
        n_neurons=len(share.neurons),
        n_prompts=attributed.recovery(share.measure).n_prompts,
        n_sampled=n_sampled,
        seed=seed,
        curves=curves,
        members=members,
        runs=patched,
    )


def on_other_prompts(
    ctx: AblationContext, attributed: Attributed, name: str, *, seed: int = 0, progress: Progress | None = None
) -> OtherPrompts:
    """What the first k by share recover on other prompts than those of the shares. name: of these prompts."""
    sizes = set_sizes(len(ctx.cache.layers) * ctx.cache.d_mlp)
    orders = [attributed.share(measure).order() for measure in RECOVERED]
    sets = np.concatenate([first_of(order, sizes.tolist()) for order in orders])
    some = ctx.sampled(len(sets), least=PER_YEAR // 2)
    values = kept_measures(some, sets, measures=RECOVERED, draws=ONE_DRAW, seed=seed, progress=progress)
    curves = {m: np.split(values[m].mean(1), len(RECOVERED))[place] for place, m in enumerate(RECOVERED)}
    return OtherPrompts(
        name=name,
        n_prompts=len(some),
        clean={m: float(one[-1]) for m, one in curves.items()},
        floor={m: float(one[0]) for m, one in curves.items()},
        recoveries=tuple(Recovery(m, sizes, recovered(one), True, len(some)) for m, one in curves.items()),
    )


def _curves(ctx: AblationContext, attributed: Attributed, seed: int, bars: Bars) -> tuple[tuple[SetCurve, ...], int]:
    """The curve of each measure, both halves averaged, and on how many prompts."""
    sizes, variance, n_prompts = set_sizes(len(ctx.cache.layers) * ctx.cache.d_mlp), variance_of(ctx), 0
    shares = [attributed.share(measure) for measure in RECOVERED]
    found = []
    for chosen_on, some in halves(ctx, shares[0].centuries):
        own = [share.order(chosen_on) for share in shares]
        orders = [order for first in own for order in (first, *matched_orders(first, variance, ctx.cache.d_mlp, seed))]
        kept = np.stack([first_of(order, sizes.tolist()) for order in orders]).reshape(
            len(RECOVERED), -1, *sizes.shape, len(own[0])
        )
        sets = np.concatenate([kept[:, 1:], ~kept], 1)
        measured = some.sampled(sets.shape[0] * sets.shape[1] * len(sizes), most=OF_CURVES)
        n_prompts += len(measured)
        with bars("sets of neurons") as progress:
            values = kept_measures(
                measured,
                sets.reshape(-1, sets.shape[-1]),
                measures=RECOVERED,
                draws=ONE_DRAW,
                seed=seed,
                progress=progress,
            )
        found.append([values[m].mean(1).reshape(sets.shape[:3])[place] for place, m in enumerate(RECOVERED)])
    curves = []
    for share, values in zip(shares, np.mean(found, 0), strict=True):
        random, removed = np.split(_parts(values), [len(values) // 2])
        curves.append(
            SetCurve(
                share.measure, sizes, attributed.recovery(share.measure).recovered, removed[0], random, removed[1:]
            )
        )
    return tuple(curves), n_prompts


def _parts(values: Float[np.ndarray, "S G"]) -> Float[np.ndarray, "S G"]:
    """Measures as parts of clean minus floor; those of the first run from the floor to the whole."""
    floor, clean = values[0, 0], values[0, -1]
    return (values - floor) / (clean - floor) if clean != floor else np.zeros_like(values)


def _members(ctx: AblationContext, share: Attribution, k: int, seed: int, bars: Bars) -> Members:
    order = share.order()[:k]
    inside = first_of(share.order(), [k])[0]
    subsets = _subsets(k, seed)
    out = np.zeros((k + SUBSETS, len(inside)), bool)
    out[np.arange(k), order] = True
    out[k:, order] = subsets
    sets = np.concatenate([np.stack([np.zeros_like(inside), inside, np.ones_like(inside)]), inside & ~out, ~out[k:]])
    measured = ctx.sampled(len(sets), most=PER_YEAR)
    with bars(f"{len(sets)} sets within the first {k}") as progress:
        values = kept_measures(
            measured, sets, measures=[share.measure], draws=ONE_DRAW, seed=seed, progress=progress
        )[share.measure].mean(1)  # fmt: skip
    floor, of_set, clean = values[:3]
    moved = clean - floor
    without, of_subsets = np.split(values[3:], [k])
    gap = np.abs(of_subsets[:SUBSETS] - of_subsets[SUBSETS:]) / abs(moved)
    return Members(
        neurons=tuple(share.neurons[row] for row in order.tolist()),
        recovered=float((of_set - floor) / moved),
        loss=(of_set - without) / moved,
        gap=gap,
        subset_size=subsets.sum(1),
        worst=tuple(share.neurons[row] for row in order[subsets[gap.argmax()]].tolist()),
        n_prompts=len(measured),
    )


def _subsets(k: int, seed: int) -> Bool[np.ndarray, "J k"]:
    """The empty set, and sets whose members are drawn with a probability spread over 0 to 1."""
    rng = np.random.default_rng(seed)
    alpha = (np.arange(SUBSETS) + rng.random(SUBSETS)) / SUBSETS
    found = rng.random((SUBSETS, k)) < alpha[:, None]
    found[0] = False
    return found
