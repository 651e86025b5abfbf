"""Attribution before END: RelP of every neuron of all layers and positions, in one backward pass.

1. The prompts run once. LayerNorm scales, attention patterns and activation ratios act(x)/x are frozen as they are
   there, so that the answer's residual is linear in what each neuron writes (Jafari et al. 2025).
2. The gradient of the measure at END is followed back to YY through that linear model, layer by layer.
3. A neuron's attribution is its gradient times its distance from what it takes on prompts of a random other start year,
   averaged over draws: those of the shares. Before YY nothing can depend on YY, and all is zero.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.attribution.answer import answer_of
from neurons.attribution.end import measured_rows
from neurons.attribution.position_results import Positions
from neurons.intervention.context import AblationContext
from neurons.intervention.draws import DRAWS, random_years
from neurons.model.device import on_threads
from neurons.model.forward import LayerPass, layer_passes
from neurons.model.model import LayerNorm, Model, final_scale, normalise
from neurons.types import InputError, Measure, Progress, check_choice, check_is, check_progress


@dataclass(frozen=True, eq=False)
class FrozenLayer:
    """What is frozen of one layer, for P prompts at the R positions from YY on.

    pattern [P, H, R, R]: attention among these positions. before, between [P, R]: the scales of its two LayerNorms.
    ratio [P, R, N]: act(x)/x. away [P, R, N]: each activation's distance from those of the prompts drawn.
    """

    pattern: Float[Tensor, "P H R R"]
    before: Float[Tensor, "P R"]
    between: Float[Tensor, "P R"]
    ratio: Float[Tensor, "P R N"]
    away: Float[Tensor, "P R N"]


def attribute_positions(
    ctx: AblationContext,
    *,
    names: Sequence[str],
    measure: Measure = "probability_difference",
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Positions:
    """RelP of every neuron of every layer at every position, in units of the measure, averaged over start years.

    names: the positions of a prompt in words. draws, seed: as in `attribute`. progress: prompts done.

    Raises `InputError` for as many names as no prompt has positions.
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_choice("measure", measure, Measure)
    check_progress(progress)
    if len(names) != ctx.tokens.shape[1]:
        raise InputError(f"{len(names)} names of positions: a prompt has {ctx.tokens.shape[1]}")
    config, done = ctx.model.config, 0
    found = np.zeros((config.n_layers, len(names) - ctx.shared, config.d_mlp))
    taken = random_years(ctx.cache, draws=draws, seed=seed)

    def of_rows(rows: Int[np.ndarray, " P"]) -> Iterator[tuple[int, list[np.ndarray]]]:
        weight = torch.as_tensor(ctx.averaging_of(rows).mean(0)).to(ctx.model.W_E)
        of_layers = _of_prompts(ctx, rows, taken[:, rows], measure)
        yield len(rows), [torch.einsum("p,prn->rn", weight, values).numpy(force=True) for values in of_layers]

    for prompts, means in on_threads(ctx.model, of_rows, list(measured_rows(ctx))):
        for layer, of_layer in enumerate(means):
            found[layer] += of_layer
        done += prompts
        if progress:
            progress(done, len(ctx))
    return Positions(ctx.cache.model, measure, tuple(names), found)


@torch.no_grad()
def _of_prompts(
    ctx: AblationContext, rows: Int[np.ndarray, " P"], others: Int[np.ndarray, "D P"], measure: Measure
) -> list[Float[Tensor, "P R N"]]:
    """Gradient times distance in each layer."""
    model, frozen, residual = ctx.model, [], torch.empty(0)
    run = np.unique(np.concatenate([rows, others.reshape(-1)]))
    at, drawn = (torch.as_tensor(np.searchsorted(run, these), device=model.device) for these in (rows, others))
    for layer, one in enumerate(layer_passes(model, ctx.tokens[run], shared=ctx.shared)):
        frozen.append(_freeze(model, layer, one, at, drawn))
        residual = one.after[at]
    end = residual[:, -1]
    answer = answer_of(model, [measure], ctx.cache.start_year[rows], ctx.year_ids)
    _, outer = answer.with_gradient(normalise(end, model.ln_final, model.config.layer_norm_eps)[None])
    gradient = torch.zeros_like(residual)
    gradient[:, -1] = _back_through(outer[0, 0], model.ln_final, final_scale(model, end))
    found = []
    for layer in reversed(range(model.config.n_layers)):
        gradient, values = _back(model, layer, frozen.pop(), gradient)
        found.append(values)
    return found[::-1]


def _freeze(model: Model, layer: int, one: LayerPass, at: Int[Tensor, " P"], drawn: Int[Tensor, "D P"]) -> FrozenLayer:
    block, R, mid, post = model.blocks[layer], one.mid.shape[1], one.mid[at], one.post[at]
    pre = normalise(mid, block.ln_2, model.config.layer_norm_eps) @ block.W_in + block.b_in
    return FrozenLayer(
        pattern=one.pattern[at][..., -R:],
        before=final_scale(model, one.pre[at]),
        between=final_scale(model, mid),
        ratio=torch.where(pre == 0, 0, post / pre),
        away=post - sum(one.post[each] for each in drawn) / len(drawn),
    )


def _back(
    model: Model, layer: int, kept: FrozenLayer, gradient: Float[Tensor, "P R d"]
) -> tuple[Float[Tensor, "P R d"], Float[Tensor, "P R N"]]:
    """The gradient at the residual before the layer, and gradient times distance of its neurons."""
    block, d = model.blocks[layer], model.config.d_model
    at_neurons = gradient @ block.W_out.T
    gradient = gradient + _back_through((at_neurons * kept.ratio) @ block.W_in.T, block.ln_2, kept.between)
    at_heads = (gradient @ block.W_O.T).unflatten(-1, (model.config.n_heads, -1))
    at_values = torch.einsum("phqr,pqhd->prhd", kept.pattern, at_heads).flatten(-2)
    gradient = gradient + _back_through(at_values @ block.qkv[:, 2 * d :].T, block.ln_1, kept.before)
    return gradient, at_neurons * kept.away


def _back_through(
    gradient: Float[Tensor, "... d"], ln: LayerNorm, scale: Float[Tensor, " ..."]
) -> Float[Tensor, "... d"]:
    """Through a LayerNorm whose scale is frozen."""
    scaled = gradient * ln.gain / scale[..., None]
    return scaled - scaled.mean(-1, keepdim=True)
