"""What the model recovers with the first k neurons alone, ordered on one half of the centuries and run on the other."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from neurons.attribution.results import Attributed
from neurons.intervention.context import AblationContext
from neurons.ranking.sets import ONE_DRAW, RECOVERED, first_of, halves, kept_measures, recovered, sampled
from neurons.types import Measure, Progress

ORDERED_BY: Measure = "probability_difference"


def behaviour_of_first(
    ctx: AblationContext,
    attributed: Attributed,
    sizes: Sequence[int],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Measure, Float[np.ndarray, " G"]]:
    """Recovered parts of clean minus floor in both measures, in one order: by share of the probability difference.

    sizes: ascending, the last of them all neurons. On many neurons a sample of the prompts is run (`sampled`).
    """
    share, found = attributed.share(ORDERED_BY), []
    pairs = halves(sampled(ctx, len(sizes) + 1, seed=seed), share.centuries)
    for done, (chosen, some) in enumerate(pairs, 1):
        sets = first_of(share.order(chosen), [0, *sizes])
        values = kept_measures(some, sets, measures=RECOVERED, draws=ONE_DRAW, seed=seed)
        found.append([values[measure].mean(1) for measure in RECOVERED])
        if progress:
            progress(done, len(pairs))
    means = np.mean(found, 0)
    return {measure: recovered(one)[1:] for measure, one in zip(RECOVERED, means, strict=True)}
