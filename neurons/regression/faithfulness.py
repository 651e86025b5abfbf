"""Faithfulness of descriptions: put them back into the model in place of the neurons, and measure what it still does.

1. At END every neuron of the layers is held at what a description says for the prompt's start year (`described`);
   attention at END and all that is not held run on from there.
2. A description depends on century and start year alone, so what a layer writes is computed once for each of these
   cells and not for each prompt; memory does not grow with the number of prompts.
3. Recovered is (m - floor) / (clean - floor) of a measure, with its mean over start years at the average century; clean
   and floor are those of attribution (all neurons of the layers at a random other start year).
4. Its interval is a jackknife over centuries of the ratio. A century is described by the others.

`faithfulness_of_each` asks the same of single neurons, by start year: one neuron moves from its mean curve to its
family's, and to its mean, all others stay at their mean curves. `behaviour_of_first` is the comparison without a
description: the first k neurons as they are, ordered on one half of the centuries and run on the other.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurons.attribution.answer import answer_of
from neurons.attribution.results import Attributed, Attribution
from neurons.clustering.tuning import families_of
from neurons.decomposition.population import Population
from neurons.intervals import Cells, interval
from neurons.intervention.context import PER_YEAR, AblationContext
from neurons.model.at_end import after_writing
from neurons.model.model import normalise
from neurons.ranking.sets import ONE_DRAW, RECOVERED, first_of, halves, kept_measures, recovered
from neurons.regression.described import fitted, given_description, own_curves, standard_descriptions
from neurons.regression.faithfulness_results import (
    Faithful,
    Faithfulness,
    FaithfulnessOfEach,
    OwnDescription,
    Recovered,
    Reproduced,
)
from neurons.rounding import is_nothing
from neurons.types import Measure, NeuronId, Neurons, Progress, check_is, check_progress, check_whole

ORDERED_BY: Measure = "probability_difference"
ROWS = 2048
"""Descriptions times prompts in one pass."""
SPREAD = 0.25
"""Part of a squared effect that sampling of centuries may make up before nothing is said of it."""
Written = Mapping[int, Float[Tensor, "C Y d"]]
"""What each held layer writes at END, output bias included, by century and start year."""


def faithfulness(
    ctx: AblationContext,
    attributed: Attributed,
    population: Population,
    *,
    groups: Mapping[str, Sequence[Neurons]] | None = None,
    describe: Callable[[int, NeuronId], float] | None = None,
    neurons: Neurons | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Faithfulness:
    """Recovered behaviour under the standard descriptions, or under the user's own.

    population: all neurons of the layers. groups: of neurons with a prototype each, by the name of their description.
    describe: from start year and neuron to an activation (after the nonlinearity). neurons: those described, default
    all of the layers; the others are held at their mean curves of other centuries. progress: prompts done.
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_is("attributed", attributed, Attributed, "what Study.attributed() returns")
    check_whole("seed", seed, least=0)
    check_progress(progress)
    rows = np.arange(len(population)) if neurons is None else population.rows(neurons)
    if describe is None:
        found = {name: [population.rows(one) for one in members] for name, members in (groups or {}).items()}
        families = families_of(population, seed=seed)
        descriptions = list(standard_descriptions(ctx.start_years, families, rows, found))
    else:
        descriptions = [given_description(ctx.start_years, population.neurons, rows, describe)]
    own = own_curves(ctx.activations, ctx.start_years)
    written = [written_by(ctx, one.curves(own)) for one in descriptions]
    values = recovered_parts(ctx, attributed, written, progress=progress)
    rows_of_both = zip(descriptions, values["cutoff_sharpness"], values["probability_difference"], strict=True)
    return Faithfulness(
        model=ctx.cache.model,
        layers=ctx.cache.layers,
        prompts=len(ctx),
        rows=tuple(Faithful(one.name, len(one.rows), sharp, difference) for one, sharp, difference in rows_of_both),
    )


