"""Edge attribution patching with integrated gradients (EAP-IG on inputs; Hanna, Pezzelle and Belinkov 2024).

1. The effect of an edge is what its sender writes in the corrupted run less what it writes in the clean run, times the
   gradient of the probability difference with respect to the input that the edge reads, summed over dimensions.
2. The gradient is its mean over `steps` runs between the corrupted and the clean embedding (k / steps of the way, from
   k = 0); with one step it is the clean run's, which is attribution patching of edges (Syed et al. 2023).
3. A backward pass by hand visits the layers from the last to the first and holds, for each input that can be read at a
   position, the gradient there: of every head its query, and of each position that it looks at from another its key and
   its value. Matrix products for each position and layer give the effects of all edges into these inputs; the LayerNorm
   that all heads of a layer share enters as a product of rank one a prompt.

Positions before YY are the same in both runs: no edge starts there. The measure is the published one, with the softmax
over the full vocabulary, averaged over the prompts of a start year and then over start years.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.circuit.edges import EdgeEffects, levels
from neurons.circuit.paths import Patching, depth_first
from neurons.circuit.search_results import Found, Search
from neurons.model.forward import attention_scale, logsumexp, post_activation, year_logits
from neurons.model.rerun import PositionTrace, attention_pattern, trace_between
from neurons.types import InputError, Progress

STEPS = 5
"""As in EAP-IG's own greater-than."""
CHUNK = 32
"""Prompts whose writes and gradients are in memory at once: some 150 MB in GPT-2 small."""


@torch.no_grad()
def edge_effects(patching: Patching, *, steps: int = STEPS, progress: Progress | None = None) -> EdgeEffects:
    """Estimate the effect of every edge. `patching` is as `paths.patching` makes it; `progress` counts runs.

    Raises `InputError` for fewer than one step.
    """
    if steps < 1:
        raise InputError(f"{steps} steps asked for: the gradient needs at least one")
    layout, starts = patching.layout, range(0, len(patching), CHUNK)
    total = [
        np.zeros((len(layout.senders(2 * layout.n_layers, position)), len(layout.readers(position))))
        for position in layout.positions
    ]
    done = 0
    for start in starts:
        part = _rows(patching, np.arange(start, min(start + CHUNK, len(patching))))
        writes = _writes(part)
        for step in range(steps):
            _add_effects(total, part, _run(part, step, steps), writes)
            done += 1
            if progress:
                progress(done, steps * len(starts))
    return EdgeEffects(layout, steps, tuple(effects / steps for effects in total))


def attributed_circuit(patching: Patching, effects: EdgeEffects, search: Search) -> Found:
    """Choose the circuit of `search.edges` edges by their effects. A node's effect is the sum of all its edges'."""
    edges = effects.circuit(search.edges, search.choice)
    nodes = sorted({edge.sender for edge in edges}, key=lambda n: (patching.layout.at(n.position), depth_first(n)))
    away = levels(edges)
    return Found(
        search=search,
        whole=float(_difference(patching, patching.other.final) - _difference(patching, patching.base.final)),
        nodes=tuple(nodes),
        node_effect=np.array([effects.of_node(node) for node in nodes]),
        level=tuple(away[node] for node in nodes),
        edges=tuple(edges),
        edge_effect=np.array(list(edges.values())),
        neurons=(),
        neuron_effect=np.zeros(0),
    )


def _difference(part: Patching, final: Float[Tensor, "P d"]) -> Float[Tensor, ""]:
    """The mean probability difference of final residuals, softmax over the full vocabulary."""
    logits, whole = year_logits(part.model, final, part.year_ids), logsumexp(part.model, final)
    difference = ((logits - whole[:, None]).exp() * part.signs).sum(-1)
    return difference @ torch.as_tensor(part.averaging).to(difference)


def _rows(patching: Patching, rows: np.ndarray) -> Patching:
    return replace(
        patching,
        base=patching.base.of_rows(rows),
        other=patching.other.of_rows(rows),
        start_year=patching.start_year[rows],
        averaging=patching.averaging[rows],
    )


