"""Attribution patching: (replacement - activation) times gradient, one backward pass for all neurons.

It is a linear estimate, shown beside the exact effect; it neither stands for the effect nor chooses neurons: where the
answer is saturated its sign can be wrong.
"""

import numpy as np
import torch
from jaxtyping import Float

from neurons.intervention.context import AblationContext
from neurons.intervention.draws import DRAWS
from neurons.intervention.readers import scorer
from neurons.model.at_end import frozen_logits
from neurons.model.forward import EndTrace, attention_at_end
from neurons.model.model import final_scale, post_activation
from neurons.task.intervention import Intervention
from neurons.types import Progress, check_is, check_progress


def attribution_patching(
    ctx: AblationContext, intervention: Intervention, *, draws: int = DRAWS, progress: Progress | None = None
) -> Float[np.ndarray, "L N"]:
    """Estimate every neuron's effect, averaged over start years, in units of the measure; L cached layers.

    The gradient is that of the effect asked for: through everything after the neuron (total), through
    the final LayerNorm alone (direct), or with its scale frozen too (frozen).
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context(model, cache) returns")
    check_is("intervention", intervention, Intervention, "an Intervention")
    check_progress(progress)
    total = np.zeros((len(ctx.cache.layers), ctx.cache.d_mlp))
    weight = ctx.averaging.mean(0)
    blocks = ctx.blocks()
    for done, block in enumerate(blocks):
        kept, held = ctx.trace(block), ctx.held(intervention.ablation, block, draws=draws)
        gradients = _gradients(ctx, kept, block, intervention)
        for row, layer in enumerate(ctx.cache.layers):
            change = torch.stack([values[layer] for values in held]).mean(0) - kept.post[layer]
            total[row] += weight[block] @ (change * gradients[layer]).numpy(force=True).astype(float)
        if progress:
            progress(done + 1, len(blocks))
    return total


def _gradients(
    ctx: AblationContext, kept: EndTrace, block: slice, intervention: Intervention
) -> dict[int, Float[torch.Tensor, "P N"]]:
    """Gradient of the measure with respect to each activation at END, by layer."""
    if intervention.effect == "total":
        return _through_later_layers(ctx, kept, block, intervention)
    residual = kept.after[-1].clone()[None].requires_grad_()
    (gradient,) = torch.autograd.grad(_measured(ctx, residual, block, intervention), residual)
    return {layer: gradient[0] @ ctx.model.blocks[layer].W_out.T for layer in ctx.cache.layers}


def _through_later_layers(
    ctx: AblationContext, kept: EndTrace, block: slice, intervention: Intervention
) -> dict[int, Float[torch.Tensor, "P N"]]:
    model, first = ctx.model, ctx.cache.layers[0]
    x = kept.mid[first].clone()[None].requires_grad_()
    post = {}
    for layer in range(first, model.config.n_layers):
        if layer > first:
            x = x + attention_at_end(model, layer, x, kept)
        post[layer] = post_activation(model, layer, x)
        x = x + post[layer] @ model.blocks[layer].W_out + model.blocks[layer].b_out
    wanted = [post[layer] for layer in ctx.cache.layers]
    gradients = torch.autograd.grad(_measured(ctx, x, block, intervention), wanted)
    return {layer: gradient[0] for layer, gradient in zip(ctx.cache.layers, gradients, strict=True)}


def _measured(
    ctx: AblationContext, residual: Float[torch.Tensor, "1 P d"], block: slice, intervention: Intervention
) -> Float[torch.Tensor, ""]:
    read = scorer(ctx, intervention.measure, block)
    if intervention.effect != "frozen":
        return read.of_residual(residual).sum()
    scale = final_scale(ctx.model, residual[0]).detach()
    return read.score(frozen_logits(ctx.model, residual, scale, read.years.year_ids), None).sum()
