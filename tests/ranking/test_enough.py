"""How many neurons are enough: curves, members and completeness against plain hooks and planted circuits."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from circuit_cases import LATE, circuit_case
from hooked_shares import hooked_shares
from planted import Planted

from neurons.attribution.results import Attributed
from neurons.cache.build import cache_activations
from neurons.intervention.context import AblationContext, ablation_context
from neurons.intervention.draws import random_years
from neurons.model.checkpoint import load_model
from neurons.ranking import enough
from neurons.ranking.enough import on_other_prompts, set_study
from neurons.ranking.orders import matched_orders, variance_of
from neurons.ranking.set_results import Members, SetCurve, SetStudy
from neurons.ranking.sets import attributed, first_of, set_sizes
from neurons.types import NeuronId

N, LAYERS = 5, (0, 1)
MAIN = "probability_difference"


@pytest.fixture(scope="module")
def shares(small: AblationContext) -> Attributed:
    return attributed(small)


@pytest.fixture(scope="module")
def found(small: AblationContext, shares: Attributed) -> SetStudy:
    return set_study(small, shares)


def hooked(ctx: AblationContext, sets: np.ndarray, *, measure: str = MAIN) -> np.ndarray:
    """[G]: the measure with each set kept, by the oracle."""
    oracle = hooked_shares(ctx.model, LAYERS, ctx.year_ids)
    tokens, year = ctx.tokens[ctx.rows], ctx.cache.start_year[ctx.rows]
    other = oracle.post(ctx.tokens[random_years(ctx.cache, draws=1)[0, ctx.rows]])
    values = []
    for kept in sets:
        parts = zip(LAYERS, np.split(kept, 2), strict=True)
        masks = {layer: torch.as_tensor(part).double().expand(len(tokens), -1) for layer, part in parts}
        values.append((ctx.averaging @ oracle.values(measure, tokens, year, masks, other).numpy()).mean())
    return np.array(values)


# --- against hooks ---------------------------------------------------------------------------------


def test_kept_is_the_recovery_on_centuries_held_out(found: SetStudy, shares: Attributed) -> None:
    for curve in found.curves:
        np.testing.assert_array_equal(curve.kept, shares.recovery(curve.measure).recovered)
        assert curve.fewest(0.9) == shares.recovery(curve.measure).fewest(0.9)


def test_removed_neurons_equal_hooks(small: AblationContext, found: SetStudy, shares: Attributed) -> None:
    share, halves = shares.share(MAIN), []
    for chosen_on in (np.array([True, False]), np.array([False, True])):
        rows = small.rows[np.isin(small.cache.century[small.rows], np.array(share.centuries)[~chosen_on])]
        sets = first_of(share.order(chosen_on), set_sizes(2 * N).tolist())
        halves.append(hooked(replace(small, rows=rows), ~sets))
    values = np.mean(halves, 0)
    expected = (values - values[-1]) / (values[0] - values[-1])
    np.testing.assert_allclose(found.curve().removed, expected, atol=1e-8)


def test_members_and_gaps_equal_hooks(small: AblationContext, shares: Attributed) -> None:
    """The worst of the sampled subsets by hand, and every member's loss."""
    share = shares.share(MAIN)
    members = enough._members(small, share, 6, 0, enough.no_bars)
    inside = first_of(share.order(), [6])[0]
    rows = [share.neurons.index(neuron) for neuron in members.neurons]
    assert inside[rows].all()
    single = np.repeat(inside[None], 6, 0)
    single[np.arange(6), rows] = False
    worst = np.isin(np.arange(2 * N), [share.neurons.index(neuron) for neuron in members.worst])
    sets = np.stack([np.zeros(2 * N, bool), np.ones(2 * N, bool), inside, inside & ~worst, ~worst])
    floor, clean, of_set, without, of_all = hooked(small, sets)
    assert members.recovered == pytest.approx((of_set - floor) / (clean - floor), abs=1e-8)
    np.testing.assert_allclose(members.loss, (of_set - hooked(small, single)) / (clean - floor), atol=1e-8)
    assert members.incompleteness == pytest.approx(abs((without - of_all) / (clean - floor)), abs=1e-8)
    assert members.gap[0] == pytest.approx(abs(1 - members.recovered), abs=1e-8)
    assert members.subset_size[0] == 0
    assert len(members.gap) == enough.SUBSETS


def test_subsets_are_spread_over_all_sizes() -> None:
    size = enough._subsets(50, 3).sum(1)
    assert (np.diff(np.convolve(size, np.ones(10) / 10, "valid"))[::10] > -3).all()
    assert size[0] == 0
    assert size[-1] > 40


def test_the_same_neurons_on_the_same_prompts_recover_the_same(small: AblationContext, shares: Attributed) -> None:
    """Other prompts that are these prompts: the curve of the whole order, by hooks."""
    found = on_other_prompts(small, shares, "year-span")
    values = hooked(small, first_of(shares.share(MAIN).order(), set_sizes(2 * N).tolist()))
    expected = (values - values[0]) / (values[-1] - values[0])
    np.testing.assert_allclose(found.recoveries[0].recovered, expected, atol=1e-8)
    assert found.clean[MAIN] == pytest.approx(values[-1], rel=1e-8)
    assert found.floor[MAIN] == pytest.approx(values[0], rel=1e-8)