def _run(part: Patching, step: int, steps: int) -> PositionTrace:
    """The run of a step. The first is the corrupted run itself; where there is but one, it is the clean run."""
    if step == 0:
        return part.base if steps == 1 else part.other
    return trace_between(part.model, part.base, part.other, step / steps)


def _writes(part: Patching) -> list[Float[Tensor, "_U P d"]]:
    """What each sender of a position writes in the corrupted run less what it writes in the clean run, with its mean
    over d taken away: every input is a LayerNorm's, which does not see it.
    """
    layout = part.layout
    found = [
        torch.stack([part.change(node) for node in layout.senders(2 * layout.n_layers, position)])
        for position in layout.positions
    ]
    return [one - one.mean(-1, keepdim=True) for one in found]


@dataclass(frozen=True, eq=False)
class _Read:
    """Gradients at the K inputs of one layer's heads, or of its MLP, that read at a position; the LayerNorm of heads is
    taken apart, because it is the same for all of them.

    order: of the component; the inputs are `layout.readers` of that component or layer. gradient: with respect to what
    is read, but for a constant over d and for `along` times the unit, the normalised residual [P, d]; the next one is
    written over it. slots: of queries, keys and values, how many heads and positions; `gradient` has heads outermost.
    """

    position: int
    order: int
    gradient: Float[Tensor, "K P d"]
    along: Float[Tensor, "K P"] | None = None
    slots: tuple[tuple[int, int], ...] = ((1, 1),)

    def effects(self, writes: Float[Tensor, "U P d"], on_unit: Float[Tensor, "U P"]) -> Float[Tensor, "U K"]:
        """Sums over prompts and dimensions. writes: with mean 0 over d; on_unit: their products with the unit."""
        found = writes.flatten(1) @ self.gradient.flatten(1).T
        if self.along is not None:
            found.addmm_(on_unit, self.along.T, alpha=-1)
        parts = found.split([heads * positions for heads, positions in self.slots], 1)
        return torch.cat([one.unflatten(1, slot).mT.flatten(1) for one, slot in zip(parts, self.slots, strict=True)], 1)


