"""What the field uses in place of shares, to be compared with them: each orders the neurons of the cached layers.

1. `one_gradient`: the gradient at one point of the path times (post - a'); at alpha = 1 attribution patching
   (Nanda 2023; Syed et al. 2023).
2. `gradients_between_inputs`: the gradient averaged over embeddings between the other prompt and the prompt, times
   (a - a'), as EAP-IG does with five steps (Hanna et al. 2024).
3. `relp`: (a - its mean over prompts) times one gradient with LayerNorm scales, attention patterns and activation
   ratios act(x)/x frozen (Jafari et al. 2025). It needs no other prompt.
4. `alone`: exact, each neuron at a' while all others respond: clean minus that.

All are in units of the measure, averaged over prompts of a start year, then over start years.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.attribution.end import Block, block_of, blocks, toward_clean, with_kept
from neurons.attribution.shares import Nodes, gradients_of, shares_of_block
from neurons.intervention.context import AblationContext
from neurons.intervention.draws import DRAWS, random_years
from neurons.intervention.groups import MEASURES
from neurons.model.forward import Blend, EndTrace, trace
from neurons.model.model import LayerNorm, Model, activate, attention_scale, final_scale, softmax
from neurons.types import Measure, Progress

STEPS = 5
"""Steps between inputs, as EAP-IG's authors take them."""

Scores = dict[Measure, Float[np.ndarray, " M"]]


