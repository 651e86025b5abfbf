"""GPT-2's forward as this task needs it, in plain torch from the checkpoint's own weights.

Three facts of the task make it fast, and none is an approximation:
- the answer is read at END, so the last layer's MLP and the unembedding run there alone;
- prompts of one noun and century agree in everything before YY, so that part runs once for all of them;
- nothing before END can see END, so a change made at END is followed from its layer on with every
  earlier position's keys and values as they were (`resume`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from neurons.model.model import Block, LayerNorm, Model
from neurons.types import InputError

BLOCK = 256
"""Prompts in one pass: big enough for full matrix speed, small enough for a laptop's memory."""
TILE = 1 << 19
"""Logits held at once where only their sum is wanted: 2 MB in float32, so that they stay in the processor's cache."""
VOCABULARY_TILE = 512
"""Tokens read at once where a matrix product makes the logits: a larger tile of W_U no longer stays in the cache."""


@dataclass(frozen=True, eq=False)
class EndRun:
    """What the model computes at END for P prompts.

    post: layer -> activations after the nonlinearity [P, N]. residual: after the last layer [P, d].
    scale: sqrt(var + eps) of the final LayerNorm [P]. year_logits [P, 100]. logsumexp over the full
    vocabulary [P].
    """

    post: dict[int, Float[Tensor, "P N"]]
    residual: Float[Tensor, "P d"]
    scale: Float[Tensor, " P"]
    year_logits: Float[Tensor, "P 100"]
    logsumexp: Float[Tensor, " P"]


@dataclass(frozen=True, eq=False)
class EndTrace:
    """Everything at END that an intervention there can need, for P prompts.

    embedding [P, d]: token plus position. Per layer: `keys`, `values` of the positions before END
    [P, H, T-1, d_head]; `heads` [P, H, d_head], each head's weighted sum of values before W_O; `mid` and
    `after` [P, d], the residual before and after the MLP; `post` [P, N].
    """

    embedding: Float[Tensor, "P d"]
    keys: tuple[Float[Tensor, "P H T dh"], ...]
    values: tuple[Float[Tensor, "P H T dh"], ...]
    heads: tuple[Float[Tensor, "P H dh"], ...]
    mid: tuple[Float[Tensor, "P d"], ...]
    post: tuple[Float[Tensor, "P N"], ...]
    after: tuple[Float[Tensor, "P d"], ...]


def normalise(x: Float[Tensor, "... d"], ln: LayerNorm, eps: float) -> Float[Tensor, "... d"]:
    return F.layer_norm(x, x.shape[-1:], ln.gain, ln.bias, eps)


def activate(model: Model, pre: Float[Tensor, "... N"]) -> Float[Tensor, "... N"]:
    """The MLP's nonlinearity."""
    match model.config.activation:
        case "gelu_new" | "gelu_pytorch_tanh":
            return F.gelu(pre, approximate="tanh")
        case "gelu":
            return F.gelu(pre)
        case "relu":
            return F.relu(pre)
        case "silu" | "swish":
            return F.silu(pre)
        case "quick_gelu":
            return pre * torch.sigmoid(1.702 * pre)
        case "tanh":
            return torch.tanh(pre)
        case other:
            raise InputError(f"activation function {other!r} is not supported")


def post_activation(model: Model, layer: int, mid: Float[Tensor, "... d"]) -> Float[Tensor, "... N"]:
    """The MLP's neurons, after the nonlinearity, from the residual before it."""
    block = model.blocks[layer]
    normed = normalise(mid, block.ln_2, model.config.layer_norm_eps)
    return activate(model, _affine(normed, block.W_in, block.b_in))


