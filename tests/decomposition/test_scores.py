"""Direct-effect scores: the parts add up, silent and constant neurons have none, centre and edge are those planted."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PlantedCase
from scipy.stats import t as student

from neurons.cache.format import Cache
from neurons.decomposition.effects import logit_effects, plain_logit_lens
from neurons.decomposition.scores import DirectScores, direct_scores
from neurons.task.years import MEASURED, contrast_weights
from neurons.types import InputError

NOUNS, NEURONS, WIDTH = 12, 1500, 64
YEARS = np.arange(100)


@dataclass(frozen=True, eq=False)
class MadeUp(Cache):
    """A cache without a file: arrays by the names of the format."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def read(self, dataset: str, part: Any = ()) -> np.ndarray:
        return np.asarray(self.arrays[dataset][part])

    def _of_each_prompt(self, dataset: str) -> np.ndarray:
        return self.read(dataset)


def smooth_curves(rng: np.random.Generator, count: int, length: float) -> np.ndarray:
    """[100, count] Gaussian processes over the years with a correlation length in years."""
    distance = YEARS[:, None] - YEARS
    covariance = np.exp(-(distance**2) / (2 * length**2)) + 1e-8 * np.eye(100)
    return np.linalg.cholesky(covariance) @ rng.normal(size=(100, count))


def made_up(*, seed: int, length: float, nouns: int = NOUNS, neurons: int = NEURONS) -> MadeUp:
    """Neurons with smooth random tuning that write in random directions; years resemble their neighbours.

    Each noun has a century of its own, 11 and on.
    """
    rng = np.random.default_rng(seed)
    start_year, noun = np.tile(YEARS, nouns), np.repeat(np.arange(nouns), 100)
    post = (3 + smooth_curves(rng, neurons, length))[start_year] + 0.1 * rng.normal(size=(nouns * 100, neurons))
    G = smooth_curves(rng, WIDTH, 3) + 0.3 * rng.normal(size=(100, WIDTH))
    G -= G.mean(1, keepdims=True)
    w_out = rng.normal(size=(neurons, WIDTH))
    w_out -= w_out.mean(1, keepdims=True)
    arrays = {
        "mlp/7/post": post, "final/scale": np.ones(len(post)), "readout/7": w_out @ G.T,
        "readout/7_norm": np.linalg.norm(w_out, axis=1), "years/gram": G @ G.T, "G": G,
    }  # fmt: skip
    return MadeUp(
        path=Path("nowhere"), key="", model="made up", model_sha256="", layers=(7,), d_mlp=neurons, d_gain=WIDTH,
        template="", versions={}, start_year=start_year, century=11 + noun,
        noun=tuple(f"noun{j}" for j in noun), counterfactual=noun, missing=(), arrays=arrays,
    )  # fmt: skip


@pytest.fixture(scope="module")
def smooth() -> MadeUp:
    return made_up(seed=0, length=20)


@pytest.fixture(scope="module")
def scores(mini_cache: Cache) -> DirectScores:
    return direct_scores(logit_effects(mini_cache))


SOME = [(8, 0), (9, 43), (11, 200)]


def place(scores: DirectScores, layer: int, index: int) -> int:
    return int(np.flatnonzero((scores.layer == layer) & (scores.index == index))[0])


# --- the parts -------------------------------------------------------------------------------------


def test_every_neuron_of_the_layers_is_scored_layer_by_layer(scores: DirectScores, mini_cache: Cache) -> None:
    assert scores.layer.tolist() == np.repeat([8, 9, 10, 11], mini_cache.d_mlp).tolist()
    assert scores.index.tolist() == list(range(mini_cache.d_mlp)) * 4
    assert len(scores.pairing) == 4


def test_the_score_is_the_mean_contrast(scores: DirectScores, mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache)
    for layer, index in SOME:
        expected = effects.contrast(f"L{layer}N{index}").mean()
        assert scores.score[place(scores, layer, index)] == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_static_and_year_specific_parts_sum_to_the_score(scores: DirectScores) -> None:
    np.testing.assert_allclose(scores.static + scores.year_specific, scores.score, rtol=1e-12, atol=1e-15)


