"""Shares of neurons in an answer: Aumann-Shapley values between a random other year and the prompt's own.

1. At END every neuron n of the chosen layers is h_n = a'_n + m_n (post_n - a'_n): post is computed again from the
   residual as it then is, a' is the activation on a prompt of the same noun and century with another start year.
2. With all masks m = alpha, the share of n is the integral over alpha from 0 to 1 of dF/dm_n, which is dF/dh_n
   (post_n - a'_n); the gradient runs through later neurons, which respond by alpha times theirs. Shares add up to
   F(1) - F(0), clean minus floor (Aumann and Shapley 1974; Sundararajan et al. 2017).
3. The written share is the same with all neurons held at a' + alpha (a - a'): later neurons cannot respond.
4. The integral is taken at Gauss-Legendre nodes, as many as it takes: what a sum of shares misses of clean minus
   floor is its error.

dF/dh of the written share is W_out times the gradient at the residual, so its product stands outside the integral.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from hashlib import sha256
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.attribution.end import Block, block_of, held_between, measured_rows, toward_clean
from neurons.attribution.results import Attribution
from neurons.cache.parts import Parts, parts_beside
from neurons.intervention.context import AblationContext
from neurons.intervention.draws import DRAWS, MOST_DRAWS, random_years
from neurons.intervention.groups import MEASURES
from neurons.model.device import on_threads
from neurons.model.model import normalise
from neurons.types import InputError, Measure, Progress, check_choice, check_is, check_progress, check_whole, elements

ATTRIBUTED: tuple[Measure, ...] = ("probability_difference", "cutoff_sharpness")
"""Measures attributed if none is named. Another costs one more pass backwards through both paths."""
STEPS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of nodes tried, one after the other."""
MOST_STEPS = 256
TOLERANCE = 0.005
"""Largest error of a sum of shares, as a part of what the measure moves between floor and clean."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """Where an integral from 0 to 1 is taken, and with what weights."""

    at: Float[Tensor, " n"]
    weight: Float[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Shares:
    """K measures at P prompts, M neurons layer by layer, averaged over draws. share, written [K, P, M];
    clean, floor [K, P].
    """

    share: Float[Tensor, "K P M"]
    written: Float[Tensor, "K P M"]
    clean: Float[Tensor, "K P"]
    floor: Float[Tensor, "K P"]

    @property
    def missing(self) -> Float[Tensor, "2 K P"]:
        """What the sums of share and written share miss of clean minus floor."""
        return torch.stack([self.share.sum(-1), self.written.sum(-1)]) - (self.clean - self.floor)

    @property
    def adds_up(self) -> bool:
        """Whether the sums miss no more than `TOLERANCE` of what each measure moves, on average over the prompts."""
        moved = (self.clean - self.floor).abs().mean(-1)
        return bool((self.missing.mean(-1).abs() <= TOLERANCE * moved).all())


def attribute(
    ctx: AblationContext,
    *,
    measures: Sequence[Measure] = ATTRIBUTED,
    draws: int = DRAWS,
    seed: int = 0,
    steps: int | None = None,
    keep: bool = False,
    progress: Progress | None = None,
) -> dict[Measure, Attribution]:
    """Share and written share of every neuron of the cached layers, in units of each measure.

    draws: other prompts drawn for each prompt. steps: nodes of the integral; default as many as keep the error of
    the sum (`Attribution.sum_error`) under 0.5 %, at most 64. keep: finished blocks lie beside the cache until all
    are done, so that a run that was interrupted goes on. progress: prompts done.

    Raises `InputError` for fewer than one draw or step, or where all prompts have one start year.
    """
    check_ctx(ctx, measures, progress)
    check_whole("draws", draws, least=1, most=MOST_DRAWS)
    check_whole("seed", seed, least=0)
    if steps is not None:
        check_whole("steps", steps, least=1, most=MOST_STEPS)
    ladder = (steps,) if steps else STEPS
    taken = random_years(ctx.cache, draws=draws, seed=seed)
    parts = parts_of_shares(ctx, measures, draws, seed) if keep else None
    for tried in ladder:
        of_rows = partial(kept_shares, ctx, measures, taken, gauss(tried, ctx), parts)
        totals = _totals(ctx, measures, of_rows, is_last=tried == ladder[-1], progress=progress)
        if totals is None:
            continue
        found = totals.results(ctx, draws=draws, seed=seed, steps=tried)
        if max(one.sum_error for one in found.values()) <= TOLERANCE:
            break
    if parts:
        parts.remove()
    return found


def _totals(
    ctx: AblationContext,
    measures: Sequence[Measure],
    of_rows: Callable[[Int[np.ndarray, " P"]], Iterator[tuple[Int[np.ndarray, " P"], Shares]]],
    *,
    is_last: bool,
    progress: Progress | None,
) -> "Totals | None":
    """The sums over all prompts; None where the first block's error is too large and more nodes are left to try."""
    totals = Totals.empty(ctx, measures)
    first, *others = measured_rows(ctx)
    (tried,) = of_rows(first)
    if not (is_last or tried[1].adds_up):
        return None
    for rows, shares in chain([tried], on_threads(ctx.model, of_rows, others)):
        totals.add(ctx, rows, shares)
        if progress:
            progress(int(totals.count.sum()), len(ctx))
    return totals


