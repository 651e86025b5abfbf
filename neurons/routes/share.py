"""Routes of a share: what a neuron writes into the answer itself, and what runs through later attention and neurons.

1. On the path of the shares (every neuron at a' + alpha (post - a')) a gradient is taken at each reader by itself: the
   final LayerNorm, and each later layer's attention and MLP. Together they are the gradient at the residual.
2. A neuron's write is all that it adds to what a reader reads, so its share is the sum over readers of
   (post - a') times write times gradient: each route by the first reader. The final LayerNorm's part is
   (v - mean v) / sigma with the scale frozen, and -x (x.v) / (d sigma), x normalised, through the scale.
3. An MLP's part falls to its neurons: write i moves the pre-activation of j by w_i.v_j / sigma less the LayerNorm's
   rank-one term (x.w_i) (x.v_j) / (d sigma). So the matrix of edges is two products of matrices over all prompts and
   nodes at once, and nothing of the size prompts times neurons times neurons is formed.

Averages over prompts are those of the shares: cells of century and start year, `year_means`, the mean over start years.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.attribution.end import Block, block_of, measured_rows
from neurons.attribution.shares import Nodes, check_ctx, gauss
from neurons.intervention.context import AblationContext
from neurons.intervention.draws import DRAWS, random_years
from neurons.intervention.exact import check_neurons
from neurons.model.device import on_threads
from neurons.model.forward import attention_at_end
from neurons.model.model import LayerNorm, activate, normalise
from neurons.routes.averages import Followed, Means
from neurons.routes.results import ROUTES, Split
from neurons.types import Measure, Neurons, Progress, check_whole


def share_routes(
    ctx: AblationContext,
    neurons: Neurons,
    *,
    steps: int,
    measure: Measure = "probability_difference",
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Split:
    """Split the share of each neuron by route; the receivers are the same neurons.

    steps, draws, seed: those of the attribution, whose shares the parts then add up to. progress: prompts done.
    Raises `InputError` for a neuron outside the cache.
    """
    check_ctx(ctx, [measure], progress)
    check_whole("steps", steps, least=1)
    found = Followed.of(ctx, check_neurons(ctx.cache, neurons))
    parts, nodes = Means.of(ctx, (len(found.neurons), len(ROUTES))), gauss(steps, ctx)
    edges, done = np.zeros((len(found.neurons), len(found.neurons))), 0.0
    taken = random_years(ctx.cache, draws=draws, seed=seed)

    def of_rows(rows: Int[np.ndarray, " P"]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        block = block_of(ctx, [measure], rows, taken[:, rows])
        for other in block.drawn:
            read, weight = _read(ctx, block, other, nodes), parts.weight_of(rows) / draws
            yield rows, _parts(ctx, read, found, nodes) / draws, _edges(ctx, read, found, nodes, weight)

    for rows, of_prompts, through in on_threads(ctx.model, of_rows, list(measured_rows(ctx))):
        parts.add(rows, of_prompts)
        edges += through
        done += len(rows) / draws
        if progress:
            progress(round(done), len(ctx))
    mean = parts.interval()
    return Split("share", found.neurons, found.neurons, mean.estimate, mean.low, mean.high, edges, len(ctx))


@dataclass(frozen=True, eq=False)
class Reading:
    """n points of the path, with the gradient at each reader by itself.

    frozen, scale [n, P, d]: at the final residual, with the final LayerNorm's scale frozen, and through that scale.
    attention, mlp: layer -> at the residual that it reads [n, P, d]; pre: layer -> at the pre-activations [n, P, N].
    normed: layer -> what its MLP's LayerNorm gives before gain and bias [n, P, d]; sigma: layer -> its scale [n, P].
    away: layer -> post - a' [n, P, N].
    """

    frozen: Float[Tensor, "n P d"]
    scale: Float[Tensor, "n P d"]
    attention: Mapping[int, Float[Tensor, "n P d"]]
    mlp: Mapping[int, Float[Tensor, "n P d"]]
    pre: Mapping[int, Float[Tensor, "n P N"]]
    normed: Mapping[int, Float[Tensor, "n P d"]]
    sigma: Mapping[int, Float[Tensor, "n P"]]
    away: Mapping[int, Float[Tensor, "n P N"]]


def _read(ctx: AblationContext, block: Block, other: Mapping[int, Float[Tensor, "P N"]], nodes: Nodes) -> Reading:
    """Run END along the path, every reader with a place of its own in the graph, and take the gradients there."""
    model, first, scale = ctx.model, min(other), nodes.at[:, None, None]
    x = block.kept.mid[first].expand(len(nodes.at), -1, -1)
    attention, mlps, pre, away = {}, {}, {}, {}
    with torch.enable_grad():
        for layer in range(first, model.config.n_layers):
            if layer > first:
                attention[layer] = x.clone()
                x = x + attention_at_end(model, layer, attention[layer], block.kept)
            weights = model.blocks[layer]
            mlps[layer] = x.clone()
            normed = normalise(mlps[layer], weights.ln_2, model.config.layer_norm_eps)
            pre[layer] = normed @ weights.W_in + weights.b_in
            post = activate(model, pre[layer])
            if layer in other:
                away[layer] = post.detach() - other[layer]
                post = torch.lerp(other[layer], post, scale)
            x = x + (post @ weights.W_out + weights.b_out)
            if layer == first:
                x = x.detach().requires_grad_()
        read = [*attention.values(), *(held[at] for held in (mlps, pre) for at in attention)]
        final = normalise(x, model.ln_final, model.config.layer_norm_eps)
        with torch.no_grad():
            outer = block.answer.with_gradient(final)[1][0]
        along = (final * outer).sum()
    found = torch.autograd.grad(along, read) if read else ()
    n, later = len(attention), list(attention)
    of_attention, of_mlp, of_pre = (
        dict(zip(later, found[start : start + n], strict=True)) for start in (0, n, 2 * n)
    )  # fmt: skip
    frozen, through_scale = at_final_residual(ctx, x.detach(), outer)
    scaled = {at: scaled_residual(ctx, mlps[at].detach()) for at in later}
    normed_at, sigma_at = ({at: one[place] for at, one in scaled.items()} for place in (0, 1))
    return Reading(frozen, through_scale, of_attention, of_mlp, of_pre, normed_at, sigma_at, away)


def scaled_residual(
    ctx: AblationContext, x: Float[Tensor, "... d"]
) -> tuple[Float[Tensor, "... d"], Float[Tensor, " ..."]]:
    """What a LayerNorm gives before its gain and bias, and its scale."""
    centred = x - x.mean(-1, keepdim=True)
    sigma = (centred.square().mean(-1) + ctx.model.config.layer_norm_eps).sqrt()
    return centred / sigma[..., None], sigma


def at_final_residual(
    ctx: AblationContext, x: Float[Tensor, "... d"], outer: Float[Tensor, "... d"]
) -> tuple[Float[Tensor, "... d"], Float[Tensor, "... d"]]:
    """The gradient at the final residual from that at what the final LayerNorm gives: scale frozen, and through it."""
    normed, sigma = scaled_residual(ctx, x)
    gained = outer * ctx.model.ln_final.gain
    frozen = (gained - gained.mean(-1, keepdim=True)) / sigma[..., None]
    through_scale = -normed * ((normed * gained).mean(-1) / sigma)[..., None]
    return frozen, through_scale


@torch.no_grad()
def _parts(ctx: AblationContext, read: Reading, found: Followed, nodes: Nodes) -> Float[np.ndarray, "P M 4"]:
    """The share of each neuron on each prompt, by route."""
    P = read.frozen.shape[1]
    parts = np.zeros((P, len(found.neurons), len(ROUTES)))
    for layer, rows in found.rows.items():
        write = ctx.model.blocks[layer].W_out[found.indices[layer]].T
        away = read.away[layer][..., found.indices[layer]] * nodes.weight[:, None, None]
        later = [at for at in read.attention if at > layer]
        nothing = torch.zeros_like(read.frozen)
        gradients = (
            read.frozen,
            read.scale,
            sum((read.attention[at] for at in later), nothing),
            sum((read.mlp[at] for at in later), nothing),
        )
        for place, gradient in enumerate(gradients):
            parts[:, rows, place] = (away * (gradient @ write)).sum(0).cpu().numpy()
    return parts


@torch.no_grad()
def _edges(
    ctx: AblationContext, read: Reading, found: Followed, nodes: Nodes, weight: Float[np.ndarray, " P"]
) -> Float[np.ndarray, "M M"]:
    """What of each neuron's share runs through each later one, averaged over these prompts and all nodes."""
    edges = np.zeros((len(found.neurons), len(found.neurons)))
    each = nodes.weight[:, None] * torch.as_tensor(weight).to(nodes.weight)
    for sender, rows in found.rows.items():
        write = ctx.model.blocks[sender].W_out[found.indices[sender]]
        away = read.away[sender][..., found.indices[sender]]
        for receiver, columns in found.rows.items():
            if receiver <= sender:
                continue
            block, indices = ctx.model.blocks[receiver], found.indices[receiver]
            reads = _reading_weights(block.ln_2, block.W_in[:, indices])
            gradient = read.pre[receiver][..., indices] * (each / read.sigma[receiver])[..., None]
            linear = (write @ reads) * torch.einsum("npi,npj->ij", away, gradient)
            normed, d = read.normed[receiver], write.shape[-1]
            ranked = torch.einsum("npi,npj->ij", away * (normed @ write.T), gradient * (normed @ reads)) / d
            edges[np.ix_(rows, columns)] = (linear - ranked).cpu().numpy()
    return edges


def _reading_weights(ln: LayerNorm, W_in: Float[Tensor, "d r"]) -> Float[Tensor, "d r"]:
    """What neurons read of a normalised residual: with the LayerNorm's gain, less what its centring takes out."""
    reads = ln.gain[:, None] * W_in
    return reads - reads.mean(0)