def test_the_parts_are_the_product_of_means_and_the_covariance(scores: DirectScores, mini_cache: Cache) -> None:
    effects, W = logit_effects(mini_cache), contrast_weights(MEASURED)
    for layer, index in SOME:
        row = place(scores, layer, index)
        tuning = effects.tuning(layer)[:, index].astype(float)
        contrast = W @ effects.readout(layer)[index].astype(float)
        assert scores.static[row] == pytest.approx(tuning.mean() * contrast.mean(), rel=1e-4, abs=1e-7)
        covariance = np.mean((tuning - tuning.mean()) * (contrast - contrast.mean()))
        assert scores.year_specific[row] == pytest.approx(covariance, rel=1e-3, abs=1e-6)


def test_the_score_of_one_start_year_is_the_contrast_there(mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache)
    found = direct_scores(effects, start_year=32)
    for layer, index in SOME:
        expected = effects.contrast(f"L{layer}N{index}")[30]
        assert found.score[place(found, layer, index)] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    np.testing.assert_allclose(found.static + found.year_specific, found.score, rtol=1e-12, atol=1e-15)


def test_the_average_over_start_years_is_the_score(mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache, years=[20, 50])
    both = direct_scores(effects)
    each = [direct_scores(effects, start_year=year).score for year in (20, 50)]
    np.testing.assert_allclose(both.score, np.mean(each, 0), rtol=1e-6, atol=1e-9)


def test_the_interval_holds_the_direct_effect(scores: DirectScores) -> None:
    held = (scores.low <= scores.year_specific) & (scores.year_specific <= scores.high)
    assert held.mean() > 0.99


def test_the_interval_is_a_jackknife_over_centuries_of_least_squares_on_years_and_centuries(mini_cache: Cache) -> None:
    """Ends within 1e-5 of the largest score: float32 activations are summed in another order."""
    effects, rows = logit_effects(mini_cache), np.isin(mini_cache.start_year, MEASURED)
    found, centuries = direct_scores(effects), np.unique(mini_cache.century)
    values = effects.readout(9).astype(float) @ contrast_weights(MEASURED).T / len(MEASURED)
    activation = effects.activation(9).astype(float)

    def specific(kept: np.ndarray) -> np.ndarray:
        cells = np.stack([mini_cache.century, mini_cache.start_year], 1)
        pairs = np.unique(cells[rows & kept], axis=0)
        mean = np.stack([activation[kept & (cells == pair).all(1)].mean(0) for pair in pairs])
        X = np.concatenate([pairs[:, 1:] == MEASURED, pairs[:, :1] == np.unique(pairs[:, 0])], 1).astype(float)
        X = np.concatenate([X, [np.arange(X.shape[1]) >= len(MEASURED)]])  # effects of centuries add up to zero
        solved = np.linalg.lstsq(X, np.concatenate([mean, np.zeros((1, mean.shape[1]))]))[0][: len(MEASURED)]
        return ((solved - solved.mean(0)).T * values).sum(1)

    whole = specific(np.ones(len(mini_cache), bool))
    without = np.stack([specific(mini_cache.century != century) for century in centuries])
    C = len(centuries)
    half = student.ppf(0.975, C - 1) * np.sqrt((C - 1) / C * ((without - without.mean(0)) ** 2).sum(0))
    tolerance, here = 1e-5 * np.abs(found.score).max(), found.layer == 9
    np.testing.assert_allclose(found.year_specific[here], whole, atol=tolerance)
    np.testing.assert_allclose(found.low[here], whole - half, atol=tolerance)
    np.testing.assert_allclose(found.high[here], whole + half, atol=tolerance)


def test_one_century_has_no_interval() -> None:
    lone = made_up(seed=0, length=20, nouns=1, neurons=50)
    assert np.isnan(direct_scores(logit_effects(lone)).low).all()


