"""Ablate each MLP and each attention head at END as a whole, on every measure.

A component's output at END is replaced by its output there on a prompt of another start year, on the 01-counterfactual,
by its mean over all prompts of the cache or by nothing, and everything after it is run again: a total effect, ablated
minus clean.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.intervention.context import PER_YEAR, PROMPT_BLOCK, AblationContext
from neurons.intervention.draws import ONE_DRAW
from neurons.intervention.groups import MEASURES, measures_of
from neurons.intervention.results import ComponentEffects
from neurons.model.at_end import resume
from neurons.model.device import on_threads
from neurons.model.forward import EndTrace, trace
from neurons.model.model import mlp
from neurons.types import Ablation, Measure, Progress, check_choice


@dataclass(frozen=True, eq=False)
class _Written:
    """What every component gives at END: heads [P, H, d_head] before W_O, mlp [P, d]; by layer."""

    heads: tuple[Tensor, ...]
    mlp: tuple[Tensor, ...]


@torch.inference_mode()
def component_effects(
    ctx: AblationContext,
    *,
    ablation: Ablation = "random-year",
    draws: int = ONE_DRAW,
    progress: Progress | None = None,
) -> ComponentEffects:
    """Ablate each MLP and each head of every layer at END, one at a time; averaged over random-year draws.

    In a large model a sample of the prompts is run.
    """
    config = ctx.model.config
    ctx = ctx.sampled(config.n_layers * (1 + config.n_heads), least=PER_YEAR // 2)
    replaced = _Replaced(ctx, check_choice("ablation", ablation, Ablation), draws)
    names = [
        name
        for layer in range(config.n_layers)
        for name in (f"m{layer}", *(f"a{layer}.h{head}" for head in range(config.n_heads)))
    ]
    effect = {measure: np.zeros(len(names)) for measure in MEASURES}
    blocks = ctx.blocks()
    for done, changes in enumerate(on_threads(ctx.model, partial(_of_block, ctx, replaced), blocks), 1):
        for measure, change in changes.items():
            effect[measure] += change
        if progress:
            progress(done, len(blocks))
    layers = tuple(layer for layer in range(config.n_layers) for _ in range(1 + config.n_heads))
    drawn = draws if ablation == "random-year" else 1
    return ComponentEffects(ctx.cache.model, ablation, drawn, len(ctx), tuple(names), layers, effect)


def _of_block(
    ctx: AblationContext, replaced: "_Replaced", block: slice
) -> Iterator[dict[Measure, Float[np.ndarray, " C"]]]:
    """What the prompts of a block add to the mean effect of each component."""
    kept, held, weight = ctx.trace(block), replaced.at(block), ctx.averaging_of(ctx.rows[block]).mean(0)
    before = measures_of(ctx, kept.after[-1][None], block)
    of_layers: dict[Measure, list[np.ndarray]] = {measure: [] for measure in MEASURES}
    for written in held:
        for residual in _variants(ctx, kept, written):
            for measure, values in measures_of(ctx, residual, block).items():
                change = (values - before[measure]).numpy(force=True).astype(float)
                of_layers[measure].append(change @ weight / len(held))
    yield {measure: np.concatenate(parts).reshape(len(held), -1).sum(0) for measure, parts in of_layers.items()}


@dataclass(frozen=True, eq=False)
class _Replaced:
    """What replaces each component's output under an ablation."""

    ctx: AblationContext
    ablation: Ablation
    draws: int

    def at(self, block: slice) -> list[_Written]:
        """For the prompts of a block: once for each of the random-year draws, else once."""
        ctx = self.ctx
        if self.ablation == "random-year":
            others = ctx.others(block, draws=self.draws)
            ran = np.unique(others)
            written = _written(trace(ctx.model, ctx.tokens[ran], shared=ctx.shared))
            return [_take(written, self._rows(np.searchsorted(ran, rows))) for rows in others]
        if self.ablation == "resample":
            return [_take(self._run_01, self._rows(ctx.cache.counterfactual[ctx.rows[block]]))]
        size = 1 if self.ablation == "mean" else 0
        return [_Written(*(tuple(size * x for x in part) for part in (self._mean.heads, self._mean.mlp)))]

    def _rows(self, rows: Int[np.ndarray, " P"]) -> Int[Tensor, " P"]:
        return torch.as_tensor(rows, dtype=torch.long, device=self.ctx.model.device)

    @cached_property
    def _run_01(self) -> _Written:
        return _written(trace(self.ctx.model, self.ctx.counterfactual_tokens, shared=self.ctx.shared))

    @cached_property
    def _mean(self) -> _Written:
        return _mean_written(self.ctx)


def _variants(ctx: AblationContext, kept: EndTrace, held: _Written) -> Iterator[Float[Tensor, "C P d"]]:
    """For each layer the final residuals with its MLP ablated, then each of its heads."""
    model = ctx.model
    for layer, block in enumerate(model.blocks):
        without_mlp = kept.mid[layer] + held.mlp[layer]
        change = (held.heads[layer] - kept.heads[layer]).transpose(0, 1)
        written = change @ block.W_O.unflatten(0, (model.config.n_heads, model.config.d_head))
        without_head = mlp(model, layer, kept.mid[layer] + written)
        after = torch.cat([without_mlp[None], without_head])
        yield resume(model, kept, after, after=layer)


def _written(kept: EndTrace) -> _Written:
    return _Written(kept.heads, tuple(after - mid for after, mid in zip(kept.after, kept.mid, strict=True)))


def _take(written: _Written, rows: Tensor) -> _Written:
    return _Written(tuple(x[rows] for x in written.heads), tuple(x[rows] for x in written.mlp))


def _mean_written(ctx: AblationContext) -> _Written:
    """Over every prompt of the cache; one row for all prompts."""
    total: _Written | None = None
    for start in range(0, len(ctx.tokens), PROMPT_BLOCK):
        found = _written(trace(ctx.model, ctx.tokens[start : start + PROMPT_BLOCK], shared=ctx.shared))
        sums = _Written(*(tuple(x.sum(0, keepdim=True) for x in part) for part in (found.heads, found.mlp)))
        total = sums if total is None else _add(total, sums)
    assert total is not None
    return _Written(*(tuple(x / len(ctx.tokens) for x in part) for part in (total.heads, total.mlp)))


def _add(a: _Written, b: _Written) -> _Written:
    return _Written(
        tuple(x + y for x, y in zip(a.heads, b.heads, strict=True)),
        tuple(x + y for x, y in zip(a.mlp, b.mlp, strict=True)),
    )
