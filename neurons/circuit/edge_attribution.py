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
from neurons.circuit.graph import Layout
from neurons.circuit.paths import Patching, depth_first
from neurons.circuit.search_results import Found, Search
from neurons.model.device import on_threads
from neurons.model.forward import logsumexp, year_logits
from neurons.model.model import attention_pattern, attention_scale, post_activation
from neurons.model.rerun import PositionTrace, trace_between
from neurons.types import InputError, Progress

STEPS = 5
"""As in EAP-IG's own greater-than."""
CHUNK = 32
"""Prompts whose writes and gradients are in memory at once, for each thread: some 150 MB in GPT-2 small."""


@torch.no_grad()
def edge_effects(patching: Patching, *, steps: int = STEPS, progress: Progress | None = None) -> EdgeEffects:
    """Estimate the effect of every edge. `patching` is as `paths.patching` makes it; `progress` counts runs.

    Raises `InputError` for fewer than one step.
    """
    if steps < 1:
        raise InputError(f"{steps} steps asked for: the gradient needs at least one")
    layout, total = patching.layout, _zeros(patching.layout)

    def of_rows(rows: np.ndarray) -> Iterator[list[np.ndarray]]:
        part = _rows(patching, rows)
        writes = _writes(part)
        for step in range(steps):
            yield _effects(part, _run(part, step, steps), writes)

    tasks = np.split(np.arange(len(patching)), range(CHUNK, len(patching), CHUNK))
    for done, found in enumerate(on_threads(patching.model, of_rows, tasks, of_any_size=True), 1):
        for of_position, added in zip(total, found, strict=True):
            of_position += added
        if progress:
            progress(done, steps * len(tasks))
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


def _writes(part: Patching) -> list[Float[Tensor, "P _U d"]]:
    """What each sender of a position writes in the corrupted run less what it writes in the clean run, with its mean
    over d taken away: every input is a LayerNorm's, which does not see it.
    """
    layout = part.layout
    found = [
        torch.stack([part.change(node) for node in layout.senders(2 * layout.n_layers, position)], 1)
        for position in layout.positions
    ]
    return [one - one.mean(-1, keepdim=True) for one in found]


def _zeros(layout: Layout) -> list[np.ndarray]:
    """For each position, an effect from each sender to each input."""
    return [
        np.zeros((len(layout.senders(2 * layout.n_layers, position)), len(layout.readers(position))))
        for position in layout.positions
    ]


@dataclass(frozen=True, eq=False)
class _Inputs:
    """K inputs that read at a position: those of a layer's heads, and as the last of the K, though before them in
    depth, the MLP below, whose own output only the others read. Of the last layer's MLP the logits take the heads'
    place. columns: the K in the order of `layout.readers`.

    A change x of what is read there, with mean 0 over d, changes the measure by the sum over prompts of
    weight (gradient x) - along (unit x), unit being the normalised residual before the heads.
    """

    position: int
    below: int
    """Order of the heads or the logits: what comes before it can be read."""
    gradient: Float[Tensor, "K P d"]
    weight: Float[Tensor, "K P"]
    along: Float[Tensor, "K P"]
    columns: list[int]

    def effects(self, writes: Float[Tensor, "P U d"], on_unit: Float[Tensor, "P U"]) -> Float[Tensor, "U K"]:
        """The effect of every sender before the heads or the logits."""
        products = torch.bmm(writes, self.gradient.permute(1, 2, 0))
        return products.mul_(self.weight.T[:, None]).sum(0).addmm_(on_unit.T, self.along.T, alpha=-1)


