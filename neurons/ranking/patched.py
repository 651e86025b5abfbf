"""END of one prompt's run with sets of neurons at another run's activations, and the whole answer read.

1. `Runs`: prompts of some nouns and centuries, traced once; what a prompt runs with comes from another trace.
2. `answers`: log probabilities of all tokens with each set held, some sets at a time.
3. `scores`, `divergence`, `total_variation`: what is read from them, for any start year.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurons.attribution.end import rows_of
from neurons.intervention.context import AblationContext
from neurons.intervention.readers import measure_weights
from neurons.model.at_end import after_ablation
from neurons.model.forward import EndTrace, trace
from neurons.model.model import Model, normalise
from neurons.types import Measure

NUMBERS = 1 << 24
"""Log probabilities in memory at once: 64 MB in float32."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Traced prompts, by rows of the cache or of its 01-counterfactuals."""

    rows: Int[np.ndarray, " U"]
    kept: EndTrace

    def of(self, rows: Int[np.ndarray, " P"]) -> EndTrace:
        """The trace of these prompts, in this order."""
        at = torch.as_tensor(np.searchsorted(self.rows, rows), device=self.kept.embedding.device)
        return rows_of(self.kept, at)


@torch.no_grad()
def runs(ctx: AblationContext, rows: Int[np.ndarray, " n"], *, corrupted: bool = False) -> Runs:
    """Prompts by their rows of the cache, each traced once; corrupted: their 01-counterfactuals."""
    once = np.unique(rows)
    tokens = ctx.counterfactual_tokens if corrupted else ctx.tokens
    return Runs(once, trace(ctx.model, tokens[once], shared=ctx.shared))


def post_of(ctx: AblationContext, kept: EndTrace) -> dict[int, Float[Tensor, "P N"]]:
    """Layer -> the activations of a trace, of the cached layers."""
    return {layer: kept.post[layer] for layer in ctx.cache.layers}


@torch.no_grad()
def answers(
    ctx: AblationContext, run: EndTrace, sets: Bool[np.ndarray, "G M"], values: Mapping[int, Float[Tensor, "P N"]]
) -> Iterator[tuple[slice, Float[Tensor, "n P V"]]]:
    """Log probabilities of all tokens when each set is held at `values` and all else of the run responds."""
    held = torch.as_tensor(sets, device=ctx.model.device).split(ctx.cache.d_mlp, -1)
    masks = dict(zip(ctx.cache.layers, held, strict=True))
    size = max(1, NUMBERS // (len(run.embedding) * ctx.model.W_U.shape[0]))
    for start in range(0, len(sets), size):
        part = slice(start, min(start + size, len(sets)))
        residual = after_ablation(ctx.model, run, {layer: mask[part] for layer, mask in masks.items()}, values)
        yield part, log_answer(ctx.model, residual)


@torch.no_grad()
def log_answer(model: Model, residual: Float[Tensor, "... d"]) -> Float[Tensor, "... V"]:
    """Log probabilities of all tokens from a final residual."""
    return (normalise(residual, model.ln_final, model.config.layer_norm_eps) @ model.W_U.T).log_softmax(-1)


def scores(
    log_p: Float[Tensor, "n P V"],
    measures: Sequence[Measure],
    start_year: Int[np.ndarray, " P"],
    year_ids: Int[np.ndarray, "100"],
) -> Float[np.ndarray, "K n P"]:
    """Each measure of the year probabilities, scored for these start years."""
    weights = torch.as_tensor(np.stack([measure_weights(m, start_year) for m in measures])).to(log_p)
    ids = torch.as_tensor(year_ids, dtype=torch.long, device=log_p.device)
    found: np.ndarray = torch.einsum("npy,kpy->knp", log_p[..., ids].exp(), weights).numpy(force=True)
    return found


def divergence(reference: Float[Tensor, "P V"], log_p: Float[Tensor, "n P V"]) -> Float[np.ndarray, "n P"]:
    """KL from the reference to each answer, in nats; what rounding leaves below 0 is 0."""
    found: np.ndarray = (reference.exp() * (reference - log_p)).sum(-1).clamp(min=0).numpy(force=True)
    return found


def total_variation(reference: Float[Tensor, "P V"], log_p: Float[Tensor, "n P V"]) -> Float[np.ndarray, "n P"]:
    """Half the summed distance of probabilities, 0..1."""
    found: np.ndarray = ((reference.exp() - log_p.exp()).abs().sum(-1) / 2).numpy(force=True)
    return found
