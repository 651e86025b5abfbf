"""Edge attribution patching with integrated gradients (EAP-IG on inputs; Hanna, Pezzelle and Belinkov 2024).

1. The effect of an edge is what its sender writes in the corrupted run less what it writes in the clean run, times the
   gradient of the probability difference with respect to the input that the edge reads, summed over dimensions.
2. The gradient is its mean over `steps` runs between the corrupted and the clean embedding (k / steps of the way, from
   k = 0); with one step it is the clean run's, which is attribution patching of edges (Syed et al. 2023).
3. A backward pass by hand visits the layers from the last to the first and holds, for each input that can be read at a
   position, the gradient there: of every head its query, and of each position that it looks at from another its key and
   its value. One matrix product for each position and layer gives the effects of all edges into these inputs.

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
from neurons.model.model import LayerNorm
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
            alpha = step / steps if steps > 1 else 1.0
            run = trace_between(part.model, part.base, part.other, alpha)
            _add_effects(total, part, run, writes)
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


def _writes(part: Patching) -> list[Float[Tensor, "_U P d"]]:
    """What each sender of a position writes in the corrupted run less what it writes in the clean run."""
    layout = part.layout
    return [
        torch.stack([part.change(node) for node in layout.senders(2 * layout.n_layers, position)])
        for position in layout.positions
    ]


@dataclass(frozen=True, eq=False)
class _Read:
    """Gradients [K, P, d] at the K inputs of one layer's heads, or of its MLP, that read at a position.

    order: of the component; the inputs are `layout.readers` of that component or layer.
    """

    position: int
    order: int
    gradient: Float[Tensor, "K P d"]


def _add_effects(total: list[np.ndarray], part: Patching, run: PositionTrace, writes: list[Tensor]) -> None:
    """Add each edge's effect of one run: one matrix product for each position and component."""
    layout = part.layout
    columns = [len(layout.readers(position)) for position in layout.positions]
    below = [[node.order for node in layout.senders(2 * layout.n_layers, position)] for position in layout.positions]
    for read in _gradients(part, run):
        rows = sum(order < read.order for order in below[read.position])
        into = slice(columns[read.position] - len(read.gradient), columns[read.position])
        columns[read.position] = into.start
        found = writes[read.position][:rows].flatten(1) @ read.gradient.flatten(1).T
        total[read.position][:rows, into] += found.numpy(force=True)


def _gradients(part: Patching, run: PositionTrace) -> Iterator[_Read]:
    """Yield the gradients at all inputs, from the logits back to the first layer."""
    layers, positions = part.model.config.n_layers, part.layout.positions
    into_residual = torch.zeros_like(run.pre[0])
    into_residual[:, -1] = _at_the_logits(part, run.final)
    yield _Read(len(positions) - 1, 2 * layers, into_residual[None, :, -1])
    for layer in reversed(range(layers)):
        at_mlp = _at_mlp(part, layer, run, into_residual)
        for at in range(len(positions)):
            yield _Read(at, 2 * layer + 1, at_mlp[None, :, at])
        into_residual = into_residual + at_mlp
        before = []
        for at, gradient in enumerate(_at_heads(part, layer, run, into_residual)):
            yield _Read(at, 2 * layer, gradient)
            before.append(gradient.sum(0))
        into_residual = into_residual + torch.stack(before, 1)


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
        written = post_activation(part.model, layer, mid) @ part.model.blocks[layer].W_out
        return torch.autograd.grad(written, mid, into_residual)[0]


def _at_heads(
    part: Patching, layer: int, run: PositionTrace, into_residual: Float[Tensor, "P R d"]
) -> Iterator[Float[Tensor, "_K P d"]]:
    """Yield, for each position from YY on, the gradients at what the layer's heads read there, through each alone."""
    model, block = part.model, part.model.blocks[layer]
    heads, first = model.config.n_heads, run.keys[layer].shape[1] - run.n_positions
    queries, keys, values = run.queries[layer], run.keys[layer], run.values[layer]
    pattern = attention_pattern(model, layer, queries, keys)
    at_z = (into_residual @ block.W_O.T).unflatten(-1, (heads, -1))
    at_pattern = torch.einsum("prhe,pthe->phrt", at_z, values)
    at_scores = pattern * (at_pattern - (pattern * at_pattern).sum(-1, keepdim=True)) * attention_scale(model, layer)
    at_queries = torch.einsum("phrt,pthe->rhpe", at_scores, keys)
    W_Q, W_K, W_V = (W.unflatten(-1, (heads, -1)).permute(1, 2, 0) for W in block.qkv.split(model.config.d_model, -1))
    for at in range(run.n_positions):
        at_keys = torch.einsum("phr,prhe->rhpe", at_scores[..., at:, first + at], queries[:, at:])
        at_values = torch.einsum("phr,prhe->rhpe", pattern[..., at:, first + at], at_z[:, at:])
        read = [at_queries[at, None] @ W_Q, at_keys @ W_K, at_values @ W_V]
        normed = torch.cat([one.flatten(0, 1) for one in read])
        yield _through_norm(run.pre[layer][:, at], block.ln_1, model.config.layer_norm_eps, normed)


def _through_norm(
    x: Float[Tensor, "P d"], ln: LayerNorm, eps: float, gradient: Float[Tensor, "K P d"]
) -> Float[Tensor, "K P d"]:
    """The gradient with respect to a LayerNorm's input `x`, from that with respect to its output."""
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    scale = (variance + eps).rsqrt()
    unit = (x - mean) * scale
    gradient = gradient * ln.gain
    along = (gradient * unit).mean(-1, keepdim=True)
    return (gradient - gradient.mean(-1, keepdim=True) - unit * along) * scale
