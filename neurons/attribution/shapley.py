"""Shapley values of neurons, sampled: in sets, a neuron runs as it is, or is at a random other year.

1. A sample takes prompts of different start years, another prompt for each, and sets of neurons.
2. Owen's sampling, for chosen neurons: sets whose members are drawn with probability alpha, alpha spread over 0 to 1;
   a neuron's value is the measure with it in the set minus the measure without it, averaged over samples (Owen 1972).
3. Permutations, for all neurons of a small model: neurons join one by one, each counts what it adds (Castro et al.
   2009).

Standard errors come from the spread over samples. Kept neurons are run again: they see what the others do.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from neurons.attribution.end import Block, block_of, with_kept
from neurons.attribution.results import ShapleyValues
from neurons.attribution.shares import check_ctx
from neurons.intervention.context import AblationContext
from neurons.intervention.draws import is_crossed, noun_centuries, random_years
from neurons.intervention.groups import MEASURES
from neurons.types import MOST_RESAMPLES, InputError, Measure, NeuronId, Progress, check_whole, parse_neurons

PROMPTS = 24
"""Prompts of a sample, of as many start years."""


def shapley(
    ctx: AblationContext,
    neurons: Sequence[str | NeuronId],
    *,
    samples: int = 100,
    prompts: int = PROMPTS,
    measures: Sequence[Measure] = MEASURES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Measure, ShapleyValues]:
    """Shapley values of chosen neurons among all of the cached layers, by Owen's sampling.

    Raises `InputError` for fewer than two samples, or for a neuron outside the cache.
    """
    check_ctx(ctx, measures, progress)
    chosen = tuple(ctx.cache.check_neuron(neuron) for neuron in parse_neurons(neurons))
    if not chosen:
        raise InputError("no neuron named: name one or more like L9N12")
    check_whole("samples", samples, least=2, most=MOST_RESAMPLES)
    check_whole("prompts", prompts, least=1)
    check_whole("seed", seed, least=0)
    rows = [ctx.cache.layers.index(neuron.layer) * ctx.cache.d_mlp + neuron.index for neuron in chosen]
    M = len(ctx.cache.layers) * ctx.cache.d_mlp
    rng = np.random.default_rng(seed)

    def added(block: Block, sample: int) -> Float[np.ndarray, "K n"]:
        alpha = (sample + rng.random()) / samples
        sets = np.repeat((rng.random(M) < alpha)[None], 2 * len(rows), 0)
        sets[np.arange(len(rows)), rows], sets[len(rows) + np.arange(len(rows)), rows] = True, False
        values = _measured(ctx, block, sets)
        return values[:, : len(rows)] - values[:, len(rows) :]

    return _estimate(ctx, chosen, added, samples, prompts, measures, rng, progress)


def shapley_by_permutation(
    ctx: AblationContext,
    *,
    samples: int = 300,
    prompts: int = PROMPTS,
    measures: Sequence[Measure] = MEASURES,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Measure, ShapleyValues]:
    """Shapley values of all neurons of the cached layers, a permutation of them for each sample.

    Raises `InputError` for fewer than two samples.
    """
    chosen = tuple(NeuronId(layer, index) for layer in ctx.cache.layers for index in range(ctx.cache.d_mlp))
    rng = np.random.default_rng(seed)

    def added(block: Block, _: int) -> Float[np.ndarray, "K n"]:
        joined = rng.permutation(len(chosen))
        place = np.empty(len(chosen), int)
        place[joined] = np.arange(len(chosen))
        values = _measured(ctx, block, place < np.arange(len(chosen) + 1)[:, None])
        return np.diff(values, axis=1)[:, place]

    return _estimate(ctx, chosen, added, samples, prompts, measures, rng, progress)


def _estimate(
    ctx: AblationContext,
    chosen: tuple[NeuronId, ...],
    added: Callable[[Block, int], Float[np.ndarray, "K n"]],
    samples: int,
    prompts: int,
    measures: Sequence[Measure],
    rng: np.random.Generator,
    progress: Progress | None,
) -> dict[Measure, ShapleyValues]:
    check_whole("samples", samples, least=2, most=MOST_RESAMPLES)
    total = np.zeros((len(measures), len(chosen)))
    squares = np.zeros_like(total)
    for sample, block in enumerate(_sampled(ctx, measures, samples, prompts, rng)):
        values = added(block, sample)
        total += values
        squares += values**2
        if progress:
            progress(sample + 1, samples)
    mean = total / samples
    error = np.sqrt(np.maximum(squares / samples - mean**2, 0) / (samples - 1))
    return {m: ShapleyValues(m, chosen, samples, mean[k], error[k]) for k, m in enumerate(measures)}


def _sampled(
    ctx: AblationContext, measures: Sequence[Measure], samples: int, prompts: int, rng: np.random.Generator
) -> Iterator[Block]:
    """Prompts of different start years, each with one other prompt of its noun and century."""
    group = {int(row): rows for rows in noun_centuries(ctx.cache) if is_crossed(ctx.cache, rows) for row in rows}
    drawn = random_years(ctx.cache) if len(group) < len(ctx.cache) else None
    of_year = [ctx.rows[ctx.start_year == year] for year in ctx.start_years]

    def other(row: int) -> int:
        if drawn is not None and row not in group:
            return int(rng.choice(drawn[:, row]))
        return int(rng.choice(group[row][group[row] != row]))

    for _ in range(samples):
        years = np.sort(rng.choice(len(of_year), min(prompts, len(of_year)), replace=False))
        rows = np.array([rng.choice(of_year[year]) for year in years])
        yield block_of(ctx, measures, rows, np.array([[other(int(row)) for row in rows]]))


def _measured(ctx: AblationContext, block: Block, sets: np.ndarray) -> Float[np.ndarray, "K G"]:
    """Each measure with each set kept, averaged over the prompts."""
    return with_kept(ctx, block, block.drawn[0], sets).numpy(force=True).astype(float).mean(-1)