def test_negated_readouts_exchange_the_ends(planted_case: Callable[[int], PlantedCase]) -> None:
    effects = logit_effects(planted_case(0).cache)
    cache = effects.cache
    names = [
        f"{group}/{layer}{end}" for layer in cache.layers for group, end in (("mlp", "/post"), ("readout", "_norm"))
    ]
    arrays = {name: cache.read(name) for name in [*names, "final/scale", "years/gram"]}
    arrays |= {f"readout/{layer}": -cache.readout(layer) for layer in cache.layers}
    own = {name: value for name, value in vars(cache).items() if name in Cache.__dataclass_fields__}
    mirrored = direct_scores(logit_effects(MadeUp(**own, arrays=arrays)))
    honest = direct_scores(effects)
    np.testing.assert_allclose(mirrored.year_specific, -honest.year_specific, atol=1e-12)
    np.testing.assert_allclose(mirrored.low, -honest.high, atol=1e-12)


# --- centre and edge -------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_planted_bump_and_step_are_found(smooth: MadeUp, sign: float) -> None:
    """A neuron tuned to 40 that raises (sign 1) or lowers the years after 60 there."""
    post, readout = smooth.arrays["mlp/7/post"].copy(), smooth.arrays["readout/7"].copy()
    post[:, 3] = 2 + np.exp(-((smooth.start_year - 40.0) ** 2) / 50)
    readout[3] = sign * (YEARS > 60)
    made = replace(smooth, arrays=smooth.arrays | {"mlp/7/post": post, "readout/7": readout})
    found = direct_scores(logit_effects(made))
    assert (found.tuning_centre[3], found.readout_edge[3]) == (40, 60)
    assert np.sign(found.edge_gap[3]) == sign


# --- nothing to score ------------------------------------------------------------------------------


def test_constant_tuning_has_no_year_specific_part(smooth: MadeUp) -> None:
    post = smooth.arrays["mlp/7/post"].copy()
    post[:, 5] = 30.0 * (1 + 1e-7 * np.random.default_rng(0).normal(size=len(post)))
    found = direct_scores(logit_effects(replace(smooth, arrays=smooth.arrays | {"mlp/7/post": post})))
    assert found.year_specific[5] == 0
    assert np.isnan(found.tuning_centre[5])


@pytest.mark.parametrize("seed", [0, 1])
def test_silent_neurons_have_no_year_specific_part(smooth: MadeUp, seed: int) -> None:
    """Far below zero GELU leaves some 1e-9, tuned by nothing but rounding."""
    post, silent = smooth.arrays["mlp/7/post"].copy(), np.arange(100, 200)
    noise = np.random.default_rng(seed).normal(size=(len(post), len(silent)))
    post[:, silent] = -1e-9 * (1 + noise * (smooth.start_year[:, None] > 50))
    found = direct_scores(logit_effects(replace(smooth, arrays=smooth.arrays | {"mlp/7/post": post})))
    assert (found.year_specific[silent] == 0).all()


def test_neurons_in_small_parts_are_scored_the_same(mini_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = direct_scores(logit_effects(mini_cache))
    monkeypatch.setattr("neurons.decomposition.effects.PART_NUMBERS", 20 * 97 * 100)
    parts = direct_scores(logit_effects(mini_cache))
    assert np.array_equal(parts.score, whole.score)
    np.testing.assert_allclose(parts.low, whole.low, atol=1e-6 * np.abs(whole.score).max())
    np.testing.assert_allclose(parts.high, whole.high, atol=1e-6 * np.abs(whole.score).max())


# --- wrong input -----------------------------------------------------------------------------------


def test_progress_counts_the_layers(mini_cache: Cache) -> None:
    seen: list[tuple[int, int]] = []
    direct_scores(logit_effects(mini_cache), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_plain_lens_is_not_scored(mini_cache: Cache) -> None:
    with pytest.raises(InputError, match="ranked by exact effects"):
        direct_scores(plain_logit_lens(mini_cache))


def test_a_start_year_that_is_not_measured_is_refused(mini_cache: Cache) -> None:
    with pytest.raises(InputError, match=r"start year 32 is not measured: choose within"):
        direct_scores(logit_effects(mini_cache, years=[10, 50]), start_year=32)