def parts_of_shares(ctx: AblationContext, measures: Sequence[Measure], draws: int, seed: int) -> Parts:
    """Where finished blocks lie."""
    settings = {"measures": list(measures), "draws": draws, "seed": seed, "years": list(ctx.start_years),
                "rows": sha256(ctx.rows.tobytes()).hexdigest(), "dtype": str(ctx.model.W_E.dtype)}  # fmt: skip
    return parts_beside(ctx.cache, "shares", settings)


def kept_shares(
    ctx: AblationContext,
    measures: Sequence[Measure],
    taken: Int[np.ndarray, "R all"],
    nodes: Nodes,
    parts: Parts | None,
    rows: Int[np.ndarray, " P"],
) -> Iterator[tuple[Int[np.ndarray, " P"], Shares]]:
    """The shares of a block of prompts, as kept or computed. taken: the rows drawn for each prompt of the cache."""
    name = f"{len(nodes.at)}-nodes-{rows[0]}"
    if parts and (kept := parts.get(name)):
        yield rows, Shares(*(torch.as_tensor(kept[field.name], device=ctx.model.device) for field in fields(Shares)))
        return
    found = shares_of_block(ctx, block_of(ctx, measures, rows, taken[:, rows]), nodes)
    if parts:
        parts.put(name, {field: values.numpy(force=True) for field, values in vars(found).items()})
    yield rows, found


def check_ctx(ctx: AblationContext, measures: Sequence[Measure], progress: Progress | None) -> None:
    """Raise `InputError` for what is no context, a measure that is none, or none at all."""
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_progress(progress)
    named = elements("measures", measures, f"some of {', '.join(MEASURES)}")
    if not named or len(set(map(str, named))) < len(named):
        raise InputError(f"measures must be one or more of {', '.join(MEASURES)}, each once")
    for measure in named:
        check_choice("measure", measure, Measure)


def gauss(steps: int, ctx: AblationContext) -> Nodes:
    """Gauss-Legendre nodes on [0, 1]."""
    x, weight = np.polynomial.legendre.leggauss(steps)
    return Nodes(*(torch.as_tensor(values).to(ctx.model.W_E) for values in ((x + 1) / 2, weight / 2)))


def shares_of_block(ctx: AblationContext, block: Block, nodes: Nodes) -> Shares:
    """Both shares of every neuron for the prompts of a block."""
    norm = block.answer.model.ln_final, ctx.model.config.layer_norm_eps
    with torch.no_grad():
        clean = block.answer.values(normalise(block.kept.after[-1], *norm)[None])[:, 0]
        zero = torch.zeros(1).to(ctx.model.W_E)
        floors = [block.answer.values(held_between(ctx, block, other, zero).normed)[:, 0] for other in block.drawn]
    share, written = torch.zeros(2, len(clean), len(block.rows), len(ctx.cache.layers) * ctx.cache.d_mlp).to(clean)
    for other in block.drawn:
        _add_share(ctx, block, other, nodes, share)
        _add_written(ctx, block, other, nodes, written)
    draws = len(block.drawn)
    return Shares(share.div_(draws), written.div_(draws), clean, torch.stack(floors).mean(0))


