"""Learned masks: the forward against plain hooks, the gradient against differences, planted neurons found again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from circuit_cases import LATE, circuit_case
from hooked_shares import hooked_shares

from neurons.attribution.results import Attributed
from neurons.cache.build import cache_activations
from neurons.intervention.context import AblationContext, ablation_context
from neurons.model.checkpoint import load_model
from neurons.ranking import masks
from neurons.ranking.mask_results import STARTS, LearnedMasks
from neurons.ranking.masks import learned_masks
from neurons.ranking.sets import attributed
from neurons.types import InputError

N, LAYERS = 5, (0, 1)
MAIN = "probability_difference"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[AblationContext, Attributed, set[str]]:
    """Six neurons do greater-than, four write unrelated profiles, six are decoys; 48 others write nothing."""
    folder = tmp_path_factory.mktemp("crowded")
    truth = circuit_case(folder / "model", "crowded", 0, centuries=(13, 16))
    model = load_model(truth.planted.folder)
    cached = cache_activations(model, truth.prompts, layers=LATE, cache_dir=folder)
    ctx = ablation_context(model, cached, years=np.unique(truth.prompts.start_year).tolist())
    return ctx, attributed(ctx), set(map(str, truth.planted.roles["greater"]))


@pytest.fixture(scope="module")
def found(planted: tuple[AblationContext, Attributed, set[str]]) -> LearnedMasks:
    return learned_masks(*planted[:2], seeds=2, steps=150)


def test_neurons_behind_partly_open_gates_equal_hooks(small: AblationContext) -> None:
    ctx, pool = small, masks._pool(small, np.array([13, 17]), 0)
    part = masks._part(pool, np.arange(len(pool.rows)), 1)
    m = {layer: torch.rand(len(pool.rows), N, dtype=torch.float64) for layer in LAYERS}
    oracle = hooked_shares(ctx.model, LAYERS, ctx.year_ids)
    year = ctx.cache.start_year[pool.rows]
    expected = oracle.values(MAIN, ctx.tokens[pool.rows], year, m, dict(part.drawn[0]))
    values = part.answer.values(masks._masked(ctx, part, m)[None])[0, 0]
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_that_of_the_loss(small: AblationContext) -> None:
    """Central differences with the same noise, in double precision."""
    pool = masks._pool(small, np.array([13, 17]), 0)
    part = masks._part(pool, np.arange(len(pool.rows)), 0)
    log_alpha = torch.linspace(-1, 2, 2 * N, dtype=torch.float64)
    is_open = torch.ones_like(log_alpha)
    is_open[3] = 0

    def loss(at: torch.Tensor) -> float:
        u = torch.rand(len(part.rows), 2 * N, generator=torch.Generator().manual_seed(4)).clamp(1e-6, 1 - 1e-6).double()
        gates = torch.sigmoid((torch.logit(u) + at) / masks.TEMPERATURE) * 1.2 - 0.1
        m = gates.clamp(0, 1) * is_open
        normed = masks._masked(small, part, dict(zip(LAYERS, m.split(N, -1), strict=True)))
        left_out = -part.answer.values(normed[None]).mean() / 0.5
        odds = torch.sigmoid(at - masks.TEMPERATURE * np.log(0.1 / 1.1))
        return float(left_out + masks.PENALTY * (odds * is_open).sum() / len(at))

    noise = torch.Generator().manual_seed(4)
    gradient = masks._gradient(small, part, log_alpha.clone().requires_grad_(), is_open, 0.5, noise)
    step = 1e-6
    for n in range(2 * N):
        unit = torch.zeros_like(log_alpha)
        unit[n] = step
        difference = (loss(log_alpha + unit) - loss(log_alpha - unit)) / (2 * step)
        assert float(gradient[n]) == pytest.approx(difference, abs=1e-7)


@pytest.mark.parametrize("start", ["cold", "warm"])
def test_masks_find_the_planted_neurons_again(
    planted: tuple[AblationContext, Attributed, set[str]], found: LearnedMasks, start: str
) -> None:
    """Six planted neurons carry the answer; k for 90 % is at most six, all of them planted."""
    for order, k in zip(found.orders[STARTS.index(start)], found.fewest(start, 0.9), strict=True):
        assert k is not None
        assert k <= 6
        assert {str(found.neurons[row]) for row in order[:k]} <= planted[2]


def test_without_the_first_neurons_nothing_is_recovered(found: LearnedMasks) -> None:
    closed = set(found.by_share[: found.k].tolist())
    for order in found.orders[STARTS.index("without")]:
        assert set(order[-found.k :].tolist()) == closed
    assert found.at("without", 10).max() < 0.5
    assert found.fewest("without", 0.9) == [None, None]
    assert found.overlap_with_shares("without").max() == 0


def test_overlaps_are_shares_of_the_first_k() -> None:
    orders = np.array([[[0, 1, 2, 3], [1, 0, 2, 3]], [[2, 3, 0, 1], [0, 3, 1, 2]], [[3, 2, 1, 0], [2, 3, 1, 0]]])
    sizes, curve = np.arange(5), np.array([0, 0.5, 0.9, 1, 1])
    one = LearnedMasks(
        neurons=(), seed=0, steps=1, n_prompts=1, k=2, sizes=sizes, by_share=np.arange(4), share_recovered=curve,
        orders=orders, recovered=np.broadcast_to(curve, (3, 2, 5)).copy(),
    )  # fmt: skip
    assert one.overlap_with_shares("cold").tolist() == [1, 1]
    assert one.overlap_with_shares("warm").tolist() == [0, 0.5]
    assert (one.overlap_among("cold"), one.overlap_among("warm")) == (1, 0.5)
    assert one.share_at(2) == pytest.approx(0.9)
    assert one.fewest("cold", 1.0) == [3, 3]
    assert one.share_fewest(1.0) == 3
    assert one.fewest("without", 1.0) == [None, None]
    assert one.sizes_of("without").tolist() == [0, 1, 2]


def test_the_same_seed_learns_the_same_masks(planted: tuple[AblationContext, Attributed, set[str]]) -> None:
    once, again = (learned_masks(*planted[:2], seeds=1, steps=5, seed=3) for _ in range(2))
    assert np.array_equal(once.orders, again.orders)
    assert not np.array_equal(once.orders, learned_masks(*planted[:2], seeds=1, steps=5, seed=4).orders)


def test_json_has_no_nan(found: LearnedMasks) -> None:
    read = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert len(read["runs"]) == 6
    assert read["overlap_among"].keys() == {"cold", "warm", "without"}


def test_where_nothing_moves_there_is_no_set_to_look_for(
    planted: tuple[AblationContext, Attributed, set[str]],
) -> None:
    ctx, shares, _ = planted
    still = tuple(replace(one, recovered=np.zeros(len(one.sizes))) for one in shares.recoveries)
    with pytest.raises(InputError, match="no set of neurons recovers 90 %"):
        learned_masks(ctx, replace(shares, recoveries=still))
    with pytest.raises(InputError, match="seeds must be a whole number from 1"):
        learned_masks(ctx, shares, seeds=0)
