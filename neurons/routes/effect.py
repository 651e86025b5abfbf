"""Routes of a total effect: one neuron alone at a random other start year, END run again, and what changes the answer.

1. The ablated run differs from the clean one at the final residual by a sum: the neuron's own write, what each later
   attention layer writes otherwise at END, and what each later neuron does.
2. The measure's change is the integral of its gradient along the straight line between the two final residuals, so it
   is the sum over these parts of part times mean gradient. The gradient of the neuron's own write has two parts, with
   the final LayerNorm's scale frozen and through the scale; all others have both together.
3. The mean gradient is taken at Gauss-Legendre nodes, as many as it takes for the parts to add up to the change.

An edge is by the later neuron's own effect: its changed activation times its write times the mean gradient.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.attribution.end import Block, block_of, measured_rows
from neurons.attribution.shares import check_ctx, gauss
from neurons.intervention.context import PER_YEAR, AblationContext
from neurons.intervention.draws import random_years
from neurons.intervention.exact import check_neurons
from neurons.intervention.groups import ROWS
from neurons.model.device import on_threads
from neurons.model.forward import attention_at_end
from neurons.model.model import normalise, post_activation
from neurons.routes.averages import Followed, Means
from neurons.routes.results import ROUTES, Split
from neurons.routes.share import at_final_residual
from neurons.types import Measure, Neurons, Progress

RUNS = 6
"""What a neuron costs, in runs: END again, and the vocabulary forward and back at two nodes."""
STEPS = (2, 4, 8, 16, 32)
"""Numbers of nodes tried, one after the other: one neuron alone moves the answer little."""
TOLERANCE = 3e-7
"""Largest error of the sum of a neuron's parts, in the mean over a block's prompts, in units of the measure."""


def effect_routes(
    ctx: AblationContext,
    neurons: Neurons,
    receivers: Neurons,
    *,
    measure: Measure = "probability_difference",
    seed: int = 0,
    progress: Progress | None = None,
) -> Split:
    """Split the total effect of each neuron, ablated alone, by route. An effect is ablated minus clean.

    receivers: the later neurons whose edges are named. seed: of the one start year drawn for each prompt. progress:
    prompts done. Of a large model a sample of the prompts is run. Raises `InputError` for a neuron outside the cache.
    """
    check_ctx(ctx, [measure], progress)
    found, ends = (Followed.of(ctx, check_neurons(ctx.cache, some)) for some in (neurons, receivers))
    ctx = ctx.sampled(RUNS * len(found.neurons), least=PER_YEAR // 2)
    parts = Means.of(ctx, (len(found.neurons), len(ROUTES)))
    edges, done = np.zeros((len(found.neurons), len(ends.neurons))), 0
    taken = random_years(ctx.cache, draws=1, seed=seed)

    def of_rows(rows: Int[np.ndarray, " P"]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        block, weight = block_of(ctx, [measure], rows, taken[:, rows]), parts.weight_of(rows)
        values, through = np.zeros((len(rows), *parts.total.shape)), np.zeros(edges.shape)
        for layer, places in found.rows.items():
            for change, here in _changes(ctx, block, layer, found.indices[layer], places):
                values[:, here], through[here] = _split(ctx, block, change, ends, weight)
        yield rows, values, through

    for rows, values, through in on_threads(ctx.model, of_rows, list(measured_rows(ctx))):
        parts.add(rows, values)
        edges += through
        done += len(rows)
        if progress:
            progress(done, len(ctx))
    mean = parts.interval()
    return Split("total effect", found.neurons, ends.neurons, mean.estimate, mean.low, mean.high, edges, len(ctx))


@dataclass(frozen=True, eq=False)
class Change:
    """What n ablations change at END for P prompts. own, attention, mlp [n, P, d]: of the final residual, by what
    writes it. post: later layer -> change of its neurons' activations [n, P, N].
    """

    own: Float[Tensor, "n P d"]
    attention: Float[Tensor, "n P d"]
    mlp: Float[Tensor, "n P d"]
    post: Mapping[int, Float[Tensor, "n P N"]]


@torch.no_grad()
def _changes(
    ctx: AblationContext, block: Block, layer: int, indices: Int[Tensor, " s"], rows: Int[np.ndarray, " s"]
) -> Iterator[tuple[Change, Int[np.ndarray, " _"]]]:
    """Ablate the neurons of one layer, some at a time, and follow what changes; with their places in the list."""
    kept, size = block.kept, max(1, ROWS // len(block.rows))
    amount = (block.drawn[0][layer] - kept.post[layer])[:, indices].T
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        write = ctx.model.blocks[layer].W_out[indices[part]]
        yield _followed(ctx, block, layer, amount[part, :, None] * write[:, None]), rows[part]


def _followed(ctx: AblationContext, block: Block, layer: int, own: Float[Tensor, "n P d"]) -> Change:
    model, kept = ctx.model, block.kept
    attention, mlp, post = torch.zeros_like(own), torch.zeros_like(own), {}
    for later in range(layer + 1, model.config.n_layers):
        before = kept.after[later - 1]
        again = attention_at_end(model, later, before + own + attention + mlp, kept)
        attention = attention + (again - attention_at_end(model, later, before[None], kept))
        changed = post_activation(model, later, kept.mid[later] + own + attention + mlp)
        post[later] = changed - post_activation(model, later, kept.mid[later])
        mlp = mlp + post[later] @ model.blocks[later].W_out
    return Change(own, attention, mlp, post)


@torch.no_grad()
def _split(
    ctx: AblationContext, block: Block, change: Change, ends: Followed, weight: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, "P n 4"], Float[np.ndarray, "n m"]]:
    """Each prompt's change by route, and the edges averaged over these prompts."""
    whole = change.own + change.attention + change.mlp
    base, norm = block.kept.after[-1], (ctx.model.ln_final, ctx.model.config.layer_norm_eps)
    moved = (
        block.answer.values(normalise(base + whole, *norm))[0] - block.answer.values(normalise(base[None], *norm))[0]
    )
    for steps in STEPS:
        frozen, scale = _mean_gradient(ctx, block, whole, steps)
        both = frozen + scale
        pairs = ((change.own, frozen), (change.own, scale), (change.attention, both), (change.mlp, both))
        parts = torch.stack([(part * gradient).sum(-1) for part, gradient in pairs], -1)
        if (parts.sum(-1) - moved).mean(-1).abs().max() <= TOLERANCE:
            break
    edges = np.zeros((len(whole), len(ends.neurons)))
    each = torch.as_tensor(weight).to(whole)[:, None]
    for layer in ends.rows.keys() & change.post.keys():
        write = ctx.model.blocks[layer].W_out[ends.indices[layer]]
        through = change.post[layer][..., ends.indices[layer]] * (both @ write.T)
        edges[:, ends.rows[layer]] = (through * each).sum(1).cpu().numpy()
    return parts.transpose(0, 1).cpu().numpy(), edges


def _mean_gradient(
    ctx: AblationContext, block: Block, whole: Float[Tensor, "n P d"], steps: int
) -> tuple[Float[Tensor, "n P d"], Float[Tensor, "n P d"]]:
    """The measure's gradient at the final residual, averaged along the line: scale frozen, and through the scale."""
    frozen, scale, nodes = torch.zeros_like(whole), torch.zeros_like(whole), gauss(steps, ctx)
    for at, weight in zip(nodes.at, nodes.weight, strict=True):
        x = block.kept.after[-1] + at * whole
        normed = normalise(x, ctx.model.ln_final, ctx.model.config.layer_norm_eps)
        gradients = at_final_residual(ctx, x, block.answer.with_gradient(normed)[1][0])
        frozen, scale = frozen + weight * gradients[0], scale + weight * gradients[1]
    return frozen, scale