def _add_share(
    ctx: AblationContext, block: Block, other: Mapping[int, Tensor], nodes: Nodes, share: Float[Tensor, "K P M"]
) -> None:
    with torch.enable_grad():
        path = toward_clean(ctx, block, other, nodes.at)
    found = gradients_of(block, path.normed, list(path.at.values()), nodes.weight)
    for gradients, of_measure in zip(found, share, strict=True):
        totals = of_measure.split(ctx.cache.d_mlp, -1)
        for gradient, away, total in zip(gradients, path.away.values(), totals, strict=True):
            for one, distance in zip(gradient, away, strict=True):
                total.addcmul_(one, distance)


def _add_written(
    ctx: AblationContext, block: Block, other: Mapping[int, Tensor], nodes: Nodes, written: Float[Tensor, "K P M"]
) -> None:
    with torch.enable_grad():
        path = held_between(ctx, block, other, nodes.at)
    found = gradients_of(block, path.normed, list(path.at.values()), nodes.weight)
    for gradients, of_measure in zip(found, written, strict=True):
        totals = of_measure.split(ctx.cache.d_mlp, -1)
        for layer, gradient, total in zip(path.at, gradients, totals, strict=True):
            at_neurons = gradient.sum(0) @ ctx.model.blocks[layer].W_out.T
            total.addcmul_(at_neurons, block.kept.post[layer] - other[layer])


def gradients_of(
    block: Block, normed: Float[Tensor, "n P d"], at: list[Tensor], weight: Float[Tensor, " n"]
) -> Iterator[tuple[Tensor, ...]]:
    """For each measure, its gradient with respect to each of `at`, that of each point times its weight."""
    with torch.no_grad():
        _, outer = block.answer.with_gradient(normed)
        outer *= weight[:, None, None]
    for k, gradient in enumerate(outer):
        with torch.enable_grad():  # of a number: torch checks the shape of a gradient given to it by a slow import
            along = (normed * gradient).sum()
        yield torch.autograd.grad(along, at, retain_graph=k + 1 < len(outer))


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over the prompts of each century and start year: C x Y cells. share, written [K, C, Y, M];
    clean, floor [K, C, Y]; count [C, Y]."""

    measures: tuple[Measure, ...]
    centuries: tuple[int, ...]
    share: Float[Tensor, "K C Y M"]
    written: Float[Tensor, "K C Y M"]
    clean: Float[Tensor, "K C Y"]
    floor: Float[Tensor, "K C Y"]
    count: Float[Tensor, "C Y"]

    @classmethod
    def empty(cls, ctx: AblationContext, measures: Sequence[Measure]) -> "Totals":
        centuries = tuple(np.unique(ctx.cache.century[ctx.rows]).tolist())
        cells = len(measures), len(centuries), len(ctx.start_years)
        M = len(ctx.cache.layers) * ctx.cache.d_mlp

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=ctx.model.W_E.dtype)

        return cls(tuple(measures), centuries, zeros(*cells, M), zeros(*cells, M), zeros(*cells), zeros(*cells),
                   zeros(*cells[1:]))  # fmt: skip

    def add(self, ctx: AblationContext, rows: Int[np.ndarray, " P"], found: Shares) -> None:
        c = np.searchsorted(self.centuries, ctx.cache.century[rows])
        y = np.searchsorted(ctx.start_years, ctx.cache.start_year[rows])
        cell = torch.as_tensor(c * len(ctx.start_years) + y)
        for name in ("share", "written", "clean", "floor"):
            getattr(self, name).flatten(1, 2).index_add_(1, cell, getattr(found, name).cpu())
        self.count.flatten().index_add_(0, cell, torch.ones(len(cell), dtype=self.count.dtype))

    def results(self, ctx: AblationContext, *, draws: int, seed: int, steps: int) -> dict[Measure, Attribution]:
        """The means of the cells, a result for each measure."""
        count = self.count.numpy()
        with np.errstate(invalid="ignore"):  # cells without a prompt become NaN
            return {
                measure: Attribution(
                    model=ctx.cache.model,
                    measure=measure,
                    layers=ctx.cache.layers,
                    start_years=ctx.start_years,
                    centuries=self.centuries,
                    n_prompts=count.astype(int),
                    by_century=self.share[k].numpy() / count[..., None],
                    written_by_century=self.written[k].numpy() / count[..., None],
                    clean_by_century=self.clean[k].numpy() / count,
                    floor_by_century=self.floor[k].numpy() / count,
                    draws=draws,
                    seed=seed,
                    steps=steps,
                )
                for k, measure in enumerate(self.measures)
            }
