"""GPT-2's forward for prompts that are read at END, in plain torch from the checkpoint's own weights.

There is one forward, `layer_passes`; `run` and `trace` here and `rerun.trace_from` keep different parts of it.
Three facts of the task make it fast, and none is an approximation:
- the answer is read at END, so the last layer's MLP and the unembedding run there alone;
- prompts of one noun and century agree in everything before YY, so that part runs once for all of them;
- nothing before END attends to END, so a change at END is followed from its layer on with the keys and values of
  every earlier position unchanged (`at_end.resume`).

Prompts shorter than others have `PAD` in front, so that END is the last column of all. No position attends to one, and
positions are counted from the first token: each prompt gives what it gives alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurons.model.model import (
    Model,
    affine,
    attention_pattern,
    attention_scale,
    final_scale,
    normalise,
    post_activation,
    query_key_value,
)

BLOCK = 256
"""Prompts in one pass: big enough for full matrix speed, small enough for a laptop's memory."""
VOCABULARY_TILE = 512
"""Tokens read at once where a matrix product makes the logits: a larger tile of W_U no longer stays in the cache."""


@dataclass(frozen=True, eq=False)
class Blend:
    """Embeddings other + alpha (own - other): a point between two prompts."""

    other: Int[np.ndarray, "P T"]
    alpha: float


@dataclass(frozen=True, eq=False)
class EndRun:
    """What the model computes at END for P prompts.

    post: layer -> activations after the nonlinearity [P, N]. residual: after the last layer [P, d]. scale: sqrt(var +
    eps) of the final LayerNorm [P]. year_logits [P, 100]. logsumexp over the full vocabulary [P].
    """

    post: dict[int, Float[Tensor, "P N"]]
    residual: Float[Tensor, "P d"]
    scale: Float[Tensor, " P"]
    year_logits: Float[Tensor, "P 100"]
    logsumexp: Float[Tensor, " P"]


@dataclass(frozen=True, eq=False)
class EndTrace:
    """Everything at END that an intervention there can need, for P prompts.

    embedding [P, d]: token plus position. Per layer: `keys`, `values` of the positions before END [P, H, T-1, d_head];
    `heads` [P, H, d_head], each head's weighted sum of values before W_O; `mid` and `after` [P, d], the residual
    before and after the MLP; `post` [P, N]. `seen` [P, T-1]: which positions before END hold a token; None for all.
    """

    embedding: Float[Tensor, "P d"]
    keys: tuple[Float[Tensor, "P H T dh"], ...]
    values: tuple[Float[Tensor, "P H T dh"], ...]
    heads: tuple[Float[Tensor, "P H dh"], ...]
    mid: tuple[Float[Tensor, "P d"], ...]
    post: tuple[Float[Tensor, "P N"], ...]
    after: tuple[Float[Tensor, "P d"], ...]
    seen: Bool[Tensor, "P T"] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class LayerPass:
    """One layer's pass over the last R of T positions of P prompts.

    pre [P, R, d]: the residual before the layer. queries [P, H, R, d_head]; keys, values [P, H, T, d_head] of all
    positions. pattern [P, H, R, T]: the attention. z [P, H, R, d_head]: each head's weighted sum of values before W_O.
    mid, after [P, R, d]: the residual before and after the MLP. post [P, R, N]: the neurons after the nonlinearity.
    """

    pre: Float[Tensor, "P R d"]
    queries: Float[Tensor, "P H r dh"]
    keys: Float[Tensor, "P H T dh"]
    values: Float[Tensor, "P H T dh"]
    pattern: Float[Tensor, "P H r T"]
    z: Float[Tensor, "P H r dh"]
    mid: Float[Tensor, "P r d"]
    post: Float[Tensor, "P r N"]
    after: Float[Tensor, "P r d"]


def year_logits(
    model: Model, residual: Float[Tensor, "... d"], year_token_ids: Int[Tensor, "100"]
) -> Float[Tensor, "... 100"]:
    """Logits of the 100 years through the final LayerNorm."""
    return normalise(residual, model.ln_final, model.config.layer_norm_eps) @ model.W_U[year_token_ids].T


def logsumexp(model: Model, residual: Float[Tensor, "... d"]) -> Float[Tensor, " ..."]:
    """Log of the sum over the full vocabulary of exp(logit), a tile of it at a time."""
    normed = normalise(residual, model.ln_final, model.config.layer_norm_eps).reshape(-1, residual.shape[-1])
    tiles = [torch.logsumexp(normed @ part.T, -1) for part in model.W_U.split(VOCABULARY_TILE)]
    return torch.logsumexp(torch.stack(tiles), 0).view(residual.shape[:-1])


@torch.inference_mode()
def run(
    model: Model,
    tokens: Int[np.ndarray, "P T"],
    *,
    shared: int,
    layers: Sequence[int],
    year_token_ids: Int[np.ndarray, "100"],
) -> EndRun:
    """One pass over prompts whose first `shared` positions many have in common.

    The prefixes that occur are run once each, then every prompt's remaining positions.
    """
    post: dict[int, Tensor] = {}
    for layer, one in enumerate(layer_passes(model, tokens, shared=shared, only_end=True)):
        if layer in layers:
            post[layer] = one.post[:, -1].clone()
    residual, ids = one.after[:, -1], torch.as_tensor(year_token_ids, dtype=torch.long, device=model.device)
    return EndRun(
        post=post,
        residual=residual,
        scale=final_scale(model, residual),
        year_logits=year_logits(model, residual, ids),
        logsumexp=logsumexp(model, residual),
    )


