"""Interchange: do the first neurons carry the start year? (Geiger et al. 2021)

1. The first k neurons by share take their activations at END from a prompt of another start year: the same noun and
   century, so that nothing but YY differs. Everything else stays in the prompt's own run and responds.
2. The answer is scored for the year that was transplanted and for the prompt's own, and compared with the other
   prompt's own answer by their total variation.
3. A curve over k, each prompt with one other; and two maps, start year by transplanted year, at one k: each cell is a
   pair of prompts of one noun and century, drawn from those that have both.

Of prompts of one's own, where a noun has one start year in a century, the other prompt is as near as `random_years`
finds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from neurons.attribution.answer import answer_of
from neurons.attribution.end import Block, with_kept
from neurons.intervention.context import PROMPT_BLOCK, AblationContext
from neurons.intervention.draws import is_crossed, noun_centuries, random_years
from neurons.ranking.patched import Runs, answers, log_answer, post_of, runs, scores, total_variation
from neurons.ranking.set_results import Interchange
from neurons.ranking.sets import first_of, set_sizes
from neurons.types import InputError, Measure, Progress, check_is, check_whole

SCORED: Measure = "probability_difference"
READINGS = 2
"""Runs that a run here counts for: all its probabilities are compared with another answer's."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Prompts, rows of the cache, and those that their neurons take activations from."""

    rows: Int[np.ndarray, " P"]
    others: Int[np.ndarray, " P"]

    def pieces(self) -> Iterator["Pairs"]:
        for start in range(0, len(self.rows), PROMPT_BLOCK):
            part = slice(start, start + PROMPT_BLOCK)
            yield Pairs(self.rows[part], self.others[part])


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that are run of one noun and century; its pairs for the curve and for the maps."""

    rows: Int[np.ndarray, " g"]
    along: Pairs
    across: Pairs


def interchange(
    ctx: AblationContext,
    order: Int[np.ndarray, " M"],
    k: int | None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Interchange:
    """Interchange the first neurons of an order. k: of the maps, which are empty where there is none.

    progress: pairs of prompts done. Raises `InputError` where no pair of prompts has measured start years.
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_whole("seed", seed, least=0)
    sizes = set_sizes(len(order))
    plan = _plan(ctx, ctx.sampled(READINGS * len(sizes)), with_maps=bool(k), seed=seed)
    curve, maps = _run(ctx, plan, first_of(order, sizes.tolist()), first_of(order, [k or 0]), progress)
    paired = ctx.on(np.concatenate([one.along.rows for one in plan]))
    means = (curve[..., paired.rows] @ paired.averaging.T).mean(-1)
    return Interchange(
        start_years=ctx.start_years,
        n_prompts=len(paired),
        sizes=sizes,
        **dict(zip(("for_transplanted", "for_own", "total_variation"), means, strict=True)),
        k=k,
        map_for_transplanted=maps[0],
        map_for_own=maps[1],
    )


def _run(
    ctx: AblationContext,
    plan: list[Group],
    sets: Bool[np.ndarray, "G M"],
    chosen: Bool[np.ndarray, "1 M"],
    progress: Progress | None,
) -> tuple[Float[np.ndarray, "3 G all"], Float[np.ndarray, "2 Y Y"]]:
    """Each curve at every paired row of the cache, and both maps."""
    curve, maps = np.zeros((3, len(sets), len(ctx.cache))), np.full((2, *[len(ctx.start_years)] * 2), np.nan)
    done, total = 0, sum(len(one.along.rows) + len(one.across.rows) for one in plan)
    for one in plan:
        known = runs(ctx, one.rows)
        for pairs in one.along.pieces():
            curve[:, :, pairs.rows] = _exchanged(ctx, known, pairs, sets)
        for pairs in one.across.pieces():
            at = _at(ctx, pairs.rows), _at(ctx, pairs.others)
            maps[:, *at] = _scored(ctx, known, pairs, chosen)
        done += len(one.along.rows) + len(one.across.rows)
        if progress:
            progress(done, total)
    return curve, maps