def _effects(part: Patching, run: PositionTrace, writes: list[Tensor]) -> list[np.ndarray]:
    """Each edge's effect in one run, position by position."""
    layout, total = part.layout, _zeros(part.layout)
    left = [len(layout.readers(position)) for position in layout.positions]
    orders = [[node.order for node in layout.senders(2 * layout.n_layers, position)] for position in layout.positions]
    on_unit = [_on_unit(part, run, at, written) for at, written in enumerate(writes)]
    for one in _gradients(part, run):
        at = one.position
        rows = sum(order < one.below for order in orders[at])
        layer = min(one.below // 2, layout.n_layers - 1)
        found = one.effects(writes[at][:, :rows], on_unit[at][layer, :, :rows]).numpy(force=True)[:, one.columns]
        if one.below and rows:
            found[rows - 1, 0] = 0  # the MLP does not read itself
        into = slice(left[at] - found.shape[1], left[at])
        left[at] = into.start
        total[at][:rows, into] = found
    return total


def _on_unit(part: Patching, run: PositionTrace, at: int, written: Float[Tensor, "P U d"]) -> Float[Tensor, "L P U"]:
    """Products over d of what is written at a position with the normalised residual before each layer."""
    units = [_unit(pre[:, at], part.model.config.layer_norm_eps)[0] for pre in run.pre[:-1]]
    return torch.einsum("pud,lpd->lpu", written, torch.stack(units))


def _unit(x: Float[Tensor, "... d"], eps: float) -> tuple[Float[Tensor, "... d"], Float[Tensor, "... 1"]]:
    """A residual as a LayerNorm has it before its gain, and 1 / sigma."""
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt()
    return (x - mean) * scale, scale


def _gradients(part: Patching, run: PositionTrace) -> Iterator[_Inputs]:
    """Yield the gradients at all inputs, from the logits back to the first layer; the next are written over them."""
    layers, last = part.model.config.n_layers, len(part.layout.positions) - 1
    into_residual = torch.zeros_like(run.pre[0])
    into_residual[:, -1] = at_logits = _at_the_logits(part, run.final)
    at_mlp = _at_mlp(part, layers - 1, run, into_residual)
    for at in range(last + 1):
        gradient = torch.stack([*([at_logits] if at == last else []), at_mlp[:, at]])
        one = torch.ones_like(gradient[..., 0])
        yield _Inputs(at, 2 * layers, gradient, one, torch.zeros_like(one), [1, 0] if at == last else [0])
    most = part.model.config.n_heads * (1 + 2 * (last + 1)) + 1
    space = into_residual.new_empty(most, *into_residual[:, 0].shape)
    for layer in reversed(range(layers)):
        into_residual = into_residual + at_mlp
        heads = _Heads(part, layer, run, into_residual)
        into_residual = into_residual + heads.before()
        if layer:
            at_mlp = _at_mlp(part, layer - 1, run, into_residual)
        for at in reversed(range(last + 1)):
            yield heads.read(at, space, at_mlp[:, at] if layer else None)


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

    The gradient at a head's key of a position, for a reader, is the reader's query times a number for each prompt
    (`at_scores`); at the value it is the gradient at the reader's z times the attention. So they are multiplied with
    the weights once a reader, not once for each position that it looks at.
    """

    def __init__(self, part: Patching, layer: int, run: PositionTrace, into_residual: Float[Tensor, "P R d"]) -> None:
        model, block, H = part.model, part.model.blocks[layer], part.model.config.n_heads
        first = run.keys[layer].shape[1] - run.n_positions
        queries, keys, values = run.queries[layer], run.keys[layer], run.values[layer]
        pattern = attention_pattern(model, layer, queries.transpose(1, 2), keys.transpose(1, 2))
        at_z = (into_residual @ block.W_O.T).unflatten(-1, (H, -1))
        at_pattern = torch.einsum("prhe,pthe->phrt", at_z, values)
        at_scores = pattern * (at_pattern - (pattern * at_pattern).sum(-1, keepdim=True))
        at_scores = at_scores * attention_scale(model, layer)
        at_queries = torch.einsum("phrt,pthe->prhe", at_scores, keys)
        self.at_scores, self.pattern = at_scores[..., first:], pattern[..., first:]
        self.into = torch.stack([at_queries, self._sums(self.at_scores, queries), self._sums(self.pattern, at_z)], 2)
        self.multiplied = torch.stack([queries, at_z, at_queries]).permute(2, 0, 3, 1, 4)
        self.order, self.qkv, self.ln = 2 * layer, block.qkv, block.ln_1
        scaled = (block.qkv * block.ln_1.gain[:, None]).T.unflatten(0, (3, H, -1))
        self.weights = scaled.roll(-1, 0).flatten(0, 1)
        self.unit, self.scale = _unit(run.pre[layer], model.config.layer_norm_eps)
        own = torch.stack([keys[:, first:], values[:, first:], queries])
        constant = (block.ln_1.bias @ block.qkv + block.b_qkv).unflatten(-1, (3, 1, 1, H, -1)).roll(-1, 0)
        self.unit_read = (own - constant) / self.unit.shape[-1]

    @staticmethod
    def _sums(of_readers: Float[Tensor, "P H R T"], x: Float[Tensor, "P R H e"]) -> Float[Tensor, "P T H e"]:
        return torch.einsum("phrt,prhe->pthe", of_readers, x)

    def before(self) -> Float[Tensor, "P R d"]:
        """The gradient at the residual before the layer, through all of its heads together."""
        normed = self.into.flatten(2) @ self.qkv.T * self.ln.gain
        along = (normed * self.unit).mean(-1, keepdim=True)
        return (normed - normed.mean(-1, keepdim=True) - self.unit * along) * self.scale

    def read(self, at: int, space: Float[Tensor, "K P d"], at_mlp: Float[Tensor, "P d"] | None) -> _Inputs:
        """The inputs at a position, those of later readers first in `space`, as the call for the next position left
        them: keys and values of each reader, and last the queries.
        """
        R, _, H, _, _ = self.multiplied.shape
        n = R - at
        torch.bmm(self.multiplied[at].flatten(0, 1), self.weights, out=space[2 * H * (n - 1) : 2 * H * n + H])
        of_readers = torch.stack([self.at_scores[..., at:, at], self.pattern[..., at:, at]])
        weight = of_readers.flip(-1).permute(3, 0, 2, 1).flatten(0, 2)
        weight = torch.cat([weight, torch.ones_like(weight[:H])]) * self.scale[:, at, 0]
        k_and_v = torch.einsum("rshpe,sphe->rshp", self.multiplied[at:, :2], self.unit_read[:2, :, at])
        q = torch.einsum("hpe,phe->hp", self.multiplied[at, 2], self.unit_read[2, :, at])
        along = torch.cat([k_and_v.flip(0).flatten(0, 2), q]) * weight
        by_reader = np.arange(2 * H * n).reshape(n, 2, H)[::-1]
        columns = [*range(2 * H * n, 2 * H * n + H), *by_reader.swapaxes(0, 1).flatten().tolist()]
        if at_mlp is not None:
            space[len(columns)] = at_mlp
            weight = torch.cat([weight, torch.ones_like(weight[:1])])
            along = torch.cat([along, torch.zeros_like(along[:1])])
            columns = [len(columns), *columns]
        return _Inputs(at, self.order, space[: len(columns)], weight, along, columns)
