"""Clusters: planted kinds are found, a null has none, shares add up, and similarity is what it says."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from conftest import PlantedCase
from populations import KINDS, TUNED, YEARS, of_kinds, permuted, population
from sklearn.metrics import adjusted_rand_score

from neurons.cache.format import Cache
from neurons.clustering.clusters import cluster
from neurons.clustering.partition import _cut, _dense, _merges
from neurons.clustering.similarity import best_jaccard, mean_similarity, readout_similarity, with_tuning
from neurons.decomposition.effects import logit_effects
from neurons.decomposition.population import Population, neuron_population
from neurons.ranking.ranking import rank
from neurons.types import InputError, NeuronId

SEEDS = (0, 1, 2)
FEW = 10
"""Resamples: enough for what these tests ask."""


def similarity_of(made: Population) -> np.ndarray:
    return with_tuning(made.curve, readout_similarity(made.readout))


# --- planted truth and null ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["hdbscan", "agglomerative"])
def test_planted_kinds_are_recovered(seed: int, method: str) -> None:
    made, _ = of_kinds(each=10, seed=seed)
    found = cluster(made, made.neurons, method=method, resamples=FEW)
    named = np.array([made.neurons.index(fit.neuron) for fit in found.tuning.neurons])
    assert adjusted_rand_score(np.repeat(KINDS, 10)[named], found.labels) >= 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_kinds_of_a_model_are_recovered_and_stable(kinds_case: Callable[[int], PlantedCase], seed: int) -> None:
    case = kinds_case(seed)
    role = {neuron: kind for kind, members in case.truth.roles.items() for neuron in members}
    found = cluster(neuron_population(logit_effects(case.cache)), tuple(role), resamples=FEW)
    names = [role[fit.neuron] for fit in found.tuning.neurons]
    assert adjusted_rand_score(names, found.labels) >= 0.9
    assert all(one.stable for one in found.clusters if one.tuned)


@pytest.mark.parametrize("seed", SEEDS)
def test_permuted_start_years_have_no_stable_cluster(kinds_case: Callable[[int], PlantedCase], seed: int) -> None:
    """But for the always-on neurons among them, whose years mean nothing either way: they are a kind."""
    case = kinds_case(seed)
    planted = [neuron for members in case.truth.roles.values() for neuron in members]
    found = cluster(permuted(neuron_population(logit_effects(case.cache)), seed=seed), planted, resamples=FEW)
    assert not [one for one in found.clusters if one.stable and one.tuned]


def test_permuted_greater_than_neurons_have_no_stable_cluster(planted_case: Callable[[int], PlantedCase]) -> None:
    case = planted_case(0)
    called = case.truth.roles["greater"] + case.truth.roles["mirror"]
    found = cluster(permuted(neuron_population(logit_effects(case.cache)), seed=0), called, resamples=FEW)
    assert not [one for one in found.clusters if one.stable]


def test_permuted_neurons_with_one_readout_have_no_cluster() -> None:
    """Readouts alone make no kind."""
    made = permuted(of_kinds(TUNED, each=20)[0], seed=1)
    same = replace(made, readout=np.tile(made.readout[0], (len(made), 1)))
    assert cluster(same, same.neurons, resamples=FEW).clusters == ()


def test_constant_neurons_are_a_stable_kind() -> None:
    made, _ = of_kinds()
    always = [one for one in cluster(made, made.neurons, resamples=FEW).clusters if not one.tuned]
    assert [(len(one.members), one.stable) for one in always] == [(12, True)]


def test_a_continuum_has_no_stable_cluster() -> None:
    """Bumps whose centres tile the century evenly: which of them hang together depends on which are drawn."""
    centre = np.linspace(5, 95, 80)
    curves = np.exp(-((YEARS[:, None] - centre) ** 2) / (2 * 6**2))
    readout = 1 / (1 + np.exp(-(np.arange(100) - centre[:, None])))
    made = population(curves, readout, noise=0.02)
    assert not [one for one in cluster(made, made.neurons, resamples=40).clusters if one.stable]


def test_a_mirror_image_is_another_kind() -> None:
    """Falling and writing the opposite gives the same map but for its static part; signs are kept."""
    made, _ = of_kinds(("step",), each=6)
    both = population(
        np.hstack([made.curve, made.curve.max(0) - made.curve]), np.vstack([made.readout, -made.readout]), noise=0.01
    )
    found = cluster(both, both.neurons, resamples=FEW)
    assert {frozenset(both.rows(one.members).tolist()) for one in found.clusters} == {
        frozenset(range(6)), frozenset(range(6, 12))
    }  # fmt: skip


# --- exactness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hdbscan", "agglomerative"])
def test_shares_and_the_rest_are_the_total_contrast(mini_cache: Cache, method: str) -> None:
    effects = logit_effects(mini_cache)
    ranking = rank(effects)
    called = ranking.neurons[:40] + ranking.neurons[-10:]
    found = cluster(neuron_population(effects), called, method=method, resamples=2)
    direct = sum(effects.layer_contrast(layer).astype(float).mean(0).sum() for layer in effects.layers)
    shares = sum(one.share for one in found.clusters)
    assert found.clusters
    assert found.total_contrast == pytest.approx(direct, abs=1e-5)
    assert shares + found.unclustered_share == pytest.approx(found.total_contrast, abs=1e-6)
    assert found.noise_share + found.others_share == pytest.approx(found.unclustered_share, abs=1e-12)


def test_a_share_is_the_contrast_of_the_members_maps(mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache)
    ranking = rank(effects)
    biggest = cluster(neuron_population(effects), ranking.neurons[:30], resamples=2).clusters[0]
    direct = sum(effects.contrast(neuron).astype(float).mean() for neuron in biggest.members)
    assert biggest.share == pytest.approx(direct, rel=1e-5)


def test_biases_stand_apart(mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache)
    found = neuron_population(effects).bias_contrast
    later = np.arange(100) > np.array(effects.start_years)[:, None]
    one = effects.bias_map(10)
    means = [row[up].mean() - row[~up].mean() for row, up in zip(one, later, strict=True)]
    assert found[10] == pytest.approx(np.mean(means), rel=1e-5)


def test_similarity_is_the_cosine_of_the_maps_without_static_part() -> None:
    made, _ = of_kinds(TUNED, each=3)
    shape = made.curve - made.curve.mean(0)
    maps = np.einsum("yn,nx->nyx", shape, made.readout).reshape(len(made), -1)
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    cosine, similarity = maps @ maps.T, similarity_of(made)
    same_sign = shape.T @ shape > 0
    np.testing.assert_allclose(similarity[same_sign], np.maximum(cosine, 0)[same_sign], atol=1e-12)
    assert not similarity[~same_sign].any()


def test_a_cuts_similarity_from_the_tree_is_the_mean_over_pairs() -> None:
    made, _ = of_kinds(each=8, seed=3)
    similarity = similarity_of(made)
    labels = _cut(_merges(similarity), 6, 3)
    assert labels.max() > 2
    for label, value in enumerate(mean_similarity(similarity, labels)):
        rows = np.flatnonzero(labels == label)
        pairs = [similarity[i, j] for i in rows for j in rows if i < j]
        assert value == pytest.approx(np.mean(pairs))


def test_loose_groups_are_clustered_again() -> None:
    """Windows in a row: a chain in which neighbours are alike and the ends are not."""
    centre = np.arange(10, 90, 2.0)
    curves = np.exp(-(((np.arange(2, 99)[:, None] - centre) / 9) ** 2) / 2)
    made = population(curves, np.tile(np.linspace(-1, 1, 100), (len(centre), 1)), noise=0.01)
    similarity = similarity_of(made)
    labels, strength = _dense(similarity, 3)
    assert (mean_similarity(similarity, labels) >= 0.5).all()
    assert ((strength > 0) <= (labels >= 0)).all()


def test_best_jaccard_is_that_of_sets() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.integers(-1, 4, 50), rng.integers(-1, 5, 50)
    expected = []
    for label in range(4):
        members = set(np.flatnonzero(one == label))
        others = [set(np.flatnonzero(two == other)) for other in range(5)]
        expected.append(max(len(members & other) / len(members | other) for other in others))
    np.testing.assert_allclose(best_jaccard(one, two), expected)


def test_nothing_to_match_has_no_overlap() -> None:
    assert best_jaccard(np.array([0, 0, -1]), np.full(3, -1)).tolist() == [0.0]


# --- results ---------------------------------------------------------------------------------------


def test_clusters_say_what_their_members_are() -> None:
    made, _ = of_kinds()
    found = cluster(made, made.neurons, resamples=FEW)
    step = next(one for one in found.clusters if "12 step" in one.description)
    assert step.medoid in step.members
    assert "threshold 54-56" in step.description
    assert "raises years from" in step.description
    assert list(step.membership) == sorted(step.membership, reverse=True)
    assert [abs(one.share) for one in found.clusters] == sorted(
        (abs(one.share) for one in found.clusters), reverse=True
    )


def test_the_mean_map_is_the_mean_of_the_members_maps() -> None:
    made, _ = of_kinds(each=5)
    one = cluster(made, made.neurons, resamples=2).clusters[0]
    rows = made.rows(one.members)
    maps = [np.outer(made.curve[:, row], made.readout[row]) for row in rows]
    np.testing.assert_allclose(one.mean_map, np.mean(maps, axis=0), atol=1e-12)


def test_the_cap_is_stated_and_keeps_the_strongest() -> None:
    made, _ = of_kinds()
    found = cluster(made, made.neurons, cap=20, resamples=2)
    assert found.notes[0] == "of 72 neurons that boost or suppress the 20 of largest |score| were clustered"
    kept = [abs(fit.score) for fit in found.tuning.neurons]
    assert kept == sorted(np.abs(made.score), reverse=True)[:20]


def test_the_json_is_the_same_bit_for_bit() -> None:
    made, _ = of_kinds(each=6, seed=2)
    one, two = (json.dumps(cluster(made, made.neurons, resamples=5, seed=3).to_json()) for _ in range(2))
    assert one == two


# --- degenerate ------------------------------------------------------------------------------------


def test_no_neuron_is_a_statement() -> None:
    made, _ = of_kinds(each=2)
    found = cluster(made, [])
    assert found.clusters == found.noise == ()
    assert found.notes == ("no neuron boosts or suppresses: there is nothing to cluster",)
    assert found.unclustered_share == pytest.approx(found.total_contrast)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_neurons_are_noise(count: int) -> None:
    made, _ = of_kinds(each=2)
    found = cluster(made, made.neurons[:count])
    assert len(found.noise) == count
    assert "all left as noise" in found.notes[0]


def test_constant_and_dead_neurons_do_no_harm() -> None:
    curves = np.zeros((97, 8))
    curves[:, 4:] = 2.0
    made = population(curves, np.vstack([np.eye(4, 100), np.tile(np.eye(1, 100, 7), (4, 1))]), noise=0.0)
    found = cluster(made, made.neurons, resamples=3)
    assert found.labels[:4].tolist() == [-1] * 4
    json.dumps(found.to_json(), allow_nan=False)


def test_one_century_has_clusters_and_their_stability() -> None:
    made, _ = of_kinds(each=6)
    one = cluster(replace(made, value=made.value[:1], held=made.held[:1]), made.neurons)
    assert one.clusters
    assert None not in {found.stability for found in one.clusters}


def test_an_unknown_neuron_is_refused() -> None:
    made, _ = of_kinds(each=2)
    with pytest.raises(InputError, match="L3N1"):
        cluster(made, [NeuronId(3, 1)])
