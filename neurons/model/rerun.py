"""Run one head or MLP again on a changed input, at any position from YY on.

1. `trace_from` runs prompts once and keeps every residual, query and head of the positions that attend to YY, and the
   keys and values of all positions.
2. `trace_between` does the same for the run between two of them.
3. `head_again` and `mlp_again` take what one component reads when the residual changes, and return the change of the
   component's output. Nothing else is run.

The output of a head is `z @ W_O`, without the bias, which is the same in every run.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.model.forward import LayerPass, layer_pass, layer_passes
from neurons.model.model import Block, Model, attention_scale, normalise, post_activation, softmax

PROMPTS = 64
"""Prompts in one pass of a trace."""


@dataclass(frozen=True, eq=False)
class PositionTrace:
    """P prompts of T positions, R of them from YY to END; layer by layer.

    pre [P, R, d]: the residual before each layer's attention, and last the final residual. mid [P, R, d]: before
    its MLP. queries, z [P, R, H, d_head]; z is a head's weighted sum of values. keys, values [P, T, H, d_head].
    """

    pre: tuple[Float[Tensor, "P R d"], ...]
    mid: tuple[Float[Tensor, "P R d"], ...]
    queries: tuple[Float[Tensor, "P R H dh"], ...]
    keys: tuple[Float[Tensor, "P T H dh"], ...]
    values: tuple[Float[Tensor, "P T H dh"], ...]
    z: tuple[Float[Tensor, "P R H dh"], ...]

    @property
    def n_positions(self) -> int:
        """R."""
        return self.pre[0].shape[1]

    @property
    def final(self) -> Float[Tensor, "P d"]:
        """The final residual at END."""
        return self.pre[-1][:, -1]

    def of_rows(self, rows: Int[np.ndarray, " n"]) -> "PositionTrace":
        """The same for a list of prompts, repeats among them."""
        at = torch.as_tensor(rows, device=self.final.device)
        return PositionTrace(*(tuple(x[at] for x in kept) for kept in vars(self).values()))


@torch.inference_mode()
def trace_from(model: Model, tokens: Int[np.ndarray, "P T"], *, first: int) -> PositionTrace:
    """Run the prompts, `PROMPTS` at a time, and keep what is at positions `first` and later."""
    parts = [_trace(model, tokens[start : start + PROMPTS], first) for start in range(0, len(tokens), PROMPTS)]
    fields = zip(*(vars(part).values() for part in parts), strict=True)
    return PositionTrace(*(tuple(torch.cat(list(x)) for x in zip(*kept, strict=True)) for kept in fields))


@torch.no_grad()
def trace_between(model: Model, kept: PositionTrace, other: PositionTrace, alpha: float) -> PositionTrace:
    """Run the prompts between two runs: embeddings other + alpha (kept - other) from YY on.

    Before YY the two are the same, and their keys and values there are used.
    """
    return _kept(_passes_between(model, kept, other, alpha))


def _passes_between(model: Model, kept: PositionTrace, other: PositionTrace, alpha: float) -> Iterator[LayerPass]:
    first = kept.keys[0].shape[1] - kept.n_positions
    x = torch.lerp(other.pre[0], kept.pre[0], alpha)
    for layer in range(model.config.n_layers):
        keys, values = (part[layer][:, :first].transpose(1, 2) for part in (kept.keys, kept.values))
        one = layer_pass(model, layer, x, keys, values)
        yield one
        x = one.after


def _trace(model: Model, tokens: Int[np.ndarray, "P T"], first: int) -> PositionTrace:
    return _kept(layer_passes(model, tokens, shared=first))


def _kept(passes: Iterable[LayerPass]) -> PositionTrace:
    pre, mids, queries, keys, values, heads = [], [], [], [], [], []
    for one in passes:
        pre.append(one.pre)
        mids.append(one.mid)
        queries.append(one.queries.transpose(1, 2).contiguous())
        keys.append(one.keys.transpose(1, 2))
        values.append(one.values.transpose(1, 2))
        heads.append(one.z.transpose(1, 2))
    pre.append(one.after)
    return PositionTrace(*(tuple(kept) for kept in (pre, mids, queries, keys, values, heads)))


def head_write(model: Model, layer: int, head: int, z: Float[Tensor, "... dh"]) -> Float[Tensor, "... d"]:
    """The output of a head, from its weighted sum of values."""
    return z @ model.blocks[layer].W_O[_columns(model, head)]


def mlp_output(kept: PositionTrace, layer: int, position: int) -> Float[Tensor, "P d"]:
    """The output of an MLP at a position, its bias included."""
    return kept.pre[layer + 1][:, position] - kept.mid[layer][:, position]


def mlp_again(
    model: Model,
    kept: PositionTrace,
    layer: int,
    position: int,
    added: Float[Tensor, "n P d"],
    *,
    before: Float[Tensor, "P N"],
) -> Float[Tensor, "n P d"]:
    """The change of the MLP's output when `added` is added to the residual that it reads; before: its activations."""
    block = model.blocks[layer]
    change = post_activation(model, layer, kept.mid[layer][:, position] + added) - before
    return (change.reshape(-1, change.shape[-1]) @ block.W_out).view(added.shape)