def one_gradient(
    ctx: AblationContext,
    *,
    alpha: float = 1.0,
    measures: Sequence[Measure] = MEASURES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Scores:
    """Gradient times distance from a', at one point of the path: 1 is the clean run, 0 the floor."""
    point = Nodes(torch.tensor([alpha]).to(ctx.model.W_E), torch.ones(1).to(ctx.model.W_E))
    found = _Mean(ctx, measures)
    for block in blocks(ctx, measures, draws=draws, seed=seed):
        found.add(block.rows, shares_of_block(ctx, block, point).share)
    return found.scores


def gradients_between_inputs(
    ctx: AblationContext,
    *,
    steps: int = STEPS,
    measures: Sequence[Measure] = MEASURES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Scores:
    """Gradients at embeddings other + k / steps (own - other), k = 1 to steps, averaged, times (a - a')."""
    taken = random_years(ctx.cache, draws=draws, seed=seed)
    found = _Mean(ctx, measures)
    for block in blocks(ctx, measures, draws=draws, seed=seed):
        for draw, others in enumerate(taken[:, block.rows]):
            away = torch.cat([block.kept.post[at] - block.drawn[draw][at] for at in ctx.cache.layers], -1)
            gradient = torch.stack([_at_inputs(ctx, block, others, k / steps) for k in range(1, steps + 1)]).mean(0)
            found.add(block.rows, gradient * away / draws)
    return found.scores


def _at_inputs(
    ctx: AblationContext, block: Block, others: Int[np.ndarray, " P"], alpha: float
) -> Float[Tensor, "K P M"]:
    """The gradient with respect to each activation when the prompt's embeddings are between the two."""
    kept = trace(ctx.model, ctx.tokens[block.rows], shared=ctx.shared, blend=Blend(ctx.tokens[others], alpha))
    mixed = Block(block.rows, kept, block.drawn, block.answer)
    whole = torch.ones(1).to(ctx.model.W_E)
    with torch.enable_grad():
        path = toward_clean(ctx, mixed, block.drawn[0], whole)
    wanted = [path.at[layer] for layer in ctx.cache.layers]
    found = gradients_of(block, path.normed, wanted, whole)
    return torch.stack([torch.cat([x[0] for x in one], -1) for one in found])


def relp(ctx: AblationContext, *, measures: Sequence[Measure] = MEASURES) -> Scores:
    """Distance from the mean times gradient, with scales, attention patterns and activation ratios frozen."""
    found = _Mean(ctx, measures)
    for group in ctx.blocks():
        rows = ctx.rows[group]
        block = block_of(ctx, measures, rows, rows[None])
        with torch.enable_grad():
            normed, post = _frozen_end(ctx, block.kept)
        (mean,) = ctx.held("mean", group)
        away = torch.cat([post[at].detach()[0] - mean[at] for at in ctx.cache.layers], -1)
        gradients = gradients_of(block, normed, list(post.values()), torch.ones(1).to(normed))
        found.add(rows, torch.stack([torch.cat([x[0] for x in one], -1) * away for one in gradients]))
    return found.scores


def alone(
    ctx: AblationContext,
    *,
    measures: Sequence[Measure] = MEASURES,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """What each measure loses when one neuron is at a' and all others respond. progress: prompts done."""
    found, done = _Mean(ctx, measures), 0
    M = len(ctx.cache.layers) * ctx.cache.d_mlp
    for block in blocks(ctx, measures, draws=draws, seed=seed):
        for other in block.drawn:
            clean = with_kept(ctx, block, other, np.ones((1, M), bool))
            for start in range(0, M, ctx.cache.d_mlp):
                without = ~np.eye(M, dtype=bool)[start : start + ctx.cache.d_mlp]
                lost = (clean - with_kept(ctx, block, other, without)).mT / draws
                found.add(block.rows, lost, slice(start, start + ctx.cache.d_mlp))
        done += len(block.rows)
        if progress:
            progress(done, len(ctx))
    return found.scores


class _Mean:
    """Means over the prompts of a start year, then over start years, collected a block at a time."""

    def __init__(self, ctx: AblationContext, measures: Sequence[Measure]) -> None:
        self._averaging_of = ctx.averaging_of
        self.scores: Scores = {measure: np.zeros(len(ctx.cache.layers) * ctx.cache.d_mlp) for measure in measures}

    def add(self, rows: Int[np.ndarray, " P"], values: Float[Tensor, "K P m"], neurons: slice = slice(None)) -> None:
        weight = self._averaging_of(rows).mean(0)
        for scores, of_prompts in zip(self.scores.values(), values.numpy(force=True), strict=True):
            scores[neurons] += weight @ of_prompts.astype(float)


def _frozen_end(
    ctx: AblationContext, kept: EndTrace
) -> tuple[Float[Tensor, "1 P d"], dict[int, Float[Tensor, "1 P N"]]]:
    """END from the first cached layer on, as it is, but linear in what each neuron writes."""
    model, first = ctx.model, min(ctx.cache.layers)
    x, post = kept.mid[first][None], {}
    for layer in range(first, model.config.n_layers):
        block = model.blocks[layer]
        if layer > first:
            x = x + _frozen_attention(model, layer, x, kept)
        pre = _frozen_norm(model, x, block.ln_2) @ block.W_in + block.b_in
        now = pre.detach()
        neurons = pre * torch.where(now == 0, 0, activate(model, now) / now)
        if layer == first:
            neurons = neurons.detach().requires_grad_()
        if layer in ctx.cache.layers:
            post[layer] = neurons
        x = x + neurons @ block.W_out + block.b_out
    return _frozen_norm(model, x, model.ln_final), post


def _frozen_norm(model: Model, x: Float[Tensor, "n P d"], ln: LayerNorm) -> Float[Tensor, "n P d"]:
    scale = final_scale(model, x.detach())[..., None]
    return (x - x.mean(-1, keepdim=True)) / scale * ln.gain + ln.bias


def _frozen_attention(model: Model, layer: int, x: Float[Tensor, "n P d"], kept: EndTrace) -> Float[Tensor, "n P d"]:
    block, keys, values = model.blocks[layer], kept.keys[layer], kept.values[layer]
    joint = _frozen_norm(model, x, block.ln_1) @ block.qkv + block.b_qkv
    q, k, v = (part.unflatten(-1, (model.config.n_heads, -1)) for part in joint.split(model.config.d_model, -1))
    scores = torch.cat([torch.einsum("nphd,phtd->npht", q, keys), (q * k).sum(-1, keepdim=True)], -1)
    pattern = softmax(scores * attention_scale(model, layer)).detach()
    z = torch.einsum("npht,phtd->nphd", pattern[..., :-1], values) + pattern[..., -1:] * v
    return z.flatten(2) @ block.W_O + block.b_O