def _plan(ctx: AblationContext, measured: AblationContext, *, with_maps: bool, seed: int) -> list[Group]:
    """Every pair of prompts that is run. Raises `InputError` where there is none."""
    rng, drawn = np.random.default_rng(seed), random_years(ctx.cache, draws=1, seed=seed)[0]
    groups = [np.sort(rows[np.isin(rows, ctx.rows)]) for rows in noun_centuries(ctx.cache)]
    cell = _cells(ctx, groups, rng) if with_maps else np.full((len(ctx.start_years),) * 2, -1)
    plan = []
    for number, rows in enumerate(groups):
        others = _next_in_circle(rows, rng) if is_crossed(ctx.cache, rows) else drawn[rows]
        is_pair = np.isin(rows, measured.rows) & np.isin(ctx.cache.start_year[others], ctx.start_years)
        along = Pairs(rows[is_pair], others[is_pair])
        plan.append(Group(np.concatenate([rows, along.others]), along, _pairs_of(ctx, rows, cell == number)))
    if not sum(len(one.along.rows) for one in plan):
        raise InputError("no two prompts of one noun and century have measured start years: measure more start years")
    return [one for one in plan if len(one.rows)]


def _next_in_circle(rows: Int[np.ndarray, " g"], rng: np.random.Generator) -> Int[np.ndarray, " g"]:
    """Another row for each: the one before it in a random order."""
    order = rng.permutation(len(rows))
    found = np.empty_like(rows)
    found[order] = rows[np.roll(order, 1)]
    return found


def _cells(ctx: AblationContext, groups: list[np.ndarray], rng: np.random.Generator) -> Int[np.ndarray, "Y Y"]:
    """For each start year and transplanted year the number of a group that has both, once; at random; -1 for none."""
    held = np.zeros((len(groups), len(ctx.start_years)), bool)
    for number, group in enumerate(groups):
        held[number, _at(ctx, group)] = is_crossed(ctx.cache, group)
    both = held[:, :, None] & held[:, None]
    drawn = np.where(both, rng.random(both.shape), -1.0).argmax(0)
    return np.where(both.any(0), drawn, -1)


def _pairs_of(ctx: AblationContext, group: Int[np.ndarray, " g"], cells: Bool[np.ndarray, "Y Y"]) -> Pairs:
    """The pairs of a group that fill these cells."""
    row_of = np.full(len(ctx.start_years), -1)
    row_of[_at(ctx, group)] = group
    own, other = np.nonzero(cells)
    return Pairs(row_of[own], row_of[other])


def _at(ctx: AblationContext, rows: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
    return np.searchsorted(ctx.start_years, ctx.cache.start_year[rows])


def _exchanged(
    ctx: AblationContext, known: Runs, pairs: Pairs, sets: Bool[np.ndarray, "G M"]
) -> Float[np.ndarray, "3 G P"]:
    """Scores for the transplanted and the own year, and total variation to the other prompt's own answer."""
    own, other = known.of(pairs.rows), known.of(pairs.others)
    target = log_answer(ctx.model, other.after[-1])
    year, other_year = ctx.cache.start_year[pairs.rows], ctx.cache.start_year[pairs.others]
    found = np.zeros((3, len(sets), len(pairs.rows)))
    for part, log_p in answers(ctx, own, sets, post_of(ctx, other)):
        found[0, part] = scores(log_p, [SCORED], other_year, ctx.year_ids)[0]
        found[1, part] = scores(log_p, [SCORED], year, ctx.year_ids)[0]
        found[2, part] = total_variation(target, log_p)
    return found


def _scored(
    ctx: AblationContext, known: Runs, pairs: Pairs, chosen: Bool[np.ndarray, "1 M"]
) -> Float[np.ndarray, "2 P"]:
    """The scores alone, from one softmax."""
    years = [ctx.cache.start_year[rows] for rows in (pairs.others, pairs.rows)]
    each = [answer_of(ctx.model, [SCORED], year, ctx.year_ids) for year in years]
    both = replace(each[0], measures=(SCORED, SCORED), weights=torch.cat([one.weights for one in each]))
    own, other = Block(pairs.rows, known.of(pairs.rows), (), both), post_of(ctx, known.of(pairs.others))
    values: np.ndarray = with_kept(ctx, own, other, ~chosen)[:, 0].numpy(force=True)
    return values
