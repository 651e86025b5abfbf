"""A set of neurons in both directions: kept alone in its own run, and put alone into another.

1. `keep` (noising): the prompt's own run, with all other neurons of the layers at the other run's activations.
2. `insert` (denoising): the other run, with the set at the activations of the prompt's own run; everything else
   responds, other layers and attention among it.
3. The other run is that of a random other start year, or the corrupted run (YY replaced by 01).
4. Every answer is scored for the prompt's own start year, and compared with the whole model's by its KL divergence.
   Beside the set: no neuron, which is the other end of the scale, and all neurons of the layers.
"""

from collections.abc import Iterator, Mapping
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurons.intervention.context import AblationContext
from neurons.intervention.draws import random_years
from neurons.model.forward import EndTrace
from neurons.ranking.patched import answers, divergence, log_answer, post_of, runs, scores
from neurons.ranking.set_results import SETS, Direction, PatchedRuns, Reference, WorstPrompt
from neurons.ranking.sets import RECOVERED
from neurons.rounding import descending
from neurons.types import Progress

WORST = 5
"""Prompts named for each direction and reference."""
PAIRS: tuple[tuple[Direction, Reference], ...] = tuple(
    (direction, reference) for direction in get_args(Direction) for reference in get_args(Reference)
)


def directions(
    ctx: AblationContext, chosen: Bool[np.ndarray, " M"], *, seed: int = 0, progress: Progress | None = None
) -> tuple[PatchedRuns, ...]:
    """The set in every direction and reference. progress: prompts done."""
    others = random_years(ctx.cache, draws=1, seed=seed)[0, ctx.rows]
    found = np.zeros((len(PAIRS), len(RECOVERED) + 1, len(SETS), len(ctx)))
    for block in ctx.blocks():
        for place, log_p, whole in _answers(ctx, block, others[block], chosen):
            found[place, :-1, :, block] = scores(log_p, RECOVERED, ctx.start_year[block], ctx.year_ids)
            found[place, -1, :, block] = divergence(whole, log_p)
        if progress:
            progress(block.stop, len(ctx))
    return tuple(_result(ctx, pair, values, others) for pair, values in zip(PAIRS, found, strict=True))


def _answers(
    ctx: AblationContext, block: slice, others: Int[np.ndarray, " P"], chosen: Bool[np.ndarray, " M"]
) -> Iterator[tuple[int, Float[Tensor, "3 P V"], Float[Tensor, "P V"]]]:
    """For each of `PAIRS` the answers with no neuron, the set and all; and the whole model's."""
    rows = ctx.rows[block]
    known = runs(ctx, np.concatenate([rows, others]))
    own, counterfactual = known.of(rows), ctx.cache.counterfactual[rows]
    references: Mapping[Reference, EndTrace] = {
        "random-year": known.of(others),
        "corrupted": runs(ctx, counterfactual, corrupted=True).of(counterfactual),
    }
    sets = np.stack([np.zeros_like(chosen), chosen, np.ones_like(chosen)])
    whole = log_answer(ctx.model, own.after[-1])
    for place, (direction, reference) in enumerate(PAIRS):
        other = references[reference]
        if direction == "keep":
            parts = answers(ctx, own, ~sets, post_of(ctx, other))
        else:
            parts = answers(ctx, other, sets, post_of(ctx, own))
        yield place, torch.cat([log_p for _, log_p in parts]), whole


def _result(
    ctx: AblationContext,
    pair: tuple[Direction, Reference],
    values: Float[np.ndarray, "3 3 P"],
    others: Int[np.ndarray, " P"],
) -> PatchedRuns:
    means = (values @ ctx.averaging.T).mean(-1)
    of_set = values[-1, SETS.index("set")]
    other_year = ctx.cache.start_year[others] if pair[1] == "random-year" else np.full(len(ctx), 1)
    worst = tuple(
        WorstPrompt(
            noun=ctx.cache.noun[ctx.rows[at]],
            century=int(ctx.cache.century[ctx.rows[at]]),
            start_year=int(ctx.start_year[at]),
            other_year=int(other_year[at]),
            divergence=float(of_set[at]),
            probability_difference=float(values[0, SETS.index("set"), at]),
        )
        for at in descending(of_set)[:WORST].tolist()
    )
    return PatchedRuns(
        direction=pair[0],
        reference=pair[1],
        probability_difference=means[0],
        cutoff_sharpness=means[1],
        divergence=means[2],
        worst=worst,
    )
