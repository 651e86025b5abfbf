"""Sets of neurons: the first k of an order kept and the rest at a random other year, or these ablated."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.attribution.draws import DRAWS
from neurons.attribution.end import blocks, with_kept
from neurons.intervention.context import AblationContext
from neurons.intervention.groups import MEASURES
from neurons.types import Measure, Progress


def first_of(order: Int[np.ndarray, " M"], sizes: Sequence[int]) -> Bool[np.ndarray, "G M"]:
    """A set for each size: the first so many of an order."""
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    return place < np.asarray(sizes)[:, None]


def kept_measures(
    ctx: AblationContext,
    kept: Bool[np.ndarray, "G M"],
    *,
    measures: Sequence[Measure] = MEASURES,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Measure, Float[np.ndarray, "G Y"]]:
    """Each measure at each start year when a set runs as it is and the other neurons, layer by layer, do not.

    These take their activations together from one other prompt: the same noun and century, a random other start
    year, averaged over `draws`. Removing a set is keeping the rest: `~kept`. progress: prompts done.
    """
    found = {measure: np.zeros((len(kept), len(ctx.start_years))) for measure in measures}
    done = 0
    for block in blocks(ctx, measures, draws=draws, seed=seed):
        average = ctx.averaging[:, np.searchsorted(ctx.rows, block.rows)].T
        for other in block.drawn:
            values = with_kept(ctx, block, other, kept).numpy(force=True)
            for measure, of_prompts in zip(measures, values, strict=True):
                found[measure] += of_prompts.astype(float) @ average / draws
        done += len(block.rows)
        if progress:
            progress(done, len(ctx))
    return found
