"""Hold neurons at another value at END and measure the change: exact, no gradients.

1. `neuron_changes`: each neuron alone, many neurons and prompts at once. Its change is rank one in the
   residual, so a direct effect, and any effect of the last layer, needs no matrix product of its own.
2. `group_measures`: sets of neurons together, over all layers, every measure at once.
"""

from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurons.intervention.context import AblationContext, Held
from neurons.intervention.draws import DRAWS, ONE_DRAW
from neurons.intervention.readers import Reader, scorer, year_reader
from neurons.model.at_end import FinalResidual, after_ablation, after_write, frozen_logits
from neurons.model.device import on_threads
from neurons.model.forward import EndTrace, logsumexp
from neurons.model.model import final_scale
from neurons.task.intervention import Intervention
from neurons.types import OF_LOGITS, Ablation, Effect, Measure, NeuronId, Progress

ROWS = 2048
"""Variants times prompts in one pass: full matrix speed, activations of some 25 MB in GPT-2 small."""

MEASURES: tuple[Measure, ...] = get_args(Measure)


@torch.inference_mode()
def neuron_changes(
    ctx: AblationContext,
    block: slice,
    neurons: Sequence[NeuronId],
    intervention: Intervention,
    *,
    draws: int = ONE_DRAW,
) -> Iterator[tuple[slice, Float[np.ndarray, "n B"]]]:
    """Ablate each neuron alone, for the prompts of one block: measure when ablated minus measure in the clean run.

    Averaged over random-year draws. Yields parts of `neurons` with their changes, as they are finished.
    """
    read = scorer(ctx, intervention.measure, block)
    yield from _changes(ctx, block, neurons, intervention, draws, read)


@torch.inference_mode()
def logit_changes(
    ctx: AblationContext,
    block: slice,
    neurons: Sequence[NeuronId],
    intervention: Intervention,
    *,
    draws: int = ONE_DRAW,
) -> Float[np.ndarray, "M B 100"]:
    """Return the same for the year logits themselves, whatever the measure."""
    parts = [values for _, values in _changes(ctx, block, neurons, intervention, draws, year_reader(ctx))]
    return np.concatenate(parts)


