"""What is read at END after something there was changed: n variants of P prompts at once, exactly.

1. A single neuron's change is rank one: `amount * w_out` added to the residual after its layer
   (`after_write`); a set of neurons held at other values is followed layer by layer (`after_ablation`), at the cost
   of the neurons that are not held.
2. Whole layers held at activations that many prompts share are followed by what they write (`after_writing`).
3. Later layers run again at END alone (`resume`).
4. Where nothing but the final LayerNorm follows, x + amount * write is read without a matrix product
   for each variant: its logits are (A + amount * B) / sigma, with A of the prompt and B of the write.

Nothing here is an approximation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurons.model.device import in_double
from neurons.model.forward import EndTrace, attention_at_end
from neurons.model.model import Model, activate, mlp, normalise, post_activation

TILE = 1 << 19
"""Logits held at once where only their sum is wanted: 2 MB in float32, so that they stay in the processor's cache."""
GATHERED = 16
"""Prompts whose product with a neuron's weights takes as long as picking these out."""


def after_write(
    model: Model, kept: EndTrace, *, layer: int, write: Float[Tensor, "n d"], amount: Float[Tensor, "n P"]
) -> Float[Tensor, "n P d"]:
    """The final residual when `amount * write` is added to what the layer's MLP writes at END."""
    return resume(model, kept, kept.after[layer] + amount[..., None] * write[:, None], after=layer)


def resume(model: Model, kept: EndTrace, residual: Float[Tensor, "n P d"], *, after: int) -> Float[Tensor, "n P d"]:
    """The final residual at END when the residual after layer `after` was changed to `residual`.

    n variants of the same P prompts at once. Earlier positions stay exactly as they were: they cannot see END.
    """
    x = residual
    for layer in range(after + 1, model.config.n_layers):
        x = mlp(model, layer, x + attention_at_end(model, layer, x, kept))
    return x


def after_ablation(
    model: Model, kept: EndTrace, ablated: Mapping[int, Bool[Tensor, "n N"]], values: Mapping[int, Float[Tensor, "P N"]]
) -> Float[Tensor, "n P d"]:
    """The final residual when sets of neurons are held at other values together.

    ablated: layer -> which neurons, for each variant. values: layer -> what they are held at. The first of these
    layers reads what it read; all else after it is computed again.
    """
    first = min(ablated)
    x = kept.mid[first].expand(len(ablated[first]), -1, -1)
    for layer in range(first, model.config.n_layers):
        if layer > first:
            x = x + attention_at_end(model, layer, x, kept)
        clean = kept.post[layer] if layer == first else None
        x = _mlp_with_held(model, layer, x, ablated[layer], values[layer], clean) if layer in ablated else mlp(
            model, layer, x)  # fmt: skip
    return x


def _mlp_with_held(
    model: Model,
    layer: int,
    mid: Float[Tensor, "n P d"],
    held: Bool[Tensor, "n N"],
    values: Float[Tensor, "P N"],
    clean: Float[Tensor, "P N"] | None,
) -> Float[Tensor, "n P d"]:
    """The residual after an MLP, some of its neurons held at `values`. clean: activations of the others where they are
    those of the clean run, else these are computed from `mid`.

    Where most are held, only the weights of the others are multiplied.
    """
    block = model.blocks[layer]
    if (~held).float().mean() * (1 + GATHERED / len(values)) > 1:
        post = post_activation(model, layer, mid) if clean is None else clean
        return mid + (torch.where(held[:, None], values, post) @ block.W_out + block.b_out)
    after = mid + (values @ block.W_out + block.b_out)
    normed = normalise(mid, block.ln_2, model.config.layer_norm_eps)
    for variant, others in enumerate(~held):
        at = others.nonzero()[:, 0]
        if clean is None:
            post = activate(model, torch.addmm(block.b_in[at], normed[variant], block.W_in.index_select(1, at)))
        else:
            post = clean.index_select(1, at)
        after[variant].addmm_(post - values.index_select(1, at), block.W_out.index_select(0, at))
    return after