def _add_effects(total: list[np.ndarray], part: Patching, run: PositionTrace, writes: list[Tensor]) -> None:
    """Add each edge's effect of one run."""
    layout = part.layout
    columns = [len(layout.readers(position)) for position in layout.positions]
    below = [[node.order for node in layout.senders(2 * layout.n_layers, position)] for position in layout.positions]
    on_unit = [_on_unit(part, run, at, written) for at, written in enumerate(writes)]
    for read in _gradients(part, run):
        at, rows = read.position, sum(order < read.order for order in below[read.position])
        layer = min(read.order // 2, layout.n_layers - 1)
        found = read.effects(writes[at][:rows], on_unit[at][layer, :rows])
        into = slice(columns[read.position] - found.shape[1], columns[read.position])
        columns[read.position] = into.start
        total[read.position][:rows, into] += found.numpy(force=True)


def _on_unit(part: Patching, run: PositionTrace, at: int, written: Float[Tensor, "U P d"]) -> Float[Tensor, "L U P"]:
    """Products over d of what is written at a position with the normalised residual before each layer."""
    units = [_unit(pre[:, at], part.model.config.layer_norm_eps)[0] for pre in run.pre[:-1]]
    return torch.einsum("upd,lpd->lup", written, torch.stack(units))


def _unit(x: Float[Tensor, "... d"], eps: float) -> tuple[Float[Tensor, "... d"], Float[Tensor, "... 1"]]:
    """A residual as a LayerNorm has it before its gain, and 1 / sigma."""
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt()
    return (x - mean) * scale, scale


def _gradients(part: Patching, run: PositionTrace) -> Iterator[_Read]:
    """Yield the gradients at all inputs, from the logits back to the first layer."""
    layers, positions = part.model.config.n_layers, part.layout.positions
    into_residual = torch.zeros_like(run.pre[0])
    into_residual[:, -1] = _at_the_logits(part, run.final)
    most = part.model.config.n_heads * (1 + 2 * len(positions))
    space = into_residual.new_empty(most, *into_residual[:, 0].shape)
    yield _Read(len(positions) - 1, 2 * layers, into_residual[None, :, -1])
    for layer in reversed(range(layers)):
        at_mlp = _at_mlp(part, layer, run, into_residual)
        for at in range(len(positions)):
            yield _Read(at, 2 * layer + 1, at_mlp[None, :, at])
        into_residual = into_residual + at_mlp
        heads = _Heads(part, layer, run, into_residual)
        for at in range(len(positions)):
            yield heads.read(at, space)
        into_residual = into_residual + heads.before()


def _at_the_logits(part: Patching, final: Float[Tensor, "P d"]) -> Float[Tensor, "P d"]:
    """The gradient of the probability difference with respect to the final residual."""
    with torch.enable_grad():
        residual = final.detach().requires_grad_()
        return torch.autograd.grad(_difference(part, residual), residual)[0]


def _at_mlp(
    part: Patching, layer: int, run: PositionTrace, into_residual: Float[Tensor, "P R d"]
) -> Float[Tensor, "P R d"]:
    """The gradient with respect to what an MLP reads, through the MLP alone."""
    with torch.enable_grad():
        mid = run.mid[layer].detach().requires_grad_()
        post = post_activation(part.model, layer, mid)
        return torch.autograd.grad(post, mid, into_residual @ part.model.blocks[layer].W_out.T)[0]


class _Heads:
    """The backward pass through the heads of a layer, from the gradient of the residual that they write to.

    Gradients with respect to queries [R, H, P, d_head] of each position, and to keys and values [position, H, reader,
    P, d_head], of a position for each that looks at it.
    """

    def __init__(self, part: Patching, layer: int, run: PositionTrace, into_residual: Float[Tensor, "P R d"]) -> None:
        model, block, H = part.model, part.model.blocks[layer], part.model.config.n_heads
        first = run.keys[layer].shape[1] - run.n_positions
        queries, keys, values = run.queries[layer], run.keys[layer], run.values[layer]
        pattern = attention_pattern(model, layer, queries, keys)
        at_z = (into_residual @ block.W_O.T).unflatten(-1, (H, -1))
        at_pattern = torch.einsum("prhe,pthe->phrt", at_z, values)
        at_scores = pattern * (at_pattern - (pattern * at_pattern).sum(-1, keepdim=True))
        at_scores = at_scores * attention_scale(model, layer)
        self.queries = torch.einsum("phrt,pthe->rhpe", at_scores, keys)
        self.keys = torch.einsum("phrt,prhe->thrpe", at_scores[..., first:], queries)
        self.values = torch.einsum("phrt,prhe->thrpe", pattern[..., first:], at_z)
        self.order, self.qkv, self.ln = 2 * layer, block.qkv, block.ln_1
        self.weights = (block.qkv * block.ln_1.gain[:, None]).unflatten(-1, (3, H, -1)).permute(1, 2, 3, 0).contiguous()
        self.unit, self.scale = _unit(run.pre[layer], model.config.layer_norm_eps)

    def read(self, at: int, space: Float[Tensor, "K P d"]) -> _Read:
        """The gradients at what the heads read at a position, in `space`: memory that is used again is in the cache."""
        unit, scale, along, slots, first = self.unit[:, at], self.scale[:, at], [], [], 0
        read = (self.queries[at, :, None], self.keys[at, :, at:], self.values[at, :, at:])
        for each, W in zip(read, self.weights, strict=True):
            scaled = (each * scale).contiguous()
            H, R, P, _ = scaled.shape
            torch.bmm(scaled.flatten(1, 2), W, out=space[first : first + H * R].view(H, R * P, -1))
            along.append(torch.einsum("hrpe,hpe->hrp", scaled, unit @ W.mT / unit.shape[-1]).flatten(0, 1))
            slots.append((H, R))
            first += H * R
        return _Read(at, self.order, space[:first], torch.cat(along), tuple(slots))

    def before(self) -> Float[Tensor, "P R d"]:
        """The gradient at the residual before the layer, through all of its heads together."""
        read = torch.stack([self.queries, self.keys.sum(2), self.values.sum(2)])
        normed = read.permute(3, 1, 0, 2, 4).flatten(2) @ self.qkv.T * self.ln.gain
        along = (normed * self.unit).mean(-1, keepdim=True)
        return (normed - normed.mean(-1, keepdim=True) - self.unit * along) * self.scale