# --- planted circuits ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Planted, AblationContext, Attributed]]:
    """Neurons that act through each other: a backup, and a pair of which one is enough."""

    @cache
    def case(seed: int) -> tuple[Planted, AblationContext, Attributed]:
        folder: Path = tmp_path_factory.mktemp("responding")
        truth = circuit_case(folder / "model", "responding", seed, centuries=(13, 16))
        model = load_model(truth.planted.folder)
        cached = cache_activations(model, truth.prompts, layers=LATE, cache_dir=folder)
        years = np.unique(truth.prompts.start_year).tolist()
        ctx = ablation_context(model.to(torch.float64), cached, years=years)
        return truth.planted, ctx, attributed(ctx)

    return case


def members_of(ctx: AblationContext, found: Attributed, neurons: list[NeuronId]) -> Members:
    """Members as if these came first by share."""
    share = found.share(MAIN)
    rank = np.full(share.by_century.shape[-1], -1.0)
    for place, neuron in enumerate(neurons):
        rank[share.neurons.index(neuron)] = len(neurons) - place
    ordered = replace(share, by_century=np.broadcast_to(rank, share.by_century.shape).copy())
    return enough._members(ctx, ordered, len(neurons), 0, enough.no_bars)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_a_set_without_the_backup_is_incomplete(
    planted: Callable[[int], tuple[Planted, AblationContext, Attributed]], seed: int
) -> None:
    """Without `main` the whole model answers by `backup`, which a set that lacks it cannot."""
    truth, ctx, found = planted(seed)
    roles = truth.roles
    every = [neuron for role in roles if role not in ("orthogonal", "constant") for neuron in roles[role]]
    without = members_of(ctx, found, [neuron for neuron in every if neuron not in roles["backup"]])
    whole = members_of(ctx, found, every)
    assert without.recovered == pytest.approx(1, abs=1e-6)
    assert without.incompleteness > 0.1
    assert roles["main"][0] in without.worst
    assert whole.incompleteness < 1e-6
    assert max(whole.loss[[every.index(neuron) for neuron in roles["main"]]]) < 0.01


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_one_of_a_redundant_pair_is_not_missed_and_neither_can_be_left_out_with_the_other(
    planted: Callable[[int], tuple[Planted, AblationContext, Attributed]], seed: int
) -> None:
    truth, ctx, found = planted(seed)
    roles = truth.roles
    every = [neuron for role in roles if role not in ("orthogonal", "constant", "backup") for neuron in roles[role]]
    pair = [every.index(neuron) for neuron in roles["pair"]]
    both, one = members_of(ctx, found, every), members_of(ctx, found, [n for n in every if n != roles["pair"][0]])
    assert np.abs(both.loss[pair]).max() < 1e-6
    assert one.recovered == pytest.approx(1, abs=1e-6)
    kept = [neuron for neuron in every if neuron not in roles["pair"]]
    assert members_of(ctx, found, kept).recovered < 0.95
    alone = one.loss[[n for n in every if n != roles["pair"][0]].index(roles["pair"][1])]
    assert alone > 0.05


def test_random_curves_go_from_the_floor_to_the_whole_and_back(found: SetStudy) -> None:
    for curve in found.curves:
        assert curve.random_kept.shape == (5, len(curve.sizes))
        np.testing.assert_allclose(curve.random_kept[:, [0, -1]], [[0, 1]] * 5, atol=1e-9)
        np.testing.assert_allclose(curve.random_removed[:, [0, -1]], [[1, 0]] * 5, atol=1e-9)


def test_random_sets_equal_hooks(small: AblationContext, found: SetStudy, shares: Attributed) -> None:
    share, halves = shares.share("cutoff_sharpness"), []
    for chosen_on in (np.array([True, False]), np.array([False, True])):
        rows = small.rows[np.isin(small.cache.century[small.rows], np.array(share.centuries)[~chosen_on])]
        third = matched_orders(share.order(chosen_on), variance_of(small), N, 0)[2]
        sets = first_of(third, set_sizes(2 * N).tolist())
        halves.append([hooked(replace(small, rows=rows), one, measure=share.measure) for one in (sets, ~sets)])
    kept, removed = np.mean(halves, 0)
    for values, expected in ((kept, found.curves[1].random_kept[2]), (removed, found.curves[1].random_removed[2])):
        np.testing.assert_allclose((values - kept[0]) / (kept[-1] - kept[0]), expected, atol=1e-8)


# --- results ---------------------------------------------------------------------------------------


def test_json_has_no_nan(found: SetStudy) -> None:
    read = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [one["measure"] for one in read["curves"]] == [MAIN, "cutoff_sharpness"]
    assert len(found.to_frame()) == 2 * len(found.curve().sizes)


def test_k_of_random_sets_is_that_of_their_mean() -> None:
    sizes, kept = np.array([0, 1, 2, 3]), np.array([0.0, 0.5, 0.9, 1.0])
    random = np.array([[0, 0.0, 0.2, 1], [0, 0.2, 0.8, 1]])
    curve = SetCurve(MAIN, sizes, kept, 1 - kept, random, 1 - random)
    assert (curve.fewest(0.5), curve.fewest_random(0.5)) == (1, 2)
    assert curve.at(2)["random_removed"] == pytest.approx(0.5)
