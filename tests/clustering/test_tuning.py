"""Tuning: planted families are found, a null has none, and every number agrees with another way to get it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from conftest import PlantedCase
from populations import KINDS, YEARS, of_kinds, permuted, population
from scipy import stats

from neurons.cache.format import Cache
from neurons.clustering.families import FAMILIES, n_parameters
from neurons.clustering.heuristics import matches
from neurons.clustering.results import Tuning
from neurons.clustering.tuning import is_constant, tune, year_fold
from neurons.decomposition.effects import logit_effects, plain_logit_lens
from neurons.decomposition.population import Population, neuron_population, strongest
from neurons.ranking.ranking import rank
from neurons.types import InputError

SEEDS = (0, 1, 2)
PLACES = {"step": 55, "bump": 35, "periodic": 4, "ramp": 60}


def place_error(family: str, parameters: dict[str, float], truth: float) -> float:
    found = parameters.get("threshold", parameters.get("centre", np.nan))
    error = found - truth
    return abs((error + 5) % 10 - 5 if family == "periodic" else error)


def of_curves(*curves: np.ndarray, noise: float = 0.05, **settings: int) -> Tuning:
    readout = np.tile(np.arange(100) > 50, (len(curves), 1)).astype(float)
    return tune(population(np.stack(curves, 1), readout, noise=noise, **settings))


def noise_curves(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(YEARS), count))


# --- planted truth and null ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_curves_get_their_family_and_place(seed: int) -> None:
    made, moved = of_kinds(seed=seed)
    names = np.repeat(KINDS, 12)
    fits = tune(made).neurons
    assert np.mean([fit.tuning.family == name for fit, name in zip(fits, names, strict=True)]) >= 0.95
    for fit, name, by in zip(fits, names, moved, strict=True):
        if fit.tuning.family == name and name in PLACES:
            assert place_error(name, fit.tuning.parameters, PLACES[name] + by) < 2


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_neurons_of_a_model_get_their_family_and_place(
    kinds_case: Callable[[int], PlantedCase], seed: int
) -> None:
    case = kinds_case(seed)
    role = {neuron: kind for kind, members in case.truth.roles.items() for neuron in members}
    everything = neuron_population(logit_effects(case.cache))
    fits = tune(everything.take(everything.rows(list(role)))).neurons
    wanted = {neuron: "constant" if kind == "always_on" else kind for neuron, kind in role.items()}
    assert np.mean([fit.tuning.family == wanted[fit.neuron] for fit in fits]) >= 0.95
    for fit in fits:
        truth = case.truth.parameters[fit.neuron]
        place = truth.get("threshold", truth.get("centre"))
        if place is not None and fit.tuning.family == wanted[fit.neuron]:
            assert place_error(fit.tuning.family, fit.tuning.parameters, place) < 2


@pytest.mark.parametrize("seed", SEEDS)
def test_permuted_start_years_have_no_family(kinds_case: Callable[[int], PlantedCase], seed: int) -> None:
    """Of a planted model's neurons and of some random ones around them."""
    case = kinds_case(seed)
    everything = neuron_population(logit_effects(case.cache))
    planted = everything.rows(neuron for members in case.truth.roles.values() for neuron in members)
    some = np.union1d(planted, np.arange(0, len(everything), 8))
    families = tune(permuted(everything.take(some), seed=seed)).families
    assert np.mean([family not in ("constant", "none") for family in families]) < 0.1


def test_permuted_planted_curves_have_no_family() -> None:
    families = tune(permuted(of_kinds(each=20)[0], seed=4)).families
    assert np.mean([family not in ("constant", "none") for family in families]) < 0.1


def test_a_single_tuned_start_year_is_no_bump() -> None:
    """One odd year explains the whole variance of a curve, but predicts no year that was left out."""
    spike = np.where(YEARS == 47, 1.0, 0.0) + 0.01 * noise_curves(1)[:, 0]
    assert of_curves(spike).families == ("none",)


# --- the choice ------------------------------------------------------------------------------------


def test_little_variation_is_constant_and_more_is_not() -> None:
    wave = np.sin(YEARS)
    curves = np.stack([1 + 0.09 * wave / wave.std(), 1 + 0.12 * wave / wave.std(), 0 * wave, -1 + 0.05 * wave], 1)
    assert is_constant(curves).tolist() == [True, False, True, True]


def test_a_line_is_not_called_ramp_or_step() -> None:
    lines = [(YEARS + 20) / 120 * size for size in (1, 2, 5)]
    assert of_curves(*lines, noise=0.2).families == ("line",) * 3