def mlp(model: Model, layer: int, mid: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """The residual after the MLP, from the residual before it."""
    block = model.blocks[layer]
    return mid + _affine(post_activation(model, layer, mid), block.W_out, block.b_out)


def final_scale(model: Model, residual: Float[Tensor, "... d"]) -> Float[Tensor, " ..."]:
    """sqrt(var + eps) of the final LayerNorm: TransformerLens's `ln_final.hook_scale`."""
    return (residual.var(-1, unbiased=False) + model.config.layer_norm_eps).sqrt()


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
    _check_tokens(model, tokens)
    x, past, rows = _prefixes(model, tokens, shared)
    post: dict[int, Tensor] = {}
    last = model.config.n_layers - 1
    for layer in range(model.config.n_layers):
        mid, _, _, _ = _attend(model, layer, x, past[layer], rows, only_end=layer == last)
        neurons = post_activation(model, layer, mid)
        if layer in layers:
            post[layer] = neurons[:, -1].clone()
        block = model.blocks[layer]
        x = mid + _affine(neurons, block.W_out, block.b_out)
    residual = x[:, -1]
    ids = torch.as_tensor(year_token_ids, dtype=torch.long, device=residual.device)
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
def trace(model: Model, tokens: Int[np.ndarray, "P T"], *, shared: int) -> EndTrace:
    """One pass that keeps what interventions at END need, gradients through `resume` among it: see `EndTrace`."""
    _check_tokens(model, tokens)
    x, past, rows = _prefixes(model, tokens, shared)
    embedding = x[:, -1]
    keys, values, heads, mids, posts, after = [], [], [], [], [], []
    for layer, block in enumerate(model.blocks):
        mid, k, v, z = _attend(model, layer, x, past[layer], rows)
        neurons = post_activation(model, layer, mid)
        x = mid + _affine(neurons, block.W_out, block.b_out)
        keys.append(k[:, :, :-1].contiguous())
        values.append(v[:, :, :-1].contiguous())
        heads.append(z[:, :, -1].clone())
        mids.append(mid[:, -1].clone())
        posts.append(neurons[:, -1].clone())
        after.append(x[:, -1].clone())
    return EndTrace(embedding, *(tuple(p) for p in (keys, values, heads, mids, posts, after)))


def resume(model: Model, kept: EndTrace, residual: Float[Tensor, "n P d"], *, after: int) -> Float[Tensor, "n P d"]:
    """The final residual at END when the residual after layer `after` was changed to `residual`.

    n variants of the same P prompts at once. Earlier positions are as they were, exactly, because
    they cannot see END.
    """
    x = residual
    for layer in range(after + 1, model.config.n_layers):
        x = mlp(model, layer, x + attention_at_end(model, layer, x, kept))
    return x


def attention_at_end(model: Model, layer: int, x: Float[Tensor, "n P d"], kept: EndTrace) -> Float[Tensor, "n P d"]:
    """What the layer's attention writes at END when END's residual before the layer is `x`."""
    block, config = model.blocks[layer], model.config
    q, k, v = _query_key_value(model, block, x)
    keys, values = kept.keys[layer], kept.values[layer]
    q = q * _attention_scale(model, layer)
    earlier = torch.einsum("nphd,phtd->npht", q, keys)
    pattern = torch.cat([earlier, (q * k).sum(-1, keepdim=True)], -1).softmax(-1)
    z = torch.einsum("npht,phtd->nphd", pattern[..., :-1], values) + pattern[..., -1:] * v
    return _affine(z.reshape(*x.shape[:-1], config.d_model), block.W_O, block.b_O)


def _affine(x: Float[Tensor, "... a"], W: Float[Tensor, "a b"], b: Float[Tensor, " b"]) -> Float[Tensor, "... b"]:
    return torch.addmm(b, x.reshape(-1, x.shape[-1]), W).view(*x.shape[:-1], W.shape[1])


def _attention_scale(model: Model, layer: int) -> float:
    scale = 1 / math.sqrt(model.config.d_head)
    return scale / (layer + 1) if model.config.scale_attn_by_inverse_layer_idx else scale


def _query_key_value(model: Model, block: Block, x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... H dh"], ...]:
    config = model.config
    normed = normalise(x, block.ln_1, config.layer_norm_eps)
    joint = _affine(normed, block.qkv, block.b_qkv)
    return tuple(part.unflatten(-1, (config.n_heads, config.d_head)) for part in joint.split(config.d_model, -1))


def _prefixes(
    model: Model, tokens: Int[np.ndarray, "P T"], shared: int
) -> tuple[Float[Tensor, "P R d"], list[tuple[Tensor, Tensor]], Int[Tensor, " P"]]:
    """Run each distinct prefix once; return the suffixes' embeddings, each layer's prefix keys and values, and
    which prefix a prompt has."""
    if not 0 <= shared < tokens.shape[1]:
        raise InputError(f"{shared} shared positions do not leave a last one of {tokens.shape[1]}")
    distinct, which = np.unique(tokens[:, :shared], axis=0, return_inverse=True)
    device = model.W_E.device
    rows = torch.as_tensor(which.reshape(-1), device=device)
    x = _embed(model, distinct, first=0)
    past = []
    for layer in range(model.config.n_layers):
        x, keys, values = _prefix_layer(model, layer, x)
        past.append((keys, values))
    return _embed(model, tokens[:, shared:], first=shared), past, rows


def _prefix_layer(
    model: Model, layer: int, x: Float[Tensor, "U S d"]
) -> tuple[Float[Tensor, "U S d"], Float[Tensor, "U H S dh"], Float[Tensor, "U H S dh"]]:
    empty = x.new_zeros(len(x), model.config.n_heads, 0, model.config.d_head)
    mid, keys, values, _ = _attend(model, layer, x, (empty, empty), torch.arange(len(x), device=x.device))
    if layer == model.config.n_layers - 1 or x.shape[1] == 0:
        return mid, keys, values
    return mlp(model, layer, mid), keys, values


def _attend(
    model: Model,
    layer: int,
    x: Float[Tensor, "P R d"],
    past: tuple[Tensor, Tensor],
    rows: Int[Tensor, " P"],
    *,
    only_end: bool = False,
) -> tuple[Float[Tensor, "P r d"], Float[Tensor, "P H T dh"], Float[Tensor, "P H T dh"], Float[Tensor, "P H r dh"]]:
    """Add the attention's output to x; also keys, values of all positions and each head's mixed values.

    With `only_end` the last position alone attends (r = 1): all that is needed of the last layer.
    """
    block = model.blocks[layer]
    q, k, v = (part.transpose(1, 2) for part in _query_key_value(model, block, x))
    keys = torch.cat([past[0][rows], k], 2)
    values = torch.cat([past[1][rows], v], 2)
    if only_end:
        q, x = q[:, :, -1:], x[:, -1:]
    behind = keys.shape[2] - q.shape[2]
    mask = torch.ones(q.shape[2], keys.shape[2], dtype=torch.bool, device=x.device).tril(behind)
    z = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=_attention_scale(model, layer))
    written = _affine(z.transpose(1, 2).flatten(2), block.W_O, block.b_O)
    return x + written, keys, values, z


def _embed(model: Model, tokens: Int[np.ndarray, "P R"], *, first: int) -> Float[Tensor, "P R d"]:
    ids = torch.as_tensor(tokens, dtype=torch.long, device=model.W_E.device)
    return model.W_E[ids] + model.W_pos[first : first + tokens.shape[1]]


def _check_tokens(model: Model, tokens: Int[np.ndarray, "P T"]) -> None:
    if tokens.size == 0:
        raise InputError("no prompts to run")
    if tokens.shape[1] > model.config.n_ctx:
        raise InputError(f"prompts of {tokens.shape[1]} tokens do not fit the model's context of {model.config.n_ctx}")
    outside = tokens[(tokens < 0) | (tokens >= model.config.d_vocab)]
    if outside.size:
        raise InputError(
            f"token {int(outside[0])} is outside the model's vocabulary of {model.config.d_vocab}: the tokenizer"
            " beside the checkpoint belongs to another model"
        )
