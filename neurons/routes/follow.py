"""Follow the first neurons by share to the answer: the routes of their shares, and of the total effect of a few."""

from neurons.attribution.results import Attribution
from neurons.intervention.context import AblationContext
from neurons.routes.effect import effect_routes
from neurons.routes.results import Routes
from neurons.routes.share import share_routes
from neurons.types import Bars, Neurons, check_is, no_bars, parse_neurons

ALONE = 24
"""Neurons whose total effects are split: as many as have a page."""


def follow(ctx: AblationContext, attribution: Attribution, neurons: Neurons, *, bars: Bars = no_bars) -> Routes:
    """Split the shares of these neurons by route, and the total effects of the first `ALONE`.

    attribution: their shares in one measure; its draws, seed and steps are taken again. bars: opens a progress bar for
    each. Raises `InputError` for a neuron outside the cache.
    """
    check_is("attribution", attribution, Attribution, "what study.attribution() returns")
    found, measure, seed = parse_neurons(neurons), attribution.measure, attribution.seed
    with bars("following shares to the answer") as progress:
        share = share_routes(
            ctx, found, steps=attribution.steps, measure=measure, draws=attribution.draws, seed=seed, progress=progress
        )
    with bars("following total effects") as progress:
        effect = effect_routes(ctx, found[:ALONE], found, measure=measure, seed=seed, progress=progress)
    return Routes(attribution.model, measure, share, effect, attribution.draws, attribution.steps)