def test_a_staircase_of_the_tens_digit_is_found() -> None:
    level = np.random.default_rng(3).normal(size=10)
    found = of_curves(level[YEARS // 10]).neurons[0].tuning
    assert found.family == "staircase"
    assert [found.parameters[f"level_{tens}0s"] for tens in range(10)] == pytest.approx(level, abs=0.15)


def test_falling_steps_and_dips_are_found() -> None:
    fall = 1 / (1 + np.exp((YEARS - 40) / 2))
    dip = 2 - np.exp(-(((YEARS - 60) / 6) ** 2) / 2)
    step, bump = (fit.tuning for fit in of_curves(fall, dip).neurons)
    assert (step.family, bump.family) == ("step", "bump")
    assert step.parameters["before"] > step.parameters["after"]
    assert bump.parameters["height"] == pytest.approx(-1, abs=0.1)


def test_noise_is_none_and_says_how_near_the_best_came() -> None:
    found = tune(population(noise_curves(20), np.eye(20, 100), noise=0.0)).neurons
    assert {fit.tuning.family for fit in found} == {"none"}
    assert all(fit.tuning.r2_cv == max(fit.tuning.r2_by_family.values()) < 0.5 for fit in found)


def test_steps_are_refined_beyond_the_grid() -> None:
    found = of_curves(1 / (1 + np.exp(-(YEARS - 43.27) / 2.6)), noise=0.0).neurons[0].tuning
    assert found.parameters["threshold"] == pytest.approx(43.27, abs=1e-4)
    assert found.parameters["slope"] == pytest.approx(1 / 2.6, abs=1e-4)


def test_every_year_is_left_out_once_and_no_last_digit_altogether() -> None:
    fold = year_fold(tuple(range(100)))
    assert np.bincount(fold).tolist() == [20] * 5
    for left_out in range(5):
        assert {year % 10 for year in np.flatnonzero(fold != left_out)} == set(range(10))


def test_aicc_of_a_line_is_that_of_a_polynomial_fit() -> None:
    curve = 0.02 * YEARS + noise_curves(1)[:, 0]
    made = population(curve[:, None], np.eye(1, 100), noise=0.0)
    residual = curve.astype(np.float32) - np.polyval(np.polyfit(YEARS, curve, 1), YEARS)
    n, p = len(YEARS), 3
    expected = n * np.log((residual**2).mean()) + 2 * p + 2 * p * (p + 1) / (n - p - 1)
    assert tune(made).neurons[0].tuning.aicc_by_family["line"] == pytest.approx(expected, rel=1e-5)


def test_held_out_r2_of_a_line_is_that_of_a_loop() -> None:
    made = population((0.05 * YEARS + noise_curves(1)[:, 0])[:, None], np.eye(1, 100), centuries=1, noise=0.0)
    curve, fold, line, mean = made.curve[:, 0], year_fold(made.start_years), 0.0, 0.0
    for left_out in range(5):
        kept = fold != left_out
        prediction = np.polyval(np.polyfit(YEARS[kept], curve[kept], 1), YEARS[~kept])
        line += ((prediction - curve[~kept]) ** 2).sum()
        mean += ((curve[kept].mean() - curve[~kept]) ** 2).sum()
    assert tune(made).neurons[0].tuning.r2_by_family["line"] == pytest.approx(1 - line / mean)


def test_centuries_that_disagree_have_no_family() -> None:
    """Each century has a clean step of its own; the mean curve of some does not predict the others."""
    rng = np.random.default_rng(0)
    made = population(np.ones((97, 1)), np.eye(1, 100), centuries=4, noise=0.0)
    steps = [np.where(at < YEARS, sign, -sign) for at, sign in zip((20, 45, 50, 80), (1, -1, 1, -1), strict=True)]
    sums = np.stack(steps)[:, :, None] + 0.01 * rng.normal(size=(4, 97, 1))
    assert tune(replace(made, value=sums.astype(np.float32))).families == ("none",)


# --- the arrays ------------------------------------------------------------------------------------


def test_gathered_curves_and_scores_are_those_of_effects_and_ranking(mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache)
    found, ranking = neuron_population(effects), rank(effects)
    layer = found.layer == 9
    np.testing.assert_allclose(found.curve[:, layer], effects.tuning(9), atol=1e-6)
    order = found.rows(ranking.neurons)
    np.testing.assert_allclose(found.score[order], ranking.score, atol=1e-9)
    np.testing.assert_allclose(found.readout.sum(1), 0, atol=1e-12)


def test_gather_refuses_the_plain_lens(mini_cache: Cache) -> None:
    with pytest.raises(InputError, match="exact effects"):
        neuron_population(plain_logit_lens(mini_cache))


def test_an_absent_neuron_is_refused() -> None:
    with pytest.raises(InputError, match="L3N1 is not among"):
        of_kinds()[0].rows(["L3N1"])


def test_a_curve_over_some_centuries_is_the_mean_of_their_cells(mini_cache: Cache) -> None:
    """A year that none of them has keeps the full mean."""
    made = neuron_population(logit_effects(mini_cache)).take(np.arange(5))
    some, every = np.arange(made.n_centuries) % 3 == 0, np.ones(made.held.shape, bool)
    full = replace(made, held=every)
    np.testing.assert_allclose(full.curve_over(some), made.value[some].mean(0, dtype=float), atol=1e-6)
    every[some, 7] = False
    gappy = replace(made, held=every)
    np.testing.assert_allclose(gappy.curve_over(some)[7], gappy.curve[7])


def test_the_interval_is_students_over_centuries() -> None:
    """With every cell there a jackknife of means is the textbook's standard error."""
    made = of_kinds(each=2)[0]
    found = tune(made)
    error = stats.sem(made.value.astype(float), axis=0)
    low, high = stats.t.interval(0.95, made.n_centuries - 1, made.curve, error)
    np.testing.assert_allclose(found.low, low, atol=1e-5)
    np.testing.assert_allclose(found.high, high, atol=1e-5)


def test_strongest_keeps_the_order_of_equals() -> None:
    assert strongest(np.array([1.0, 3, 3, 2]), 3).tolist() == [1, 2, 3]


# --- heuristics and words --------------------------------------------------------------------------


def made_of(curve: np.ndarray, centuries: int = 4) -> Population:
    return population(curve[:, None], np.eye(1, 100), centuries=centuries, noise=0.02)


def test_heuristics_are_recognised_by_the_most_activating_prompts() -> None:
    last = matches(made_of((YEARS % 10 == 7) * 1.0))[0]
    tens = matches(made_of((YEARS // 10 == 3) * 1.0))[0]
    one = matches(made_of((YEARS == 42) * 1.0))[0]
    assert [(m.kind, m.years, m.match) for m in last if m.kind == "last digit"] == [("last digit", "ending in 7", 1.0)]
    assert ("tens digit", "30-39", 1.0) in [(m.kind, m.years, m.match) for m in tens]
    assert ("identity", "42", 1.0) in [(m.kind, m.years, m.match) for m in one]


def test_a_match_is_the_share_of_the_top_k_prompts() -> None:
    made = made_of(np.exp(-(((YEARS - 34.6) / 7) ** 2) / 2), centuries=6)
    top = np.argsort(-made.value[:, :, 0].reshape(-1))
    share = np.mean((np.tile(YEARS, 6)[top[:60]] // 10) == 3)
    assert share >= 0.6
    assert [m.match for m in matches(made)[0] if m.kind == "tens digit"] == [pytest.approx(share)]


def test_noise_follows_hardly_any_heuristic() -> None:
    rng = np.random.default_rng(0)
    made = of_kinds(each=50)[0]
    random = replace(made, value=rng.normal(size=made.value.shape).astype(np.float32))
    assert np.mean([bool(found) for found in matches(random)]) < 0.05


def test_a_neuron_is_described_in_one_line() -> None:
    made = population(1 / (1 + np.exp(-(YEARS[:, None] - 58.4) / 2)), (np.arange(100) > 71)[None] * 1.0)
    text = tune(made).neurons[0].description
    assert text == "fires for start years 59-98 (step at 58), raises years from 72 on"


def test_a_negative_activation_turns_the_words_round() -> None:
    made = population(-1 / (1 + np.exp(-(YEARS[:, None] - 58.4) / 2)), (np.arange(100) > 71)[None] * 1.0)
    text = tune(made).neurons[0].description
    assert text == "is below zero for start years 59-98 (step at 58), raises years 00-71"


# --- degenerate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("years", [1, 3, 11])
def test_few_start_years_allow_few_families(years: int) -> None:
    curves = np.linspace(0, 1, years)[:, None] ** 2
    fit = tune(population(curves, np.eye(1, 100))).neurons[0].tuning
    assert fit.family in FAMILIES or fit.family == "none"
    assert all(n_parameters(family, YEARS[:years].tolist()) < years for family in fit.r2_by_family)


def test_one_century_has_families_but_no_interval() -> None:
    found = of_curves(1 / (1 + np.exp(-(YEARS - 40) / 2)), centuries=1)
    assert found.families == ("step",)
    assert np.isnan(found.low).all()


def test_a_dead_neuron_never_fires() -> None:
    found = of_curves(np.zeros(97), noise=0.0).neurons[0]
    assert found.tuning.family == "constant"
    assert found.description.startswith("never fires")
    assert found.heuristics == ()


def test_no_neuron_gives_no_fit() -> None:
    assert len(tune(of_kinds()[0].take(np.zeros(0, int)))) == 0


def test_fits_are_the_same_each_time() -> None:
    made = permuted(of_kinds(each=4)[0], seed=0)
    one, two = ([fit.record() for fit in tune(made, seed=5).neurons] for _ in range(2))
    assert one == two
