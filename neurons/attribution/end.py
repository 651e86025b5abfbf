"""END run again with neurons between a random year's activations and their own.

1. `Block`: the prompts of some nouns and centuries, run once, with the activations of the prompts drawn for them.
2. `with_kept`: sets of neurons run as they are, all others of the chosen layers at a'.
3. `toward_clean`: every neuron at a' + alpha (post - a'), post computed again from the residual as it then is.
4. `held_between`: every neuron at a' + alpha (a - a'), a its clean activation: later neurons cannot respond.

Layers that are not among those chosen run as they are. Positions before END cannot see END and stay as they were.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurons.attribution.answer import Answer, answer_of
from neurons.intervention.context import PROMPT_BLOCK, AblationContext
from neurons.intervention.draws import noun_centuries, random_years
from neurons.intervention.groups import ROWS
from neurons.model.at_end import after_ablation
from neurons.model.device import is_small
from neurons.model.forward import EndTrace, attention_at_end, trace
from neurons.model.model import Model, mlp, normalise, post_activation
from neurons.types import Measure


@dataclass(frozen=True, eq=False)
class Block:
    """P measured prompts: `rows` of the cache. drawn: for each draw, layer -> activations a' of the drawn prompts."""

    rows: Int[np.ndarray, " P"]
    kept: EndTrace
    drawn: tuple[Mapping[int, Float[Tensor, "P N"]], ...]
    answer: Answer


def blocks(ctx: AblationContext, measures: Sequence[Measure], *, draws: int, seed: int) -> Iterator[Block]:
    """The measured prompts, whole nouns and centuries at a time, with random-year draws."""
    taken = random_years(ctx.cache, draws=draws, seed=seed)
    for rows in measured_rows(ctx):
        yield block_of(ctx, measures, rows, taken[:, rows])


@torch.no_grad()
def block_of(
    ctx: AblationContext, measures: Sequence[Measure], rows: Int[np.ndarray, " P"], others: Int[np.ndarray, "R P"]
) -> Block:
    """Prompts by their rows of the cache, and the rows drawn for each of them."""
    run = np.unique(np.concatenate([rows, others.reshape(-1)]))
    kept = trace(ctx.model, ctx.tokens[run], shared=ctx.shared)
    drawn = tuple({layer: kept.post[layer][_at(run, one, ctx.model)] for layer in ctx.cache.layers} for one in others)
    answer = answer_of(ctx.model, measures, ctx.cache.start_year[rows], ctx.year_ids)
    return Block(rows, rows_of(kept, _at(run, rows, ctx.model)), drawn, answer)


def measured_rows(ctx: AblationContext) -> Iterator[Int[np.ndarray, " P"]]:
    """Blocks of whole nouns and centuries: larger ones of a small model, whose tensors are small too."""
    most = 2 * PROMPT_BLOCK if is_small(ctx.model) else PROMPT_BLOCK
    waiting: list[np.ndarray] = []
    for group in noun_centuries(ctx.cache):
        rows = group[np.isin(group, ctx.rows)]
        if waiting and sum(map(len, waiting)) + len(rows) > most:
            yield np.concatenate(waiting)
            waiting = []
        if len(rows):
            waiting.append(rows)
    if waiting:
        yield np.concatenate(waiting)


def _at(run: Int[np.ndarray, " U"], rows: Int[np.ndarray, " n"], model: Model) -> Int[Tensor, " n"]:
    return torch.as_tensor(np.searchsorted(run, rows), device=model.device)


def rows_of(kept: EndTrace, at: Int[Tensor, " P"]) -> EndTrace:
    """A trace of these of its prompts."""

    def of_layers(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(part[at] for part in parts)

    return EndTrace(
        embedding=kept.embedding[at],
        keys=of_layers(kept.keys),
        values=of_layers(kept.values),
        heads=of_layers(kept.heads),
        mid=of_layers(kept.mid),
        post=of_layers(kept.post),
        after=of_layers(kept.after),
        seen=None if kept.seen is None else kept.seen[at],
    )


@torch.no_grad()
def with_kept(
    ctx: AblationContext, block: Block, other: Mapping[int, Float[Tensor, "P N"]], kept: Bool[np.ndarray, "G M"]
) -> Float[Tensor, "K G P"]:
    """Every measure when the neurons of a set run as they are and all others of the chosen layers are at a'."""
    held = torch.as_tensor(~kept, device=ctx.model.device).split(ctx.cache.d_mlp, -1)
    ablated = dict(zip(ctx.cache.layers, held, strict=True))
    size, found = max(1, ROWS // len(block.rows)), []
    for start in range(0, len(kept), size):
        part = {layer: mask[start : start + size] for layer, mask in ablated.items()}
        residual = after_ablation(ctx.model, block.kept, part, other)
        found.append(block.answer.values(normalise(residual, ctx.model.ln_final, ctx.model.config.layer_norm_eps)))
    return torch.cat(found, 1)


@dataclass(frozen=True, eq=False)
class Path:
    """n points of a path. normed: what the final LayerNorm gives. at: layer -> where gradients are taken. away:
    layer -> distance of each neuron from a'; empty where all points have the same.
    """

    normed: Float[Tensor, "n P d"]
    at: Mapping[int, Float[Tensor, "n P _"]]
    away: Mapping[int, Float[Tensor, "n P N"]]


def toward_clean(
    ctx: AblationContext, block: Block, other: Mapping[int, Float[Tensor, "P N"]], alphas: Float[Tensor, " n"]
) -> Path:
    """Each neuron of the chosen layers at a' + alpha (post - a'); `at` holds their activations."""
    model, kept, scale = ctx.model, block.kept, alphas[:, None, None]
    first = min(ctx.cache.layers)
    x = kept.mid[first].expand(len(alphas), -1, -1)
    at, away = {}, {}
    for layer in range(first, model.config.n_layers):
        if layer > first:
            x = x + attention_at_end(model, layer, x, kept)
        if layer not in other:
            x = mlp(model, layer, x)
            continue
        post = kept.post[layer] if layer == first else post_activation(model, layer, x)
        away[layer] = (post.detach() - other[layer]).expand(len(alphas), -1, -1)
        at[layer] = torch.lerp(other[layer], post, scale)
        if layer == first:
            at[layer].requires_grad_()
        weights = model.blocks[layer]
        x = x + (at[layer] @ weights.W_out + weights.b_out)
    return Path(normalise(x, model.ln_final, model.config.layer_norm_eps), at, away)


def held_between(
    ctx: AblationContext, block: Block, other: Mapping[int, Float[Tensor, "P N"]], alphas: Float[Tensor, " n"]
) -> Path:
    """Each neuron of the chosen layers held at a' + alpha (a - a'); `at` holds the residuals that they write to."""
    model, kept, scale = ctx.model, block.kept, alphas[:, None, None]
    first = min(ctx.cache.layers)
    x = kept.mid[first].expand(len(alphas), -1, -1)
    at = {}
    for layer in range(first, model.config.n_layers):
        if layer > first:
            x = x + attention_at_end(model, layer, x, kept)
        if layer not in other:
            x = mlp(model, layer, x)
            continue
        weights = model.blocks[layer]
        start = other[layer] @ weights.W_out + weights.b_out
        whole = (kept.post[layer] - other[layer]) @ weights.W_out
        x = x + (start + scale * whole)
        if layer == first:
            x = x.detach().requires_grad_()
        at[layer] = x
    return Path(normalise(x, model.ln_final, model.config.layer_norm_eps), at, {})