@torch.no_grad()
def written_by(ctx: AblationContext, curves: Float[np.ndarray, "C Y M"]) -> Written:
    """What each layer writes when its neurons are at these activations."""
    model, layers = ctx.model, ctx.cache.layers
    held = torch.as_tensor(curves).to(model.W_E).split(ctx.cache.d_mlp, -1)
    blocks = {layer: model.blocks[layer] for layer in layers}
    return {layer: a @ blocks[layer].W_out + blocks[layer].b_out for layer, a in zip(layers, held, strict=True)}


def recovered_parts(
    ctx: AblationContext, attributed: Attributed, written: Sequence[Written], *, progress: Progress | None = None
) -> dict[Measure, list[Recovered]]:
    """What is recovered of both measures when the layers write each of these."""
    cells = measured_cells(ctx, written, progress=progress)
    return {
        measure: [recovered_part(attributed.share(measure), one) for one in cells[measure]] for measure in RECOVERED
    }


@torch.no_grad()
def measured_cells(
    ctx: AblationContext, written: Sequence[Written], *, progress: Progress | None = None
) -> dict[Measure, Float[np.ndarray, "n C Y"]]:
    """Each measure, averaged over the prompts of each century and start year, when the layers write each of these."""
    centuries = np.unique(ctx.cache.century[ctx.rows])
    total = np.zeros((len(centuries), len(ctx.start_years), len(RECOVERED), len(written)))
    count = np.zeros(total.shape[:2])
    for block in ctx.blocks():
        c = np.searchsorted(centuries, ctx.cache.century[ctx.rows[block]])
        y = np.searchsorted(ctx.start_years, ctx.start_year[block])
        np.add.at(count, (c, y), 1)
        values = _measured(ctx, block, written, (c, y)).numpy(force=True)
        np.add.at(total, (c, y), np.moveaxis(values, -1, 0))
        if progress:
            progress(block.stop, len(ctx))
    means = total / np.maximum(count, 1)[..., None, None]
    return dict(zip(RECOVERED, np.moveaxis(means, (2, 3), (0, 1)), strict=True))


