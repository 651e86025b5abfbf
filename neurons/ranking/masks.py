"""Masks learned by gradient: is the set of the first neurons the only one of its size?

1. Every neuron n of the layers runs at a'_n + m_n (post_n - a'_n), a' of a random other start year; m_n is a
   hard-concrete gate (Louizos et al. 2018), drawn anew for each prompt and step.
2. Adam lowers what the gates leave out of the probability difference, as a part of clean minus floor, plus `PENALTY`
   times the expected share of gates that are open.
3. Neurons are ordered by their gates. They are learned on one half of the centuries (a noun of each), and what the
   first k recover is measured on the other half, as for shares.
4. Three starts, several seeds each: all gates alike; gates in the order of the shares; all alike, with the first k by
   share closed for good.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurons.attribution.answer import Answer
from neurons.attribution.end import Block, block_of, rows_of
from neurons.attribution.results import Attributed
from neurons.intervention.context import AblationContext
from neurons.intervention.draws import DRAWS, noun_centuries, random_years
from neurons.model.forward import attention_at_end
from neurons.model.model import mlp, normalise, post_activation
from neurons.ranking.mask_results import SEEDS, STARTS, STEPS, LearnedMasks, Start
from neurons.ranking.ranking import HELD
from neurons.ranking.sets import ONE_DRAW, RECOVERED, first_of, halves, kept_measures, recovered, set_sizes
from neurons.rounding import descending
from neurons.types import InputError, Progress, check_is, check_whole

BATCH, RATE = 64, 0.1
PENALTY = 5.0
"""On `mini` 1, 3 and 6 need 193, 155 and 150 neurons for 90 %."""
TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Of the hard-concrete gate: a logistic variable, stretched to LOW..HIGH and cut at 0 and 1."""
OPEN, WARM = 2.0, 2.0
"""Where gates start, and how far above and below it by the order of the shares."""
MOST_SEEDS, MOST_OF_A_CENTURY = 100, 100
MAIN = RECOVERED[0]


