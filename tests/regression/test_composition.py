"""Composition: maps from factors are the direct ones, planted structure is found, what is scored was held out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from populations import YEARS, of_kinds, population
from scipy.stats import sem
from scipy.stats import t as student
from sklearn.linear_model import orthogonal_mp

from neurons.cache.format import Cache
from neurons.clustering.tuning import tune
from neurons.decomposition.effects import logit_effects, neuron_parts
from neurons.decomposition.population import Population, neuron_population
from neurons.intervals import Cells, left_out, year_means
from neurons.regression.composition import _half, _path, _r2, _Target, compose
from neurons.regression.parts import count_signs, maps_of
from neurons.regression.results import Regression, reached
from neurons.regression.terms import TERMS, regress, shapes
from neurons.types import NeuronId

ABOVE = np.arange(100) > YEARS[:, None]


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(1, keepdims=True)


def regression(target: np.ndarray, fade: float = 20.0) -> Regression:
    return regress(YEARS.tolist(), fade, Cells(target[None], np.ones((1, 97), bool)))


def pursued(made: Population) -> _Target:
    whole = maps_of(made, {"whole": np.arange(len(made))})["whole"]
    return _Target(made, whole, made.readout @ made.readout.T)


def random_population(seed: int, count: int = 12, **settings: float) -> Population:
    rng = np.random.default_rng(seed)
    return population(rng.normal(size=(97, count)), rng.normal(size=(count, 100)), seed=seed, **settings)


def few(made: Population, **settings: int):
    return compose(made, tune(made), groups={}, **settings)


# --- exactness -------------------------------------------------------------------------------------


def test_the_composed_map_is_the_mean_of_direct_effects(mini_cache: Cache) -> None:
    """Prompt by prompt, neuron by neuron, for some start years that every century has."""
    effects = logit_effects(mini_cache)
    everything = neuron_population(effects)
    composed = compose(everything, tune(everything.take(np.arange(2))), groups={}, most=5)
    for year in (2, 32, 98):
        prompts = np.flatnonzero(mini_cache.start_year == year)
        direct = np.zeros((len(prompts), 100))
        for layer in effects.layers:
            direct += effects.activation(layer)[prompts].astype(float) @ effects.readout(layer).astype(float)
        expected = direct.mean(0) - direct.mean()
        np.testing.assert_allclose(composed.whole.map[year - 2], expected, atol=1e-6 * np.abs(expected).max())


def test_layers_add_up_to_the_whole(mini_cache: Cache) -> None:
    everything = neuron_population(logit_effects(mini_cache))
    found = compose(everything, tune(everything.take(np.arange(2))), groups={}, most=5)
    np.testing.assert_allclose(sum(part.map for part in found.by_layer.values()), found.whole.map, atol=1e-9)
    assert found.whole.contrast == pytest.approx(everything.score.sum(), abs=1e-6)
    assert sum(part.n_neurons for part in found.by_layer.values()) == len(everything)


def test_a_group_is_the_sum_of_its_members_maps() -> None:
    made = random_population(0)
    group = (NeuronId(8, 3), NeuronId(9, 7))
    found = compose(made, tune(made), groups={"a": group}).by_group["a"]
    rows = made.rows(group)
    expected = sum(np.outer(made.curve[:, row], made.readout[row]) for row in rows)
    np.testing.assert_allclose(found.map, expected, atol=1e-6)
    assert found.contrast == pytest.approx(made.score[rows].sum(), abs=1e-6)


def test_singular_values_are_the_maps_and_count_the_components() -> None:
    rng = np.random.default_rng(0)
    U, _ = np.linalg.qr(rng.normal(size=(97, 3)))
    V, _ = np.linalg.qr(centred(rng.normal(size=(3, 100))).T)
    found = few(population(U * [10, 3, 0.5], V.T, noise=0.0)).whole
    np.testing.assert_allclose(found.singular_values[:4], [10, 3, 0.5, 0], atol=1e-5)
    assert (found.components_for(0.9), found.components_for(0.99)) == (1, 2)
    np.testing.assert_allclose(found.start_year_components @ found.year_components, found.map, atol=1e-5)


def test_reached_counts_from_one_or_never() -> None:
    assert (reached([0.5, 0.9, 0.95], 0.9), reached([0.5], 0.9), reached([], 0.9)) == (2, None, None)


# --- matching pursuit ------------------------------------------------------------------------------


def test_the_pursuit_from_factors_is_that_over_explicit_maps() -> None:
    made = random_population(1, 15)
    target = pursued(made)
    path = _path(target.over(np.ones(20, bool), np.ones(97, bool)), 6)
    maps = np.stack([np.outer(made.curve[:, n], made.readout[n]).reshape(-1) for n in range(15)], 1)
    size = np.linalg.norm(maps, axis=0)
    expected = orthogonal_mp(maps / size, year_means(target.whole).reshape(-1), n_nonzero_coefs=6) / size
    weights = np.zeros(15)
    weights[path.order] = path.weights[:, -1]
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert np.array_equal(path.weights != 0, np.triu(np.ones((6, 6), bool)))


def test_held_out_r2_is_that_of_explicit_maps() -> None:
    made = random_population(2, 10, noise=0.5)
    from_factors, every = pursued(made), np.ones(97, bool)
    fitted = _half(20, np.random.default_rng(0))
    path = _path(from_factors.over(fitted, every), 3)
    held = made.value[~fitted].mean(0, dtype=float)
    target = held @ made.readout
    for k in (1, 2, 3):
        rebuilt = sum(
            w * np.outer(held[:, n], made.readout[n]) for n, w in zip(path.order, path.weights[:, k - 1], strict=True)
        )
        expected = 1 - ((target - rebuilt) ** 2).sum() / (target**2).sum()
        assert _r2(from_factors.over(~fitted, every), path)[k - 1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("centuries", "fitted"), [(2, 1), (7, 3), (8, 4)])
def test_half_of_the_centuries_are_fitted_to(centuries: int, fitted: int) -> None:
    halves = [_half(centuries, np.random.default_rng(seed)) for seed in range(20)]
    assert {int(half.sum()) for half in halves} == {fitted}
    assert len({half.tobytes() for half in halves}) > 1


def test_few_planted_neurons_are_chosen_every_time() -> None:
    made = random_population(3, 40)
    strong = made.value.copy()
    strong[:, :, [4, 17, 30]] *= 30
    found = few(replace(made, value=strong)).pursuit
    assert set(found.order[:3]) == {made.neurons[n] for n in (4, 17, 30)}
    assert [frequency for _, frequency in found.frequency[:3]] == [1.0] * 3
    assert found.neurons_for(0.9) == 3


def test_near_duplicates_share_their_frequency() -> None:
    made = random_population(4, 20, noise=0.3)
    value, readout = 10 * made.value, made.readout.copy()
    value[:, :, 0] = 10 * value[:, :, 2] * 1
    rng = np.random.default_rng(0)
    value[:, :, 1] = value[:, :, 0] * (1 + 0.3 * rng.normal(size=(20, 1)))
    readout[1] = readout[0]
    twins = few(replace(made, value=value, readout=readout), most=1).pursuit.frequency
    assert {neuron for neuron, _ in twins} == {made.neurons[0], made.neurons[1]}
    assert sum(frequency for _, frequency in twins) == pytest.approx(1.0)


@pytest.mark.parametrize("last_bits", [1e-9, -1e-9])
def test_the_first_of_twins_is_chosen_whatever_their_last_bits(last_bits: float) -> None:
    made = random_population(3)
    factors = pursued(made).over(np.ones(20, bool), np.ones(97, bool))
    strongest = _path(factors, 1).order[0]
    A, R = factors.A.copy(), factors.R.copy()
    twin = len(R) - 1 if strongest != len(R) - 1 else 0
    A[:, twin], R[twin] = A[:, strongest] * (1 + last_bits), R[strongest]
    twins = replace(factors, A=A, R=R, RR=R @ R.T)
    chosen = _path(twins, len(R)).order.tolist()
    assert chosen[0] == min(strongest, twin)
    assert max(strongest, twin) not in chosen


def test_the_reconstruction_shown_reaches_ninety_percent() -> None:
    found = few(random_population(5, 30))
    left = found.whole.map - found.pursuit.reconstruction
    assert found.pursuit.shown == found.pursuit.neurons_for(0.9)
    assert 1 - (left**2).sum() / (found.whole.map**2).sum() > 0.9


def test_the_cap_on_candidates_is_stated() -> None:
    found = few(random_population(6, 30), cap=10)
    assert found.pursuit.candidates == 10
    assert "matching pursuit over the 10 largest maps of 30 neurons" in found.notes


# --- named shapes ----------------------------------------------------------------------------------


def test_the_terms_are_what_they_are_called() -> None:
    term = dict(zip(TERMS, shapes([30], 20.0), strict=True))
    y = np.arange(100)
    np.testing.assert_allclose(term["step"][0], (y > 30) - (y > 30).mean())
    decay = np.where(y > 30, 1 - np.exp(-(y - 30.0) / 20), 0)
    np.testing.assert_allclose(term["decay"][0], decay - decay.mean())
    assert term["span_limit"][0][80] < 0 < term["span_limit"][0][81]
    assert term["diagonal"][0].argmax() == 30
    assert np.flatnonzero(term["same_digit"][0] > 0).tolist() == list(range(0, 100, 10))


def test_planted_coefficients_are_recovered() -> None:
    truth = np.random.default_rng(0).normal(size=len(TERMS))
    target = np.tensordot(truth, shapes(YEARS.tolist(), 15.0), 1)
    found = regression(target, 15.0)
    np.testing.assert_allclose([term.coefficient for term in found.terms], truth, atol=1e-9)
    assert found.r2 == pytest.approx(1)


def test_shares_are_the_r2_lost_in_a_loop() -> None:
    rng = np.random.default_rng(1)
    target = centred(3.0 * ABOVE + rng.normal(size=(97, 100)))
    found = regression(target)
    X = shapes(YEARS.tolist(), 20.0).reshape(len(TERMS), -1).T

    def r2(columns: list[int]) -> float:
        _, residual, *_ = np.linalg.lstsq(X[:, columns], target.reshape(-1), rcond=None)
        return 1 - residual[0] / (target**2).sum()

    for t, term in enumerate(found.terms):
        others = [column for column in range(len(TERMS)) if column != t]
        assert term.share == pytest.approx(r2(list(range(len(TERMS)))) - r2(others), abs=1e-9)
        assert term.alone == pytest.approx(r2([t]), abs=1e-9)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (ABOVE * 1.0, "the triangle"),
        (np.exp(-np.abs(np.arange(100) - YEARS[:, None]) / 2), "the diagonal"),
        (-1.0 * (np.arange(100) > YEARS[:, None] + 50), "the span limit"),
        (np.tile(np.arange(100.0), (97, 1)), "a bias to late years"),
        (np.tile(np.cos(np.arange(100) * np.pi / 5), (97, 1)), "a last-digit pattern"),
        (np.random.default_rng(0).normal(size=(97, 100)), "no named shape"),
    ],
)
def test_maps_are_named_by_what_they_are(target: np.ndarray, words: str) -> None:
    assert regression(centred(target)).writes == words


def test_coefficients_of_noisy_centuries_lie_in_their_intervals() -> None:
    """A step of 2 logits, each century with a gain of its own around it: Student's interval of the mean gain."""
    step = centred(ABOVE * 1.0)
    U, S, Vh = np.linalg.svd(step, full_matrices=False)
    made = population(2 * U * S, Vh, noise=0.0)
    gain = 1 + 0.3 * np.random.default_rng(5).normal(size=20)
    made = replace(made, value=made.value * gain[:, None, None].astype(np.float32))
    term = next(t for t in few(made).whole.regression.terms if t.term == "step")
    assert term.coefficient == pytest.approx(2 * gain.mean(), abs=1e-3)
    low, high = student.interval(0.95, 19, 2 * gain.mean(), 2 * sem(gain))
    assert (term.ci_low, term.ci_high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_intervals_are_of_coefficients_without_each_century() -> None:
    """With years that some centuries lack."""
    rng = np.random.default_rng(2)
    held = rng.random((4, 97)) < 0.8
    held[0] = True
    maps = Cells(rng.normal(size=(4, 97, 100)), held)
    X = shapes(YEARS.tolist(), 20.0).reshape(len(TERMS), -1).T
    without = np.stack([np.linalg.lstsq(X, one.reshape(-1), rcond=None)[0] for one in left_out(maps)])
    error = np.sqrt(3 / 4 * ((without - without.mean(0)) ** 2).sum(0))
    terms = regress(YEARS.tolist(), 20.0, maps).terms
    half = np.array([(term.ci_high - term.ci_low) / 2 for term in terms])
    np.testing.assert_allclose(half, student.ppf(0.975, 3) * error, rtol=1e-8)


# --- signs -----------------------------------------------------------------------------------------


def windows(count: int) -> Population:
    """Each fires for its own start years only and raises the years after them."""
    edges = np.linspace(2, 99, count + 1)
    curves = (YEARS[:, None] >= edges[:-1]) & (YEARS[:, None] < edges[1:])
    readout = np.arange(100) > (edges[:-1, None] + edges[1:, None]) / 2
    return population(curves * 1.0, readout * 1.0, noise=0.0)


def test_all_windows_are_needed_for_the_sign() -> None:
    signs = count_signs(windows(20), np.arange(20), 50)
    assert signs.all_neurons > 0.95
    assert reached(signs.by_score.tolist(), 0.95) in (19, 20)
    assert reached(signs.greedy.tolist(), 0.95) in (19, 20)


def test_signs_by_score_are_those_of_the_partial_sums() -> None:
    made = random_population(7, 9)
    signs = count_signs(made, np.arange(9), 9)
    for k in (1, 5, 9):
        rows = np.argsort(-made.score)[:k]
        partial = made.curve[:, rows] @ made.readout[rows]
        assert signs.by_score[k - 1] == pytest.approx(((partial > 0) == ABOVE).mean())


def test_the_greedy_choice_is_the_best_single_neuron() -> None:
    made = random_population(8, 9)
    signs = count_signs(made, np.arange(9), 1)
    each = [((np.outer(made.curve[:, n], made.readout[n]) > 0) == ABOVE).mean() for n in range(9)]
    assert signs.greedy_order == (made.neurons[int(np.argmax(each))],)
    assert signs.greedy[0] == pytest.approx(max(each))


def test_a_sign_that_is_never_right_says_what_it_reaches() -> None:
    made = few(random_population(9, 10))
    record = made.to_json()["sign"]
    assert record["by_score"]["neurons"] is None
    assert record["all_neurons"] < 0.95
    assert any("below 95 %" in note for note in made.notes)


# --- degenerate and repeatable ---------------------------------------------------------------------


def test_maps_of_nothing_are_stated() -> None:
    made = population(np.zeros((97, 3)), np.eye(3, 100), noise=0.0)
    found = few(made)
    assert "the neurons' maps add up to nothing: there is nothing to reconstruct" in found.notes
    assert found.whole.regression.r2 is None
    assert found.pursuit.order == ()
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("count", [1, 2])
def test_one_neuron_is_rebuilt_by_itself(count: int) -> None:
    found = few(random_population(1, count))
    assert len(found.pursuit.order) == count
    assert found.pursuit.r2_heldout[-1] == pytest.approx(1)
    json.dumps(found.to_json(), allow_nan=False)


def test_one_century_holds_nothing_out() -> None:
    found = few(random_population(1, 4, centuries=1))
    assert found.pursuit.r2_heldout == ()
    assert found.pursuit.frequency == ()
    assert "held-out R^2, selection and intervals need 2 centuries" in found.notes
    json.dumps(found.to_json(), allow_nan=False)


def test_constant_neurons_are_composed_as_any_other() -> None:
    found = few(population(np.ones((97, 4)), np.eye(4, 100), noise=0.0))
    assert found.whole.components_for(0.99) == 1
    assert found.tuning.families == ("constant",) * 4


def test_the_json_is_the_same_bit_for_bit() -> None:
    made, _ = of_kinds(each=3)
    one, two = (json.dumps(few(made, seed=4).to_json()) for _ in range(2))
    assert one == two


def test_maps_are_year_centred() -> None:
    maps = maps_of(random_population(0), {"some": np.arange(5)})
    np.testing.assert_allclose(maps["some"].value.sum(2), 0, atol=1e-9)


def test_neurons_in_small_parts_make_the_same_curves_and_maps(
    mini_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The neurons in any order, over two layers."""
    picked = np.random.default_rng(0).permutation(1024)[:300]
    groups = {"some": np.arange(0, 300, 7), "none": np.zeros(0, int)}
    whole, parts = (neuron_population(logit_effects(mini_cache)).take(picked) for _ in range(2))
    expected, curve = maps_of(whole, groups), whole.curve
    monkeypatch.setattr("neurons.decomposition.effects.PART_NUMBERS", 8 * 97 * 40)
    assert len(list(neuron_parts(whole.held.size, 300))) > 5
    np.testing.assert_allclose(parts.curve, curve, atol=1e-12)
    found = maps_of(parts, groups)
    np.testing.assert_allclose(found["some"].value, expected["some"].value, rtol=1e-9, atol=1e-9)
    assert not found["none"].value.any()