def _measured(
    ctx: AblationContext, block: slice, written: Sequence[Written], cell: tuple[np.ndarray, np.ndarray]
) -> Float[Tensor, "K n P"]:
    model, kept = ctx.model, ctx.trace(block)
    answer = answer_of(model, RECOVERED, ctx.start_year[block], ctx.year_ids)
    at, size, found = tuple(torch.as_tensor(one) for one in cell), max(1, ROWS // (block.stop - block.start)), []
    for start in range(0, len(written), size):
        some = written[start : start + size]
        here = {layer: torch.stack([one[layer][at] for one in some]) for layer in ctx.cache.layers}
        residual = after_writing(model, kept, here)
        found.append(answer.values(normalise(residual, model.ln_final, model.config.layer_norm_eps)))
    return torch.cat(found, 1)


def recovered_part(share: Attribution, measured: Float[np.ndarray, "C Y"]) -> Recovered:
    both = np.stack([measured, share.clean_by_century, share.floor_by_century], -1)
    found = interval(Cells(both, share.n_prompts > 0), _part)
    low, high = (None if np.isnan(end) else float(end) for end in (found.low, found.high))
    return Recovered(float(found.estimate), low, high)


def _part(mean: Float[np.ndarray, "Y 3"]) -> Float[np.ndarray, ""]:
    """(m - floor) / (clean - floor) of the means over start years; 0 where the measure does not move."""
    m, clean, floor = mean.mean(0)
    return np.asarray((m - floor) / (clean - floor) if clean != floor else 0.0)


def behaviour_of_first(
    ctx: AblationContext,
    attributed: Attributed,
    sizes: Sequence[int],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[Measure, Float[np.ndarray, " G"]]:
    """Recovered parts of clean minus floor in both measures, in one order: by share of the probability difference.

    sizes: ascending, the last of them all neurons. On many neurons a sample of the prompts is run.
    """
    share, found = attributed.share(ORDERED_BY), []
    pairs = halves(ctx.sampled(len(sizes) + 1, least=PER_YEAR), share.centuries)
    for done, (chosen, some) in enumerate(pairs, 1):
        sets = first_of(share.order(chosen), [0, *sizes])
        values = kept_measures(some, sets, measures=RECOVERED, draws=ONE_DRAW, seed=seed)
        found.append([values[measure].mean(1) for measure in RECOVERED])
        if progress:
            progress(done, len(pairs))
    means = np.mean(found, 0)
    return {measure: recovered(one)[1:] for measure, one in zip(RECOVERED, means, strict=True)}


def faithfulness_of_each(
    ctx: AblationContext,
    population: Population,
    neurons: Neurons,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> FaithfulnessOfEach:
    """What each neuron's fitted family keeps of its own effect on both measures, by start year.

    population: all neurons of the layers. Where no family fits the description is the neuron's mean, and keeps nothing.
    On many neurons a sample of the prompts is run (`AblationContext.sampled`).
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_progress(progress)
    rows, years = population.rows(neurons), tuple(ctx.start_years)
    families = families_of(population.take(rows), seed=seed)
    own = own_curves(ctx.activations, years)
    curves = own[:, :, rows].astype(float)
    said = np.stack([fitted(years, curve, families) for curve in curves])
    mean = np.broadcast_to(curves.mean(1, keepdims=True), curves.shape)
    base = written_by(ctx, own)
    changes = np.moveaxis(np.concatenate([said, mean], -1) - np.tile(curves, 2), -1, 0)
    moved = [_moved(ctx, base, row, change) for row, change in zip(2 * rows.tolist(), changes, strict=True)]
    some = ctx.sampled(len(moved) + 1)
    cells, held = measured_cells(some, [base, *moved], progress=progress), _measured_at(some)
    found = [
        OwnDescription(
            neuron, family, **{m: reproduced(cells[m][[0, 1 + at, 1 + at + len(rows)]], held) for m in RECOVERED}
        )
        for at, (neuron, family) in enumerate(zip(population.take(rows).neurons, families, strict=True))
    ]
    return FaithfulnessOfEach(ctx.cache.model, years, len(some), tuple(found))


def _moved(ctx: AblationContext, base: Written, row: int, change: Float[np.ndarray, "C Y"]) -> Written:
    """What the layers write when one neuron's activation changes by so much; all other layers' is not copied."""
    layer, index = ctx.cache.layers[row // ctx.cache.d_mlp], row % ctx.cache.d_mlp
    w_out = ctx.model.blocks[layer].W_out[index]
    return {**base, layer: base[layer] + torch.as_tensor(change).to(w_out)[..., None] * w_out}


def _measured_at(ctx: AblationContext) -> Bool[np.ndarray, "C Y"]:
    """The centuries and start years that have prompts."""
    c = np.unique(ctx.cache.century[ctx.rows], return_inverse=True)[1]
    held = np.zeros((c.max() + 1, len(ctx.start_years)), bool)
    held[c, np.searchsorted(ctx.start_years, ctx.start_year)] = True
    return held


def reproduced(measured: Float[np.ndarray, "3 C Y"], held: Bool[np.ndarray, "C Y"]) -> Reproduced:
    """measured: with the neuron at its own curve, as described, and at its mean."""
    cells = Cells(np.moveaxis(measured[:2] - measured[2], 0, -1), held)
    by_year, part = interval(cells, lambda mean: mean), interval(cells, _kept_part)
    own, error = by_year.estimate[:, 0], by_year.standard_error[:, 0]
    size = float(np.sqrt((own**2).mean()))
    nothing = is_nothing(own, float(np.abs(measured[0]).max())) or (error**2).sum() > SPREAD * (own**2).sum()
    ends = (part.estimate, part.low, part.high)
    value, low, high = (None if nothing or np.isnan(end) else float(end) for end in ends)
    return Reproduced(value, low, high, size, own, by_year.estimate[:, 1])


def _kept_part(mean: Float[np.ndarray, "Y 2"]) -> Float[np.ndarray, ""]:
    """1 - sum (own - described)^2 / sum own^2; 0 where the neuron moves nothing."""
    own, described = mean.T
    whole = (own**2).sum()
    return np.asarray(1 - ((own - described) ** 2).sum() / whole if whole else 0.0)
