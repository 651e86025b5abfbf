"""What sets of neurons recover: kept, or removed, with all others at a random other year; and how many it takes.

How many it takes is measured on centuries held out:

1. The centuries are split in two halves, every other one. Neurons are ordered by their shares in one half.
2. On the other half the first k run as they are and all others take the activations of a random other start year.
3. Recovered is (with the first k - with none) over (with all - with none), both halves averaged.

Where so many sets on all prompts would be too much work, they are run on a sample (`AblationContext.sampled`).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from neurons.attribution.end import block_of, measured_rows, with_kept
from neurons.attribution.recovery import Recovery
from neurons.attribution.results import Attributed, Attribution
from neurons.attribution.shares import attribute
from neurons.attribution.spread import spread_shares
from neurons.intervention.context import PER_YEAR, AblationContext
from neurons.intervention.draws import DRAWS, random_years
from neurons.intervention.groups import MEASURES
from neurons.model.device import in_double, on_threads
from neurons.parallel import is_spread
from neurons.types import Measure, Progress, check_is, check_whole

RECOVERED: tuple[Measure, ...] = ("probability_difference", "cutoff_sharpness")
"""Those in which sets are measured: both are of the whole answer."""
SINGLY = 8
GROWTH = 1.3
"""Sizes of sets: every k up to `SINGLY`, then each so much larger than the last."""
ONE_DRAW = 1
"""Other start years for each prompt: differences between prompts' draws average out over some 2,000 prompts."""


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
        block, average = (
            block_of(ctx, measures, rows, taken[:, rows]),
            torch.as_tensor(ctx.averaging_of(rows).T / draws),
        )
        for other in block.drawn:
            values = in_double(with_kept(ctx, block, other, kept))
            yield len(rows) / draws, (values @ average.to(values) / draws).numpy(force=True)

    for prompts, means in on_threads(ctx.model, of_rows, list(measured_rows(ctx))):
        found += means
        done += prompts
        if progress:
            progress(round(done), len(ctx))
    return dict(zip(measures, found, strict=True))


def attributed(
    ctx: AblationContext,
    *,
    seed: int = 0,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Attributed:
    """Shares in every measure, and what the first k recover of probability difference and cutoff sharpness.

    jobs, scheduler: where the shares are computed, see `neurons.parallel`. progress: prompts done; it starts again
    for the first k.

    Raises `InputError` where all prompts have one start year.
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_whole("seed", seed, least=0)
    if is_spread(jobs, scheduler):
        spread_shares(ctx, seed=seed, jobs=jobs, scheduler=scheduler, progress=progress)
    shares = attribute(ctx, seed=seed, keep=True, progress=progress)
    return Attributed(tuple(shares.values()), recoveries(ctx, shares, seed=seed, progress=progress))


def recoveries(
    ctx: AblationContext,
    shares: Mapping[Measure, Attribution],
    *,
    seed: int = 0,
    draws: int = ONE_DRAW,
    progress: Progress | None = None,
) -> tuple[Recovery, ...]:
    """For each of `RECOVERED`, kept sets of growing size; with one century they are measured where they were chosen.

    On many neurons a sample of the prompts is run.
    """
    sizes = set_sizes(len(ctx.cache.layers) * ctx.cache.d_mlp)
    found: dict[Measure, list[np.ndarray]] = {measure: [] for measure in RECOVERED}
    centuries = shares[RECOVERED[0]].centuries
    n_prompts = 0
    for chosen_on, half in halves(ctx, centuries):
        some = half.sampled(len(RECOVERED) * len(sizes), least=PER_YEAR)
        sets = np.concatenate([first_of(shares[measure].order(chosen_on), sizes.tolist()) for measure in RECOVERED])
        values = kept_measures(some, sets, measures=RECOVERED, draws=draws, seed=seed, progress=progress)
        n_prompts += len(some)
        for place, measure in enumerate(RECOVERED):
            found[measure].append(values[measure].mean(1)[place * len(sizes) : (place + 1) * len(sizes)])
    return tuple(
        Recovery(measure, sizes, recovered(np.mean(found[measure], 0)), len(centuries) > 1, n_prompts)
        for measure in RECOVERED
    )


def halves(ctx: AblationContext, centuries: tuple[int, ...]) -> list[tuple[Bool[np.ndarray, " C"], AblationContext]]:
    """Every other century to choose on, the others to measure on, both ways; one century serves for both."""
    first = np.arange(len(centuries)) % 2 == 0
    pairs = [(first, ~first), (~first, first)] if len(first) > 1 else [(first, first)]
    return [(chosen_on, _of_centuries(ctx, centuries, measured_on)) for chosen_on, measured_on in pairs]


def set_sizes(neurons: int) -> Int[np.ndarray, " G"]:
    """From none to all of so many neurons."""
    sizes = list(range(min(SINGLY, neurons) + 1))
    while sizes[-1] < neurons:
        sizes.append(min(neurons, int(np.ceil(sizes[-1] * GROWTH))))
    return np.array(sizes)


def _of_centuries(ctx: AblationContext, centuries: tuple[int, ...], some: Bool[np.ndarray, " C"]) -> AblationContext:
    return ctx.on(ctx.rows[np.isin(ctx.cache.century[ctx.rows], np.array(centuries)[some])])


def recovered(values: Float[np.ndarray, " G"]) -> Float[np.ndarray, " G"]:
    """Measures of sets, none first and all last, as parts of what lies between; zeros where nothing does."""
    moved = values[-1] - values[0]
    return (values - values[0]) / moved if moved else np.zeros(len(values))
