"""Clusters or a continuum: planted continua and planted kinds are told apart; prototypes follow the verdict."""

import json

import numpy as np
import pytest
from populations import TUNED, YEARS, of_kinds, population

from neurons.cache.format import Cache
from neurons.clustering.clusters import cluster
from neurons.clustering.continuum import evidence, tuning_centres
from neurons.clustering.evidence import Dip
from neurons.clustering.results import Clustering
from neurons.clustering.tuning import tune
from neurons.decomposition.effects import logit_effects
from neurons.decomposition.population import Population, neuron_population
from neurons.ranking.ranking import rank

SEEDS = (0, 1, 2)
FEW = 10
"""Resamples: enough for what these tests ask."""


def bumps(centre: np.ndarray, width: np.ndarray, *, seed: int = 0) -> Population:
    """Neurons tuned to a centre, that raise the years after it."""
    curves = np.exp(-((YEARS[:, None] - centre) ** 2) / (2 * width**2))
    readout = 1 / (1 + np.exp(-(np.arange(100) - centre[:, None])))
    return population(curves, readout, seed=seed, noise=0.05)


def continuum(seed: int, *, even: bool, n: int = 140) -> Population:
    """Centres that tile the century evenly, or mostly its first half; widths vary by 20 or 40 %."""
    rng = np.random.default_rng(seed)
    if even:
        return bumps(np.linspace(5, 95, n), 6 * rng.uniform(0.8, 1.2, n), seed=seed)
    return bumps(5 + 90 * rng.beta(1.2, 2.5, n), 8 * np.exp(0.4 * rng.normal(size=n)), seed=seed)


def of(made: Population, *, resamples: int = FEW) -> Clustering:
    return cluster(made, made.neurons, resamples=resamples)


def dip(found: Clustering, name: str) -> Dip:
    return next(one for one in found.evidence.dips if one.of == name)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("even", [True, False])
def test_a_planted_continuum_is_called_a_continuum(seed: int, even: bool) -> None:
    found = of(continuum(seed, even=even))
    assert not found.clustered
    assert all(one.p_value is not None and one.p_value > 0.1 for one in found.evidence.dips)


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_kinds_are_called_kinds(seed: int) -> None:
    found = of(of_kinds(seed=seed)[0])
    assert found.clustered
    assert min(one.p_value for one in found.evidence.dips if one.p_value is not None) < 0.001


@pytest.mark.parametrize("seed", SEEDS)
def test_bumps_at_three_places_are_kinds_by_their_centres(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = of(bumps(np.repeat([20.0, 50, 80], 20) + 2 * rng.normal(size=60), np.full(60, 6.0), seed=seed))
    assert found.clustered
    assert [one.of for one in found.evidence.dips if one.rejects] == ["tuning centre"]


@pytest.mark.parametrize("seed", SEEDS)
def test_steps_at_all_thresholds_are_a_continuum(seed: int) -> None:
    """Monotone curves have no centre: where their largest deviation lies depends on the threshold alone."""
    threshold = np.random.default_rng(seed).uniform(10, 90, 100)
    curves = 1 / (1 + np.exp(-(YEARS[:, None] - threshold) / 3))
    readout = 1 / (1 + np.exp(-(np.arange(100) - threshold[:, None])))
    found = of(population(curves, readout, seed=seed, noise=0.05))
    assert dip(found, "tuning centre").neurons < 10
    assert not found.clustered


def test_the_first_140_neurons_of_mini_are_a_continuum(mini_cache: Cache) -> None:
    """By direct effect here; by share the three p are above 0.2 too, and the trial's were 0.82, 0.81 and 0.44."""
    effects = logit_effects(mini_cache)
    made = neuron_population(effects)
    first = made.take(made.rows(rank(effects).neurons[:140]))
    found = evidence(tune(first), [])
    assert not found.clustered
    assert all(one.p_value is not None and one.p_value > 0.1 for one in found.dips)


def test_a_dip_without_stable_clusters_is_no_kind() -> None:
    made, _ = of_kinds(TUNED)
    tuning = tune(made)
    loose = evidence(tuning, [(30, 0.4), (30, 0.6)])
    assert any(one.rejects for one in loose.dips)
    assert not loose.clustered
    assert loose.stability == pytest.approx(0.5)
    assert evidence(tuning, [(30, 0.4), (30, 0.8)]).clustered


def test_too_few_neurons_have_no_dip() -> None:
    made = continuum(0, even=True, n=3)
    found = of(made)
    assert [one.p_value for one in found.evidence.dips] == [None] * 3
    assert not found.clustered
    assert "too few" in found.evidence.words()


def test_centres_are_those_planted_and_turned_neurons_keep_theirs() -> None:
    centre = np.array([20.3, 50.0, 77.8])
    curve = np.exp(-((YEARS[:, None] - centre) ** 2) / (2 * 6**2))
    years = YEARS.tolist()
    assert tuning_centres(curve, years) == pytest.approx(centre, abs=0.05)
    assert tuning_centres(3 - curve, years) == pytest.approx(centre, abs=0.05)
    assert np.isnan(tuning_centres(np.ones((97, 1)), years)).all()


# --- prototypes ------------------------------------------------------------------------------------


def test_prototypes_are_of_clusters_where_there_are_some() -> None:
    found = of(of_kinds()[0])
    assert [one.name for one in found.prototypes] == [f"cluster {one.id}" for one in found.clusters]
    for prototype, one in zip(found.prototypes, found.clusters, strict=True):
        assert set(prototype.neurons) == set(one.members)


def test_prototypes_of_a_continuum_are_bins_by_decade_that_hold_every_neuron_once() -> None:
    found = of(continuum(0, even=False))
    assert [one.name for one in found.prototypes][:2] == ["centre 00-09", "centre 10-19"]
    held = [neuron for one in found.prototypes for neuron in one.neurons]
    assert sorted(held) == sorted(one.neuron for one in found.tuning.neurons)


def test_constant_neurons_have_a_bin_of_their_own_without_a_shape() -> None:
    made = population(np.hstack([np.ones((97, 3)), continuum(0, even=True, n=20).curve]), np.eye(23, 100), noise=0.0)
    constant = of(made).prototypes[-1]
    assert (constant.name, len(constant.neurons)) == ("constant", 3)
    assert not constant.shape.any()


def test_a_prototype_describes_its_members_by_level_and_height() -> None:
    """Members that are one shape, scaled, shifted and turned: the description is each itself."""
    bump = np.exp(-((YEARS - 44.0) ** 2) / 72)[:, None]
    curves = bump * [1.0, 2.5, -2.0] + [0.0, 1.0, 5.0]
    found = of(population(curves, np.eye(3, 100), noise=0.0))
    (prototype,) = found.prototypes
    np.testing.assert_allclose(prototype.of(curves), curves, atol=1e-6)
    assert prototype.shape.mean() == pytest.approx(0, abs=1e-6)
    assert prototype.shape.std() == pytest.approx(1)


def test_the_json_says_first_whether_there_are_clusters() -> None:
    found = of(continuum(1, even=True)).to_json()
    assert list(found)[3:6] == ["clustered", "evidence", "prototypes"]
    assert found["clustered"] is False
    assert set(found["evidence"]["dips"]) == {"tuning_centre", "width", "monotonicity"}
    json.dumps(found, allow_nan=False)
