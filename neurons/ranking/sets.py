"""What sets of neurons recover: kept, or removed, with all others at a random other year; and how many it takes.

How many it takes is measured on centuries held out:

1. The centuries are split in two halves, every other one. Neurons are ordered by their shares in one half.
2. On the other half the first k run as they are and all others take the activations of a random other start year.
3. Recovered is (with the first k - with none) over (with all - with none), both halves averaged.

Where many sets on all prompts would be too much work, they are run on a sample: the same number of prompts of every
start year, as many as `WORK` allows and at least one, and as nearly as can be the same number of every century.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.attribution.end import block_of, measured_rows, with_kept
from neurons.attribution.results import Attributed, Attribution, Recovery
from neurons.attribution.shares import attribute
from neurons.intervention.context import AblationContext
from neurons.intervention.draws import DRAWS, random_years
from neurons.intervention.groups import MEASURES
from neurons.model.device import on_threads
from neurons.types import Measure, Progress, check_is, check_whole

RECOVERED: tuple[Measure, ...] = ("probability_difference", "cutoff_sharpness")
"""Those in which sets are measured: both are of the whole answer."""
SINGLY = 8
GROWTH = 1.3
"""Sizes of sets: every k up to `SINGLY`, then each so much larger than the last."""
ONE_DRAW = 1
"""Other start years for each prompt: differences between prompts' draws average out over some 2,000 prompts."""

WORK = 8e12
"""Multiply-adds of one analysis: some two minutes on two cores."""


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
    found = np.zeros((len(measures), len(kept), len(ctx.start_years)))
    done, taken = 0.0, random_years(ctx.cache, draws=draws, seed=seed)

    def of_rows(rows: Int[np.ndarray, " P"]) -> Iterator[tuple[float, Float[np.ndarray, "K G Y"]]]:
        block, average = block_of(ctx, measures, rows, taken[:, rows]), ctx.averaging_of(rows).T
        for other in block.drawn:
            values = with_kept(ctx, block, other, kept).numpy(force=True)
            yield len(rows) / draws, values.astype(float) @ average / draws

    for prompts, means in on_threads(ctx.model, of_rows, list(measured_rows(ctx))):
        found += means
        done += prompts
        if progress:
            progress(round(done), len(ctx))
    return dict(zip(measures, found, strict=True))


def attributed(ctx: AblationContext, *, seed: int = 0, progress: Progress | None = None) -> Attributed:
    """Shares in every measure, and what the first k recover of probability difference and cutoff sharpness.

    Raises `InputError` where all prompts have one start year.
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_whole("seed", seed, least=0)
    shares = attribute(ctx, seed=seed, keep=True, progress=progress)
    return Attributed(tuple(shares.values()), recoveries(ctx, shares, seed=seed))


def recoveries(
    ctx: AblationContext, shares: Mapping[Measure, Attribution], *, seed: int = 0, draws: int = ONE_DRAW
) -> tuple[Recovery, ...]:
    """For each of `RECOVERED`, kept sets of growing size; with one century they are measured where they were chosen."""
    sizes = set_sizes(len(ctx.cache.layers) * ctx.cache.d_mlp)
    found: dict[Measure, list[np.ndarray]] = {measure: [] for measure in RECOVERED}
    centuries = shares[RECOVERED[0]].centuries
    for chosen_on, some in halves(ctx, centuries):
        sets = np.concatenate([first_of(shares[measure].order(chosen_on), sizes.tolist()) for measure in RECOVERED])
        values = kept_measures(some, sets, measures=RECOVERED, draws=draws, seed=seed)
        for place, measure in enumerate(RECOVERED):
            found[measure].append(values[measure].mean(1)[place * len(sizes) : (place + 1) * len(sizes)])
    return tuple(
        Recovery(measure, sizes, recovered(np.mean(found[measure], 0)), len(centuries) > 1) for measure in RECOVERED
    )


def halves(ctx: AblationContext, centuries: tuple[int, ...]) -> list[tuple[Bool[np.ndarray, " C"], AblationContext]]:
    """Every other century to choose on, the others to measure on, both ways; one century serves for both."""
    first = np.arange(len(centuries)) % 2 == 0
    pairs = [(first, ~first), (~first, first)] if len(first) > 1 else [(first, first)]
    return [(chosen_on, _of_centuries(ctx, centuries, measured_on)) for chosen_on, measured_on in pairs]


def on_rows(ctx: AblationContext, rows: Int[np.ndarray, " P"]) -> AblationContext:
    """The context on some of its prompts, by their rows of the cache, and on their start years."""
    return replace(ctx, rows=np.sort(rows), start_years=tuple(np.unique(ctx.cache.start_year[rows]).tolist()))


def set_sizes(neurons: int) -> Int[np.ndarray, " G"]:
    """From none to all of so many neurons."""
    sizes = list(range(min(SINGLY, neurons) + 1))
    while sizes[-1] < neurons:
        sizes.append(min(neurons, int(np.ceil(sizes[-1] * GROWTH))))
    return np.array(sizes)


def _of_centuries(ctx: AblationContext, centuries: tuple[int, ...], some: Bool[np.ndarray, " C"]) -> AblationContext:
    return on_rows(ctx, ctx.rows[np.isin(ctx.cache.century[ctx.rows], np.array(centuries)[some])])


def recovered(values: Float[np.ndarray, " G"]) -> Float[np.ndarray, " G"]:
    """Measures of sets, none first and all last, as parts of what lies between; zeros where nothing does."""
    moved = values[-1] - values[0]
    return (values - values[0]) / moved if moved else np.zeros(len(values))


def sampled(ctx: AblationContext, sets: int, *, most: int | None = None, seed: int = 0) -> AblationContext:
    """The context itself where so many sets on all of its prompts are within `WORK`, else on a sample of them.

    most: prompts of each start year.
    """
    count = np.unique(ctx.start_year, return_counts=True)[1]
    per_year = max(1, min(most or len(ctx), int(WORK // (sets * len(count) * work_of_answer(ctx)))))
    return ctx if per_year >= count.max() else balanced(ctx, per_year, seed=seed)


def work_of_answer(ctx: AblationContext) -> int:
    """Multiply-adds of END run again from the first chosen layer on, and of the logits of all tokens."""
    config = ctx.model.config
    layer = 4 * config.d_model**2 + 2 * config.d_model * config.d_mlp
    return (config.n_layers - min(ctx.cache.layers)) * layer + config.d_model * ctx.model.W_U.shape[0]


def balanced(ctx: AblationContext, per_year: int, *, seed: int = 0) -> AblationContext:
    """The context on `per_year` prompts of each start year, drawn from the centuries that have the fewest so far."""
    rng, century = np.random.default_rng(seed), ctx.cache.century
    free = {year: rng.permutation(ctx.rows[ctx.start_year == year]).tolist() for year in ctx.start_years}
    taken: list[int] = []
    used: Counter[int] = Counter()
    for _ in range(per_year):
        for year in rng.permutation(ctx.start_years).tolist():
            if not free[year]:
                continue
            row = min(free[year], key=lambda row: used[int(century[row])])
            free[year].remove(row)
            used[int(century[row])] += 1
            taken.append(row)
    return on_rows(ctx, np.array(taken))
