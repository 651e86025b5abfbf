"""Composition: maps from factors are the direct ones, planted coefficients are recovered, sums are what they say."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from populations import YEARS, of_kinds, population
from scipy.stats import sem
from scipy.stats import t as student

from neurons.attribution.results import Attributed
from neurons.cache.format import Cache
from neurons.clustering.tuning import tune
from neurons.decomposition.effects import logit_effects, neuron_parts
from neurons.decomposition.population import Population, neuron_population
from neurons.intervals import Cells, left_out
from neurons.ranking.sets import first_of, kept_measures
from neurons.regression.composition import compose
from neurons.regression.faithfulness import behaviour_of_first
from neurons.regression.parts import maps_of
from neurons.regression.results import Composition, Regression
from neurons.regression.sparse import sparse_curve, sparse_sizes
from neurons.regression.terms import TERMS, regress, shapes
from neurons.study.study import Study
from neurons.types import NeuronId

ABOVE = np.arange(100) > YEARS[:, None]


def centred(values: np.ndarray) -> np.ndarray:
    rows = values - values.mean(-1, keepdims=True)
    return rows - rows.mean(-2, keepdims=True)


def regression(target: np.ndarray) -> Regression:
    return regress(YEARS.tolist(), Cells(target[None], np.ones((1, 97), bool)))


def random_population(seed: int, count: int = 12, **settings: float) -> Population:
    rng = np.random.default_rng(seed)
    return population(rng.normal(size=(97, count)), rng.normal(size=(count, 100)), seed=seed, **settings)


def few(made: Population, **settings: Any) -> Composition:
    return compose(made, tune(made), groups={}, **settings)


# --- exactness -------------------------------------------------------------------------------------


def test_the_composed_map_is_the_mean_of_direct_effects(mini_cache: Cache) -> None:
    """Prompt by prompt, neuron by neuron, for some start years that every century has."""
    effects = logit_effects(mini_cache)
    everything = neuron_population(effects)
    composed = compose(everything, tune(everything.take(np.arange(2))), groups={})
    for year in (2, 32, 98):
        prompts = np.flatnonzero(mini_cache.start_year == year)
        direct = np.zeros((len(prompts), 100))
        for layer in effects.layers:
            direct += effects.activation(layer)[prompts].astype(float) @ effects.readout(layer).astype(float)
        expected = direct.mean(0) - direct.mean()
        np.testing.assert_allclose(composed.whole.map[year - 2], expected, atol=1e-6 * np.abs(expected).max())


def test_layers_add_up_to_the_whole(mini_cache: Cache) -> None:
    everything = neuron_population(logit_effects(mini_cache))
    found = compose(everything, tune(everything.take(np.arange(2))), groups={})
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


# --- named shapes ----------------------------------------------------------------------------------


def test_the_terms_are_what_they_are_called() -> None:
    raw = np.arange(100) - YEARS[:, None]
    expected = [raw > 0, np.exp(-np.abs(raw) / 2), raw > 50, np.maximum(raw, 0) / 100]
    for found, shape in zip(shapes(YEARS.tolist()), expected, strict=True):
        np.testing.assert_allclose(found, centred(shape * 1.0), atol=1e-12)
    assert TERMS == ("step", "diagonal", "span_limit", "later_slope")


def test_a_lean_that_looks_at_no_start_year_is_nothing() -> None:
    lean = np.tile(np.linspace(-1, 1, 100), (97, 1))
    assert regression(lean).r2 is None
    with_step = regression(lean + 3 * ABOVE)
    assert with_step.r2 == pytest.approx(1)
    assert with_step.alone("step") == pytest.approx(1)


def test_planted_coefficients_are_recovered() -> None:
    truth = np.random.default_rng(0).normal(size=len(TERMS))
    found = regression(np.tensordot(truth, shapes(YEARS.tolist()), 1))
    np.testing.assert_allclose([term.coefficient for term in found.terms], truth, atol=1e-9)
    assert found.r2 == pytest.approx(1)


def test_shares_are_the_r2_lost_in_a_loop() -> None:
    rng = np.random.default_rng(1)
    target = centred(3.0 * ABOVE + rng.normal(size=(97, 100)))
    found = regression(target)
    X = shapes(YEARS.tolist()).reshape(len(TERMS), -1).T

    def r2(columns: list[int]) -> float:
        _, residual, *_ = np.linalg.lstsq(X[:, columns], target.reshape(-1), rcond=None)
        return 1 - residual[0] / (target**2).sum()

    for t, term in enumerate(found.terms):
        others = [column for column in range(len(TERMS)) if column != t]
        assert term.share == pytest.approx(r2(list(range(len(TERMS)))) - r2(others), abs=1e-9)
        assert term.alone == pytest.approx(r2([t]), abs=1e-9)


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


def test_intervals_and_held_out_r2_leave_each_century_out() -> None:
    """With years that some centuries lack."""
    rng = np.random.default_rng(2)
    held = rng.random((4, 97)) < 0.8
    held[0] = True
    maps = Cells(2 * ABOVE + rng.normal(size=(4, 97, 100)), held)
    X = shapes(YEARS.tolist()).reshape(len(TERMS), -1).T
    without = np.stack([np.linalg.lstsq(X, centred(one).reshape(-1), rcond=None)[0] for one in left_out(maps)])
    error = np.sqrt(3 / 4 * ((without - without.mean(0)) ** 2).sum(0))
    found = regress(YEARS.tolist(), maps)
    half = np.array([(term.ci_high - term.ci_low) / 2 for term in found.terms])
    np.testing.assert_allclose(half, student.ppf(0.975, 3) * error, rtol=1e-8)
    wrong = total = 0.0
    for c in range(4):
        target = centred(maps.value[c][held[c]])
        predicted = np.tensordot(without[c], shapes(YEARS.tolist()), 1)[held[c]]
        wrong += ((target - centred(predicted)) ** 2).sum()
        total += (target**2).sum()
    assert found.r2_heldout == pytest.approx(1 - wrong / total)


# --- the sparse curve ------------------------------------------------------------------------------


def test_sizes_double_and_end_with_all() -> None:
    assert sparse_sizes(10, 3, None, 99) == (1, 2, 3, 4, 8, 10)
    assert sparse_sizes(8) == (1, 2, 4, 8)
    assert sparse_sizes(1) == (1,)


def test_sums_of_the_first_neurons_have_their_own_weights() -> None:
    made = random_population(3, 9)
    found = sparse_curve(made, None, (1, 4, 9))
    order = np.argsort(-made.score)
    whole = centred(made.curve @ made.readout)
    for place, k in enumerate(found.sizes):
        rows = order[:k]
        some = centred(made.curve[:, rows] @ made.readout[rows])
        np.testing.assert_allclose(found.maps[place], some, atol=1e-5)
        assert found.r2[place] == pytest.approx(1 - ((whole - some) ** 2).sum() / (whole**2).sum())
    assert found.r2[-1] == 1


def test_with_attribution_order_and_map_are_of_different_centuries(
    mini_cache: Cache, mini_attributed: Attributed
) -> None:
    everything = neuron_population(logit_effects(mini_cache))
    share = mini_attributed.share("probability_difference")
    found = sparse_curve(everything, share, (32, 1024))
    r2 = []
    for chosen in (np.arange(8) % 2 == 0, np.arange(8) % 2 == 1):
        rows = share.order(chosen)[:32]
        curve = everything.curve_over(~chosen)
        whole, some = centred(curve @ everything.readout), centred(curve[:, rows] @ everything.readout[rows])
        r2.append(1 - ((whole - some) ** 2).sum() / (whole**2).sum())
    assert found.held_out
    assert found.r2[0] == pytest.approx(np.mean(r2))
    assert found.r2[1] == 1


def test_recovered_behaviour_is_that_of_kept_sets(mini_cache: Cache, mini_attributed: Attributed) -> None:
    ctx = Study(cache_dir=mini_cache.path.parent).context()
    found = behaviour_of_first(ctx, mini_attributed, (64, 1024), seed=0)
    share = mini_attributed.share("probability_difference")
    for measure, values in found.items():
        halves = []
        for chosen in (np.arange(8) % 2 == 0, np.arange(8) % 2 == 1):
            rows = ctx.rows[np.isin(ctx.cache.century[ctx.rows], np.array(share.centuries)[~chosen])]
            some = replace(ctx, rows=rows)
            sets = first_of(share.order(chosen), [0, 64, 1024])
            halves.append(kept_measures(some, sets, measures=[measure], draws=1, seed=0)[measure].mean(1))
        floor, part, clean = np.mean(halves, 0)
        np.testing.assert_allclose(values, [(part - floor) / (clean - floor), 1], atol=1e-9)


# --- degenerate and repeatable ---------------------------------------------------------------------


def test_maps_of_nothing_are_stated() -> None:
    found = few(population(np.zeros((97, 3)), np.eye(3, 100), noise=0.0))
    assert "the neurons' maps add up to nothing" in found.notes
    assert found.whole.regression.r2 is None
    assert not found.sparse.r2.any()
    json.dumps(found.to_json(), allow_nan=False)


def test_one_century_holds_nothing_out() -> None:
    found = few(random_population(1, 4, centuries=1))
    assert found.whole.regression.r2_heldout is None
    assert found.whole.regression.terms[0].ci_low is None
    assert "held-out R^2 and intervals need 2 centuries" in found.notes
    json.dumps(found.to_json(), allow_nan=False)


def test_constant_neurons_have_no_doubly_centred_map() -> None:
    found = few(population(np.ones((97, 4)), np.eye(4, 100), noise=0.0))
    assert found.whole.regression.r2 is None
    assert found.tuning.families == ("constant",) * 4


def test_the_json_is_the_same_bit_for_bit() -> None:
    made, _ = of_kinds(each=3)
    one, two = (json.dumps(few(made).to_json()) for _ in range(2))
    assert one == two