def heads_input(
    model: Model, kept: PositionTrace, layer: int, position: int, added: Float[Tensor, "n P d"]
) -> Float[Tensor, "n P d"]:
    """What all heads of a layer read at a position, normalised, when `added` is added to the residual."""
    pre = kept.pre[layer][:, position] + added
    return normalise(pre, model.blocks[layer].ln_1, model.config.layer_norm_eps)


def head_again(
    model: Model,
    kept: PositionTrace,
    layer: int,
    head: int,
    position: int,
    *,
    query: Float[Tensor, "n P d"] | None = None,
    keys: Mapping[int, Float[Tensor, "n P d"]],
    values: Mapping[int, Float[Tensor, "n P d"]],
) -> Float[Tensor, "n P d"]:
    """The change of the head's output when it reads something else, as `heads_input` gives it.

    query: read for the query; keys, values: read for a key or a value, by position counted from YY. Positions before
    YY cannot change.
    """
    first = kept.keys[layer].shape[1] - kept.n_positions
    seen = first + position + 1
    k, v = kept.keys[layer][:, :seen, head], kept.values[layer][:, :seen, head]
    q = kept.queries[layer][None, :, position, head]
    if query is not None:
        q = _projected(model, layer, head, "q", query)
    scores = torch.einsum("npe,pte->npt", q, k)
    for at, normed in keys.items():
        k_new = _projected(model, layer, head, "k", normed)
        column = (q * k_new).sum(-1)
        scores = scores.expand(max(len(scores), len(column)), -1, -1).clone()
        scores[..., first + at] = column
    pattern = softmax(scores * attention_scale(model, layer))
    z = torch.einsum("npt,pte->npe", pattern, v)
    for at, normed in values.items():
        v_new = _projected(model, layer, head, "v", normed)
        z = z + pattern[..., first + at, None] * (v_new - v[:, first + at])
    return head_write(model, layer, head, z - kept.z[layer][:, position, head])


_PLACE = {"q": 0, "k": 1, "v": 2}


def _projected(
    model: Model, layer: int, head: int, what: str, normed: Float[Tensor, "n P d"]
) -> Float[Tensor, "n P dh"]:
    """A head's query, key or value."""
    W, b = _reading_weights(model, model.blocks[layer], head, what)
    return (normed.reshape(-1, normed.shape[-1]) @ W + b).view(*normed.shape[:-1], -1)


def _reading_weights(
    model: Model, block: Block, head: int, what: str
) -> tuple[Float[Tensor, "d dh"], Float[Tensor, " dh"]]:
    start = _PLACE[what] * model.config.d_model
    columns = slice(start + head * model.config.d_head, start + (head + 1) * model.config.d_head)
    return block.qkv[:, columns], block.b_qkv[columns]


def _columns(model: Model, head: int) -> slice:
    return slice(head * model.config.d_head, (head + 1) * model.config.d_head)