def learned_masks(
    ctx: AblationContext,
    attributed: Attributed,
    *,
    seeds: int = SEEDS,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> LearnedMasks:
    """Learn masks from every start and seed. progress: steps done.

    Raises `InputError` for fewer than one seed or step, or where no set of neurons recovers 90 %.
    """
    check_is("ctx", ctx, AblationContext, "what ablation_context returns")
    check_whole("seeds", seeds, least=1, most=MOST_SEEDS)
    check_whole("steps", steps, least=1)
    share = attributed.share(MAIN)
    k = attributed.recovery(MAIN).fewest(HELD)
    if not k:
        raise InputError("no set of neurons recovers 90 % of the probability difference: it does not move")
    chosen_on, measured = halves(ctx, share.centuries)[0]
    own = share.order(chosen_on)
    pool = _pool(ctx, np.array(share.centuries)[chosen_on], seed)
    orders, total = [own], len(STARTS) * seeds * steps
    for place, start in enumerate(STARTS):
        for number in range(seeds):
            done = (place * seeds + number) * steps
            gates = _learn(ctx, pool, _started(start, own, k), steps, seed + number, progress, done, total)
            orders.append(descending(gates))
    sizes = np.union1d(set_sizes(len(own)), [k, len(own) - k])
    sets = np.concatenate([first_of(order, sizes.tolist()) for order in orders])
    some = measured.sampled(len(sets))
    values = kept_measures(some, sets, measures=[MAIN], draws=ONE_DRAW, seed=seed)[MAIN].mean(1)
    curves = np.stack([recovered(part) for part in values.reshape(len(orders), -1)])
    return LearnedMasks(
        neurons=share.neurons, seed=seed, steps=steps, n_prompts=len(some), k=k, sizes=sizes, by_share=own,
        share_recovered=curves[0], orders=np.stack(orders[1:]).reshape(len(STARTS), seeds, -1),
        recovered=curves[1:].reshape(len(STARTS), seeds, -1),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Gates:
    """Where gates start [M]; closed [M]: those that stay at 0."""

    start: Float[np.ndarray, " M"]
    closed: Bool[np.ndarray, " M"]


def _started(start: Start, order: Int[np.ndarray, " M"], k: int) -> Gates:
    M = len(order)
    at, closed = np.full(M, OPEN), np.zeros(M, bool)
    if start == "warm":
        at[order] += np.linspace(WARM, -WARM, M)
    if start == "without":
        closed[order[:k]] = True
    return Gates(at, closed)


def _pool(ctx: AblationContext, centuries: Int[np.ndarray, " C"], seed: int) -> Block:
    """Measured prompts of whole nouns, at most 100 of each century, with random-year draws."""
    taken: dict[int, list[np.ndarray]] = {century: [] for century in centuries.tolist()}
    for group in noun_centuries(ctx.cache):
        rows, of_century = group[np.isin(group, ctx.rows)], taken.get(int(ctx.cache.century[group[0]]))
        if of_century is not None and sum(map(len, of_century)) + len(rows) <= MOST_OF_A_CENTURY:
            of_century.append(rows)
    rows = np.concatenate([rows for of_century in taken.values() for rows in of_century])
    return block_of(ctx, [MAIN], rows, random_years(ctx.cache, draws=DRAWS, seed=seed)[:, rows])


def _learn(
    ctx: AblationContext,
    pool: Block,
    gates: Gates,
    steps: int,
    seed: int,
    progress: Progress | None,
    done: int,
    total: int,
) -> Float[np.ndarray, " M"]:
    """Log odds of each neuron's gate; those that are closed come last."""
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    log_alpha = torch.as_tensor(gates.start).to(ctx.model.W_E).requires_grad_()
    is_open = torch.as_tensor(~gates.closed).to(log_alpha)
    optimiser = torch.optim.Adam([log_alpha], lr=RATE)
    moved = _moved(ctx, pool)
    for step in range(steps):
        at = rng.choice(len(pool.rows), min(BATCH, len(pool.rows)), replace=False)
        draw = int(rng.integers(len(pool.drawn)))
        log_alpha.grad = _gradient(ctx, _part(pool, at, draw), log_alpha, is_open, moved, noise)
        optimiser.step()
        if progress:
            progress(done + step + 1, total)
    found = log_alpha.detach().numpy(force=True).astype(float)
    return np.where(gates.closed, found.min() - 1, found)


def _gradient(
    ctx: AblationContext,
    block: Block,
    log_alpha: Float[Tensor, " M"],
    is_open: Float[Tensor, " M"],
    moved: float,
    noise: torch.Generator,
) -> Float[Tensor, " M"]:
    """Of the loss, with respect to the log odds."""
    u = torch.rand(len(block.rows), len(log_alpha), generator=noise).clamp(1e-6, 1 - 1e-6).to(log_alpha)
    drawn = torch.sigmoid((u.log() - (1 - u).log() + log_alpha) / TEMPERATURE)
    masks = (drawn * (HIGH - LOW) + LOW).clamp(0, 1) * is_open
    normed = _masked(ctx, block, dict(zip(ctx.cache.layers, masks.split(ctx.cache.d_mlp, -1), strict=True)))
    with torch.no_grad():
        _, outer = block.answer.with_gradient(normed[None])
    (of_answer,) = torch.autograd.grad(normed, log_alpha, -outer[0, 0] / (len(block.rows) * moved))
    odds = torch.sigmoid(log_alpha.detach() - TEMPERATURE * np.log(-LOW / HIGH))
    return of_answer + PENALTY * odds * (1 - odds) * is_open / len(log_alpha)


def _masked(ctx: AblationContext, block: Block, masks: Mapping[int, Float[Tensor, "P N"]]) -> Float[Tensor, "P d"]:
    """What the final LayerNorm gives with each neuron at a' + m (post - a')."""
    model, kept, other = ctx.model, block.kept, block.drawn[0]
    first = min(ctx.cache.layers)
    x = kept.mid[first][None]
    for layer in range(first, model.config.n_layers):
        if layer > first:
            x = x + attention_at_end(model, layer, x, kept)
        if layer not in masks:
            x = mlp(model, layer, x)
            continue
        at = torch.lerp(other[layer], post_activation(model, layer, x), masks[layer])
        x = x + (at @ model.blocks[layer].W_out + model.blocks[layer].b_out)
    return normalise(x[0], model.ln_final, model.config.layer_norm_eps)


def _part(pool: Block, at: Int[np.ndarray, " B"], draw: int) -> Block:
    """Some prompts of the pool, with one draw."""
    rows = torch.as_tensor(at, device=pool.kept.embedding.device)
    drawn = {layer: post[rows] for layer, post in pool.drawn[draw].items()}
    answer = Answer(pool.answer.model, pool.answer.measures, pool.answer.weights[:, rows], pool.answer.W_years)
    return Block(pool.rows[at], rows_of(pool.kept, rows), (drawn,), answer)


@torch.no_grad()
def _moved(ctx: AblationContext, pool: Block) -> float:
    """Clean minus floor of the pool, first draw."""
    ends = [{layer: torch.full_like(post, m) for layer, post in pool.drawn[0].items()} for m in (0.0, 1.0)]
    floor, clean = (float(pool.answer.values(_masked(ctx, pool, masks)[None]).mean()) for masks in ends)
    return clean - floor
