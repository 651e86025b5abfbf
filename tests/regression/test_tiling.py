"""The tiling law: planted tilings are found, random pairings show none; places, edges and exchange are as defined."""

import json
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from circuit_cases import EACH_SEED
from planted import Planted
from planted_tiling import CENTURIES, write_tiling
from populations import YEARS, population

from neurons.attribution.results import Attributed
from neurons.cache.format import Cache
from neurons.regression.tiling import edges_of, law_of, places, tile
from neurons.study.study import Study

NEAR = 1.0
"""Years, as promised."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, bool], tuple[Planted, Study]]:
    @cache
    def case(seed: int, paired: bool) -> tuple[Planted, Study]:
        folder = tmp_path_factory.mktemp("tiling")
        truth = write_tiling(folder / "model", seed=seed, paired=paired)
        return truth, Study(str(truth.folder), nouns=1, centuries=CENTURIES, cache_dir=folder)

    return case


# --- planted truth ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", EACH_SEED)
def test_a_planted_tiling_is_found_within_a_year(planted: Callable, seed: int) -> None:
    truth, study = planted(seed, True)
    found = study.tiling()
    assert {one.neuron for one in found.neurons} <= set(truth.roles["tile"])
    assert len(found) > 20
    for one in found.neurons:
        true = truth.parameters[one.neuron]
        middle = (max(true["low"], 2) + min(true["high"], 98)) / 2
        assert abs(one.centre - middle) <= NEAR
        assert abs(one.edge - true["step"]) <= NEAR
        assert one.edge_low <= one.edge <= one.edge_high
        assert one.height > 0
    assert found.law.correlation > 0.99
    assert found.law.slope == pytest.approx(1, abs=0.05)
    assert found.law.offset == pytest.approx(-3, abs=NEAR)


@pytest.mark.parametrize("seed", EACH_SEED)
def test_neurons_of_one_place_stand_in_for_one_another_alone(planted: Callable, seed: int) -> None:
    exchange = planted(seed, True)[1].tiling().exchange
    sharp = {one.years: one.cutoff_sharpness.value for one in exchange.by_distance}
    assert exchange.own.cutoff_sharpness.value == pytest.approx(1, abs=0.02)
    assert sharp[0, 2] > 0.85
    assert sharp[0, 2] > sharp[2, 5] > sharp[5, 10]
    assert max(sharp[10, 20], sharp[20, 40], sharp[40, 100], exchange.at_random.cutoff_sharpness.value) < 0.4


@pytest.mark.parametrize("seed", EACH_SEED)
def test_random_pairings_show_no_law(planted: Callable, seed: int) -> None:
    truth, study = planted(seed, False)
    everything = study.population()
    rows = everything.rows(truth.roles["tile"])
    found = tile(everything, rows, np.ones(len(rows)), exchange=None)
    assert len(found) == len(rows)
    assert found.law.ci_low < 0 < found.law.ci_high


# --- places and edges ------------------------------------------------------------------------------


def test_centre_and_width_of_a_gaussian_are_its_own() -> None:
    curve = np.exp(-(((YEARS[:, None] - [40, 61.3]) / [6, 9]) ** 2) / 2) * [2, -3] + [1, 5]
    found = places(YEARS.tolist(), curve)
    np.testing.assert_allclose(found.centre, [40, 61.3], atol=0.1)
    up = (curve - curve.mean(0)) * [1, -1]
    np.testing.assert_allclose(found.width, (up >= up.max(0) / 2).sum(0), atol=NEAR)
    assert (np.sign(found.peak) == [1, -1]).all()


def test_a_window_that_the_century_cuts_off_is_centred_in_what_is_left() -> None:
    curve = (YEARS[:, None] >= 90) * 1.0
    found = places(YEARS.tolist(), curve)
    assert found.centre[0] == pytest.approx((90 + 98) / 2, abs=NEAR)
    assert found.width[0] == pytest.approx(98 - 89.5, abs=NEAR)


def test_a_constant_neuron_has_no_place() -> None:
    made = population(np.ones((97, 2)) * [1, 0] + [[0, 1]] * (YEARS[:, None] > 50), np.eye(2, 100), noise=0.0)
    found = tile(made, np.arange(2), np.ones(2), exchange=None)
    assert [one.neuron for one in found.neurons] == [made.neurons[1]]
    assert found.law.correlation is None
    json.dumps(found.to_json(), allow_nan=False)


def test_nothing_tiles_nothing() -> None:
    made = population(np.zeros((97, 3)), np.eye(3, 100), noise=0.0)
    found = tile(made, np.zeros(0, int), np.zeros(0), exchange=None)
    assert (len(found), found.largest_gap, found.covered.tolist()) == (0, None, [0] * 97)
    json.dumps(found.to_json(), allow_nan=False)


def test_the_edge_is_the_step_up_that_explains_most() -> None:
    rng = np.random.default_rng(0)
    readout = np.where(np.arange(100) > rng.integers(5, 95, 6)[:, None], 1.0, -1.0) + rng.normal(size=(6, 100))
    found = edges_of(YEARS.tolist(), readout)
    for n, values in enumerate(readout):
        explained = [
            values.var() * 100 - values[: z + 1].var() * (z + 1) - values[z + 1 :].var() * (99 - z)
            if 2 <= z <= 98 and values[z + 1 :].mean() > values[: z + 1].mean()
            else 0.0
            for z in range(99)
        ]
        assert found.edge[n] == int(np.argmax(explained))
        assert found.gap[n] == pytest.approx(values[found.edge[n] + 1 :].mean() - values[: found.edge[n] + 1].mean())


def test_the_law_of_ranks_is_that_of_scipy_where_all_weigh_the_same() -> None:
    from scipy.stats import linregress, spearmanr

    rng = np.random.default_rng(1)
    centre = rng.uniform(2, 98, 30)
    edge = np.round(centre - 7 + rng.normal(size=30) * 10).astype(int)
    found = law_of(centre, edge, np.full(30, 0.2))
    assert found.correlation == pytest.approx(spearmanr(centre, edge).statistic)
    assert found.slope == pytest.approx(linregress(centre, edge).slope)
    assert found.offset == pytest.approx(np.median(edge - centre), abs=1)
    assert found.slope_ci_low < 1 < found.slope_ci_high


def test_neurons_without_weight_count_for_nothing() -> None:
    centre, edge = np.arange(2.0, 22), np.arange(20)
    assert law_of(np.append(centre, 90), np.append(edge, 0), np.append(np.ones(20), 0)).slope == pytest.approx(1)


def test_what_neurons_add_to_an_edge_is_a_step_of_their_maps() -> None:
    rng = np.random.default_rng(2)
    made = population(rng.normal(size=(97, 7)), rng.normal(size=(7, 100)))
    found = tile(made, np.arange(4), np.ones(4), exchange=None).edges[30]
    away = made.curve - made.curve.mean(0)
    adds = away[30] * (made.readout[:, found.start_year + 1] - made.readout[:, found.start_year - 1])
    assert found.start_year == 32
    assert found.all_neurons == pytest.approx(adds.sum())
    assert found.of_set == pytest.approx(adds[:4].sum())
    assert dict(zip(found.neurons, found.adds, strict=True))[made.neurons[0]] == pytest.approx(adds[0])


def test_mini_is_a_tiling(mini_cache: Cache, mini_attributed: Attributed) -> None:
    found = Study(cache_dir=mini_cache.path.parent).tiling()
    assert found.law.correlation > 0.8
    assert found.law.ci_low > 0.6
    assert -10 < found.law.offset < -4
    assert found.covered.min() >= 3
    sharp = {one.years: one.cutoff_sharpness.value for one in found.exchange.by_distance}
    assert sharp[0, 2] > sharp[10, 20] > sharp[40, 100]