def run_in_blocks(
    model: Model,
    tokens: Int[np.ndarray, "P T"],
    *,
    shared: int,
    layers: Sequence[int],
    year_token_ids: Int[np.ndarray, "100"],
    block: int = BLOCK,
) -> Iterator[tuple[slice, EndRun]]:
    """`run` over consecutive blocks of prompts: memory does not grow with their number."""
    for start in range(0, len(tokens), block):
        part = slice(start, min(start + block, len(tokens)))
        yield part, run(model, tokens[part], shared=shared, layers=layers, year_token_ids=year_token_ids)


@torch.no_grad()
def trace(model: Model, tokens: Int[np.ndarray, "P T"], *, shared: int, blend: Blend | None = None) -> EndTrace:
    """One pass that keeps what interventions at END need, gradients through `at_end.resume` included.

    blend: other prompts with the same shared positions, towards whose embeddings these are moved.
    """
    keys, values, heads, mids, posts, after = [], [], [], [], [], []
    embedding = _embedded(model, tokens, shared, blend)[:, -1]
    for one in layer_passes(model, tokens, shared=shared, blend=blend):
        keys.append(one.keys[:, :, :-1])
        values.append(one.values[:, :, :-1])
        heads.append(one.z[:, :, -1].clone())
        mids.append(one.mid[:, -1].clone())
        posts.append(one.post[:, -1].clone())
        after.append(one.after[:, -1].clone())
    parts = (tuple(kept) for kept in (keys, values, heads, mids, posts, after))
    return EndTrace(embedding, *parts, seen=model.seen(tokens[:, :-1]))


def attention_at_end(model: Model, layer: int, x: Float[Tensor, "n P d"], kept: EndTrace) -> Float[Tensor, "n P d"]:
    """The output of the layer's attention at END when the residual there before the layer is `x`."""
    block = model.blocks[layer]
    q, k, v = query_key_value(model, block, x)
    keys, values = kept.keys[layer], kept.values[layer]
    q = q * attention_scale(model, layer)
    earlier, own = torch.einsum("nphd,phtd->npht", q, keys), (q * k).sum(-1, keepdim=True)
    if kept.seen is not None:
        earlier = earlier.masked_fill(~kept.seen[:, None], -math.inf)
    largest = torch.maximum(earlier.detach().amax(-1, keepdim=True), own.detach())
    before, here = (earlier - largest).exp(), (own - largest).exp()
    z = torch.einsum("npht,phtd->nphd", before, values) + here * v
    z = z / (before.sum(-1, keepdim=True) + here)
    return affine(z.flatten(-2), block.W_O, block.b_O)


def layer_passes(
    model: Model, tokens: Int[np.ndarray, "P T"], *, shared: int, only_end: bool = False, blend: Blend | None = None
) -> Iterator[LayerPass]:
    """Run the layers in turn over positions `shared` and later; the positions before, once for each distinct prefix.

    only_end: of the last layer, END alone (R = 1): all that the logits need.
    Raises `InputError` for tokens that do not fit the model, or where `shared` leaves no position.
    """
    model.config.check_tokens(tokens, shared=shared)
    prefixes, which = np.unique(tokens[:, :shared], axis=0, return_inverse=True)
    rows = torch.as_tensor(which.reshape(-1), device=model.device)
    before, x = model.embed(prefixes), _embedded(model, tokens, shared, blend)
    seen_before, seen = model.seen(prefixes), model.seen(tokens)
    for layer in range(model.config.n_layers):
        is_last = layer == model.config.n_layers - 1
        keys, values, before = _prefix_layer(model, layer, before, seen_before, is_last=is_last)
        one = layer_pass(model, layer, x, keys[rows], values[rows], seen=seen, only_end=only_end and is_last)
        yield one
        x = one.after


def _prefix_layer(
    model: Model, layer: int, x: Float[Tensor, "U S d"], seen: Bool[Tensor, "U S"] | None, *, is_last: bool
) -> tuple[Float[Tensor, "U H S dh"], Float[Tensor, "U H S dh"], Float[Tensor, "U S d"]]:
    """Keys and values of the prefixes, and their residual after the layer (before the last, which nobody reads)."""
    if is_last or x.shape[1] == 0:
        _, keys, values = (part.transpose(1, 2) for part in query_key_value(model, model.blocks[layer], x))
        return keys, values, x
    empty = x.new_zeros(len(x), model.config.n_heads, 0, model.config.d_head)
    one = layer_pass(model, layer, x, empty, empty, seen=seen)
    return one.keys, one.values, one.after


def layer_pass(
    model: Model,
    layer: int,
    x: Float[Tensor, "P R d"],
    earlier_keys: Float[Tensor, "P H S dh"],
    earlier_values: Float[Tensor, "P H S dh"],
    *,
    seen: Bool[Tensor, "P T"] | None = None,
    only_end: bool = False,
) -> LayerPass:
    block = model.blocks[layer]
    q, k, v = (part.transpose(1, 2) for part in query_key_value(model, block, x))
    keys, values = torch.cat([earlier_keys, k], 2), torch.cat([earlier_values, v], 2)
    read = slice(-1 if only_end else 0, None)
    pattern = attention_pattern(model, layer, q[:, :, read], keys, seen=seen)
    z = pattern @ values
    mid = x[:, read] + affine(z.transpose(1, 2).flatten(2), block.W_O, block.b_O)
    post = post_activation(model, layer, mid)
    after = mid + affine(post, block.W_out, block.b_out)
    return LayerPass(x, q[:, :, read], keys, values, pattern, z, mid, post, after)


def _embedded(model: Model, tokens: Int[np.ndarray, "P T"], shared: int, blend: Blend | None) -> Float[Tensor, "P R d"]:
    """Embeddings of the positions that are not shared."""
    own = model.embed(tokens, after=shared)
    if blend is None:
        return own
    return torch.lerp(model.embed(blend.other, after=shared), own, blend.alpha)