def _changes(
    ctx: AblationContext,
    block: slice,
    neurons: Sequence[NeuronId],
    intervention: Intervention,
    draws: int,
    read: Reader,
) -> Iterator[tuple[slice, np.ndarray]]:
    kept, held = ctx.trace(block), ctx.held(intervention.ablation, block, draws=draws)
    base = FinalResidual(ctx.model, kept.after[-1])
    before = read.of_residual(base.residual[None])
    last = ctx.model.config.n_layers - 1
    for part, layer, indices in _batches(neurons, max(1, ROWS // (block.stop - block.start))):
        chosen = torch.tensor(indices).to(ctx.model.device)
        W = ctx.model.blocks[layer].W_out[chosen]
        changes = []
        for values in held:
            amount = (values[layer] - kept.post[layer])[:, chosen].T.contiguous()
            if intervention.effect == "frozen":
                changed = read.of_frozen(base, W, amount)
            elif intervention.effect == "direct" or layer == last:
                changed = read.of_write(base, W, amount)
            else:
                changed = read.of_residual(after_write(ctx.model, kept, layer=layer, write=W, amount=amount))
            changes.append((changed - before).numpy(force=True))
        yield part, np.mean(changes, 0)


def _batches(neurons: Sequence[NeuronId], size: int) -> Iterator[tuple[slice, int, list[int]]]:
    """Runs of at most `size` neurons of one layer: where they stand in the list, layer, indices."""
    start = 0
    while start < len(neurons):
        layer = neurons[start].layer
        stop = start + 1
        while stop < min(len(neurons), start + size) and neurons[stop].layer == layer:
            stop += 1
        yield slice(start, stop), layer, [neuron.index for neuron in neurons[start:stop]]
        start = stop


def group_mask(layers: Sequence[int], d_mlp: int, neurons: Sequence[NeuronId]) -> Bool[np.ndarray, "L N"]:
    """Return True for the neurons of a set."""
    mask = np.zeros((len(layers), d_mlp), bool)
    for neuron in neurons:
        mask[list(layers).index(neuron.layer), neuron.index] = True
    return mask


@torch.inference_mode()
def group_measures(
    ctx: AblationContext,
    groups: Bool[np.ndarray, "G L N"],
    *,
    ablation: Ablation,
    effect: Effect = "total",
    draws: int = DRAWS,
    weights: Float[np.ndarray, "Y P"] | None = None,
    progress: Progress | None = None,
) -> dict[Measure, Float[np.ndarray, "G Y"]]:
    """Return every measure at each start year while a set's neurons, over all cached layers, are held together.

    Averaged over random-year draws. The frozen effect has the measures in logits alone. weights: of other means over
    the prompts than those of start years.
    """
    weights = ctx.averaging if weights is None else weights
    measures = OF_LOGITS if effect == "frozen" else MEASURES
    found = {measure: np.zeros((len(groups), len(weights))) for measure in measures}
    blocks, done = ctx.blocks(), 0

    def of_block(block: slice) -> Iterator[tuple[slice, list[dict[Measure, np.ndarray]]]]:
        kept, held = ctx.trace(block), ctx.held(ablation, block, draws=draws)
        size = max(1, ROWS // (block.stop - block.start))
        for start in range(0, len(groups), size):
            part = slice(start, start + size)
            residuals = (_held_together(ctx, kept, groups[part], values, effect) for values in held)
            read = (_read_all(ctx, kept, residual, block, effect) for residual in residuals)
            yield part, [{m: x.numpy(force=True) @ weights[:, block].T / len(held) for m, x in r.items()} for r in read]

    for part, of_draws in on_threads(ctx.model, of_block, blocks):
        for of_draw in of_draws:
            for measure, means in of_draw.items():
                found[measure][part] += means
        done += len(groups[part])
        if progress:
            progress(done, len(blocks) * len(groups))
    return found


def _held_together(
    ctx: AblationContext,
    kept: EndTrace,
    groups: Bool[np.ndarray, "G L N"],
    values: Held,
    effect: Effect,
) -> Float[Tensor, "G P d"]:
    """The final residual with each group held at its replacement values."""
    chosen = {
        layer: torch.as_tensor(groups[:, row], device=ctx.model.device)
        for row, layer in enumerate(ctx.cache.layers)
        if groups[:, row].any()
    }
    residual = kept.after[-1].expand(len(groups), -1, -1)
    if effect == "total":
        return after_ablation(ctx.model, kept, chosen, values) if chosen else residual
    for layer, mask in chosen.items():
        change = torch.where(mask[:, None], values[layer] - kept.post[layer], 0)
        residual = residual + change @ ctx.model.blocks[layer].W_out
    return residual


def _read_all(
    ctx: AblationContext, kept: EndTrace, residual: Float[Tensor, "G P d"], block: slice, effect: Effect
) -> dict[Measure, Float[Tensor, "G P"]]:
    if effect == "frozen":
        logits = frozen_logits(ctx.model, residual, final_scale(ctx.model, kept.after[-1]), year_reader(ctx).year_ids)
        return {measure: scorer(ctx, measure, block).score(logits, None) for measure in OF_LOGITS}
    return measures_of(ctx, residual, block)


def measures_of(
    ctx: AblationContext, residual: Float[Tensor, "G P d"], block: slice
) -> dict[Measure, Float[Tensor, "G P"]]:
    """Every measure of final residuals, from one reading of the vocabulary."""
    logits, total = year_reader(ctx).of_residual(residual), logsumexp(ctx.model, residual)
    return {
        measure: scorer(ctx, measure, block).score(logits, None if measure in OF_LOGITS else total)
        for measure in MEASURES
    }