def after_writing(
    model: Model, kept: EndTrace, written: Mapping[int, Float[Tensor, "n P d"]]
) -> Float[Tensor, "n P d"]:
    """The final residual when the MLPs of some layers write this, output bias included. All else after the first of
    these layers is computed again.
    """
    first = min(written)
    x = kept.mid[first].expand(len(written[first]), -1, -1)
    for layer in range(first, model.config.n_layers):
        if layer > first:
            x = x + attention_at_end(model, layer, x, kept)
        x = x + written[layer] if layer in written else mlp(model, layer, x)
    return x


@dataclass(frozen=True, eq=False)
class FinalResidual:
    """The final residual of P prompts, ready for rank-one changes: `residual + amount * write`."""

    model: Model
    residual: Float[Tensor, "P d"]

    def scale_with(self, write: Float[Tensor, "n d"], amount: Float[Tensor, "n P"]) -> Float[Tensor, "n P"]:
        """sqrt(var + eps) of the changed residual, from variances and covariances taken in float64."""
        x, w, change = (in_double(part) for part in (self.residual, write, amount))
        x, w, d = _centred(x), _centred(w), x.shape[-1]
        variance = (x * x).mean(-1) + 2 / d * change * (w @ x.T) + change**2 * (w * w).mean(-1, keepdim=True)
        return (variance + self.model.config.layer_norm_eps).sqrt().to(self.residual)

    def logits_with(
        self, write: Float[Tensor, "n d"], amount: Float[Tensor, "n P"], token_ids: Int[Tensor, " Y"]
    ) -> Float[Tensor, "n P Y"]:
        """Logits of some tokens from the changed residual."""
        W_U = self.model.W_U[token_ids]
        inverse = 1 / self.scale_with(write, amount)
        bias = W_U @ self.model.ln_final.bias
        return _combine(inverse, amount, self._read(self.residual, W_U), self._read(write, W_U), bias)

    def logsumexp_with(self, write: Float[Tensor, "n d"], amount: Float[Tensor, "n P"]) -> Float[Tensor, "n P"]:
        """Over the full vocabulary, a tile of it at a time."""
        inverse = 1 / self.scale_with(write, amount)
        whole = (self._vocabulary, self._read(write, self.model.W_U), self._vocabulary_bias)
        step = max(64, TILE // amount.numel())
        tiles = [
            torch.logsumexp(_combine(inverse, amount, *parts), -1)
            for parts in zip(*(logits.split(step, -1) for logits in whole), strict=True)
        ]
        return torch.logsumexp(torch.stack(tiles), 0)

    @cached_property
    def _vocabulary(self) -> Float[Tensor, "P V"]:
        return self._read(self.residual, self.model.W_U)

    @cached_property
    def _vocabulary_bias(self) -> Float[Tensor, " V"]:
        return self.model.W_U @ self.model.ln_final.bias

    def _read(self, x: Float[Tensor, "m d"], W_U: Float[Tensor, "Y d"]) -> Float[Tensor, "m Y"]:
        """Logits times sigma, without the LayerNorm's bias."""
        return (_centred(x) * self.model.ln_final.gain) @ W_U.T


def frozen_logits(
    model: Model, residual: Float[Tensor, "n P d"], scale: Float[Tensor, " P"], token_ids: Int[Tensor, " Y"]
) -> Float[Tensor, "n P Y"]:
    """Logits of some tokens from a changed residual, with the final LayerNorm's scale kept as it was."""
    normed = _centred(residual) / scale[:, None] * model.ln_final.gain + model.ln_final.bias
    return normed @ model.W_U[token_ids].T


def _combine(
    inverse: Float[Tensor, "n P"],
    amount: Float[Tensor, "n P"],
    base: Float[Tensor, "P Y"],
    written: Float[Tensor, "n Y"],
    bias: Float[Tensor, " Y"],
) -> Float[Tensor, "n P Y"]:
    """(base + amount * written) / sigma + bias."""
    changed = inverse[..., None] * base
    return changed.addcmul_((amount * inverse)[..., None], written[:, None]).add_(bias)


def _centred(x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    return x - x.mean(-1, keepdim=True)
