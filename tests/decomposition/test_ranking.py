"""Boosting scores: the planted truth is found, the null holds, and the parts add up."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PlantedCase
from scipy.stats import kstest
from scipy.stats import t as student

from neurons.cache.format import Cache
from neurons.decomposition.cells import Activations
from neurons.decomposition.effects import LogitEffects, logit_effects, plain_logit_lens
from neurons.decomposition.ranking import COLUMNS, Ranking, rank
from neurons.rounding import RESOLUTION
from neurons.task.years import MEASURED, contrast_weights
from neurons.types import InputError, NeuronId

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
def ranking(mini_cache: Cache) -> Ranking:
    return rank(logit_effects(mini_cache))


# --- planted truth ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_planted_neurons_come_out_on_top_and_nothing_else_is_called(
    planted_case: Callable[[int], PlantedCase], seed: int
) -> None:
    case = planted_case(seed)
    found, roles = rank(logit_effects(case.cache)), case.truth.roles
    assert set(found.neurons[: len(roles["greater"])]) == set(roles["greater"])
    assert set(found.boosting_neurons()) == set(roles["greater"])
    assert set(found.suppressing_neurons()) == set(roles["mirror"])


# --- the null --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [10, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_p_is_uniform_for_smooth_tuning_and_random_directions(seed: int, length: float) -> None:
    found = rank(logit_effects(made_up(seed=seed, length=length)))
    assert kstest(found.p_value, "uniform").pvalue > 0.01
    assert found.boosting.mean() <= 0.05
    assert found.suppressing.mean() <= 0.05


def test_shifts_would_call_many_of_them(smooth: MadeUp) -> None:
    """Why p_shift is a description: on smooth tuning its small values are far too many."""
    found = rank(logit_effects(smooth))
    assert (found.p_shift <= 0.05).mean() > 0.08


def test_p_is_uniform_on_random_weights(random_cache: Cache) -> None:
    found = rank(logit_effects(random_cache))
    assert kstest(found.p_value, "uniform").pvalue > 0.01
    assert found.boosting.mean() <= 0.05
    assert found.suppressing.mean() <= 0.05


@pytest.mark.parametrize("start_year", [None, 32])
def test_p_equals_simulated_random_writing(smooth: MadeUp, start_year: int | None) -> None:
    """Give a neuron 40,000 random w_out and count how many have at least its year-specific part."""
    rng, draws = np.random.default_rng(0), 40_000
    effects = logit_effects(smooth)
    found = rank(effects, start_year=start_year)
    random = rng.normal(size=(draws, WIDTH))
    random -= random.mean(1, keepdims=True)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    contrasts = (random @ smooth.arrays["G"].T) @ contrast_weights(MEASURED).T
    for index in (3, 500, 1200):
        tuning = effects.tuning(7)[:, index]
        centred = tuning - tuning.mean()
        if start_year is None:
            specific = contrasts @ centred / len(MEASURED)
        else:
            specific = contrasts[:, start_year - 2] * centred[start_year - 2]
        row = found.row_of(NeuronId(7, index))
        truth = found.year_specific[row] / smooth.arrays["readout/7_norm"][index]
        p = found.p_value[row]
        assert abs((specific >= truth).mean() - p) < 4 * np.sqrt(p * (1 - p) / draws) + 1e-4


def test_constant_tuning_gives_one(smooth: MadeUp) -> None:
    post = smooth.arrays["mlp/7/post"].copy()
    post[:, 5] = 30.0 * (1 + 1e-7 * np.random.default_rng(0).normal(size=len(post)))
    flat = replace(smooth, arrays=smooth.arrays | {"mlp/7/post": post})
    found = rank(logit_effects(flat))
    assert found.p_value[found.row_of("L7N5")] == 1
    assert not found.boosting[found.row_of("L7N5")]


@pytest.mark.parametrize("seed", [0, 1])
def test_silent_neurons_are_not_called_and_stand_by_index(smooth: MadeUp, seed: int) -> None:
    """Far below zero GELU leaves some 1e-9, tuned by nothing but rounding."""
    post, silent = smooth.arrays["mlp/7/post"].copy(), np.arange(100, 200)
    noise = np.random.default_rng(seed).normal(size=(len(post), len(silent)))
    post[:, silent] = -1e-9 * (1 + noise * (smooth.start_year[:, None] > 50))
    found = rank(logit_effects(replace(smooth, arrays=smooth.arrays | {"mlp/7/post": post})))
    rows = np.flatnonzero(np.isin(found.index, silent))
    assert not (found.boosting | found.suppressing)[rows].any()
    assert (found.p_value[rows] == 1).all()
    assert found.index[rows].tolist() == silent.tolist()


# --- scores ----------------------------------------------------------------------------------------


def test_the_score_is_the_mean_contrast(ranking: Ranking, mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache)
    for row in (0, 1, 500, len(ranking) - 1):
        expected = effects.contrast(ranking.neurons[row]).mean()
        assert ranking.score[row] == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_static_and_year_specific_parts_sum_to_the_score(ranking: Ranking) -> None:
    np.testing.assert_allclose(ranking.static + ranking.year_specific, ranking.score, rtol=1e-12)


def test_the_parts_are_the_product_of_means_and_the_covariance(ranking: Ranking, mini_cache: Cache) -> None:
    effects, W = logit_effects(mini_cache), contrast_weights(MEASURED)
    for row in (0, 7, len(ranking) - 1):
        neuron = ranking.neurons[row]
        tuning = effects.tuning(neuron.layer)[:, neuron.index].astype(float)
        contrast = W @ effects.readout(neuron.layer)[neuron.index].astype(float)
        assert ranking.static[row] == pytest.approx(tuning.mean() * contrast.mean(), rel=1e-4, abs=1e-7)
        covariance = np.mean((tuning - tuning.mean()) * (contrast - contrast.mean()))
        assert ranking.year_specific[row] == pytest.approx(covariance, rel=1e-3, abs=1e-6)


def test_the_score_of_one_start_year_is_the_contrast_there(mini_cache: Cache) -> None:
    effects = logit_effects(mini_cache)
    found = rank(effects, start_year=32)
    assert found.start_year == 32
    for row in (0, 400):
        assert found.score[row] == pytest.approx(effects.contrast(found.neurons[row])[30], rel=1e-4, abs=1e-7)
    np.testing.assert_allclose(found.static + found.year_specific, found.score, rtol=1e-12)


def test_the_average_over_start_years_is_the_ranking_s_score(mini_cache: Cache, ranking: Ranking) -> None:
    effects = logit_effects(mini_cache, years=[20, 50])
    both = rank(effects)
    each = [rank(effects, start_year=year) for year in (20, 50)]
    for neuron in ("L8N0", "L11N200"):
        mean = np.mean([one.score[one.row_of(neuron)] for one in each])
        assert both.score[both.row_of(neuron)] == pytest.approx(mean, rel=1e-6, abs=1e-9)


def test_the_interval_is_a_jackknife_over_centuries_of_least_squares_on_years_and_centuries(mini_cache: Cache) -> None:
    """Ends within 1e-5 of the largest score: float32 activations are summed in another order."""
    effects, rows = logit_effects(mini_cache), np.isin(mini_cache.start_year, MEASURED)
    found, centuries = rank(effects), np.unique(mini_cache.century)
    values = effects.readout(9).astype(float) @ contrast_weights(MEASURED).T / len(MEASURED)
    activation = effects.activation(9).astype(float)

    def scores(kept: np.ndarray) -> np.ndarray:
        cells = np.stack([mini_cache.century, mini_cache.start_year], 1)
        pairs = np.unique(cells[rows & kept], axis=0)
        mean = np.stack([activation[kept & (cells == pair).all(1)].mean(0) for pair in pairs])
        X = np.concatenate([pairs[:, 1:] == MEASURED, pairs[:, :1] == np.unique(pairs[:, 0])], 1).astype(float)
        X = np.concatenate([X, [np.arange(X.shape[1]) >= len(MEASURED)]])  # effects of centuries add up to zero
        solved = np.linalg.lstsq(X, np.concatenate([mean, np.zeros((1, mean.shape[1]))]))[0]
        return (solved[: len(MEASURED)].T * values).sum(1)

    whole = scores(np.ones(len(mini_cache), bool))
    without = np.stack([scores(mini_cache.century != century) for century in centuries])
    C = len(centuries)
    half = student.ppf(0.975, C - 1) * np.sqrt((C - 1) / C * ((without - without.mean(0)) ** 2).sum(0))
    at = [found.row_of(NeuronId(9, n)) for n in range(mini_cache.d_mlp)]
    tolerance = 1e-5 * np.abs(found.score).max()
    np.testing.assert_allclose(found.score[at], whole, atol=tolerance)
    np.testing.assert_allclose(found.ci_low[at], whole - half, atol=tolerance)
    np.testing.assert_allclose(found.ci_high[at], whole + half, atol=tolerance)


def test_the_interval_holds_the_score(ranking: Ranking) -> None:
    assert ((ranking.ci_low <= ranking.score) & (ranking.score <= ranking.ci_high)).mean() > 0.99


# --- order and calls -------------------------------------------------------------------------------


def test_every_neuron_of_the_layers_is_ranked_once(ranking: Ranking, mini_cache: Cache) -> None:
    assert ranking.layers == (8, 9, 10, 11)
    assert sorted(ranking.neurons) == [NeuronId(layer, n) for layer in range(8, 12) for n in range(mini_cache.d_mlp)]


def test_boosting_neurons_come_first_each_group_by_score(ranking: Ranking) -> None:
    count = int(ranking.boosting.sum())
    assert 0 < count < len(ranking)
    assert ranking.boosting[:count].all()
    tie = RESOLUTION * np.abs(ranking.score).max()
    assert (np.diff(ranking.score[:count]) <= tie).all()
    assert (np.diff(ranking.score[count:]) <= tie).all()


def test_calls_follow_their_definition(ranking: Ranking) -> None:
    expected = (ranking.ci_low > 0) & (ranking.year_specific > 0) & (ranking.q_value < 0.05)
    assert np.array_equal(ranking.boosting, expected)
    assert not (ranking.boosting & ranking.suppressing).any()
    assert (ranking.ci_high[ranking.suppressing] < 0).all()
    assert (ranking.year_specific[ranking.suppressing] < 0).all()


def test_negated_readouts_exchange_boosting_and_suppressing(planted_case: Callable[[int], PlantedCase]) -> None:
    effects = logit_effects(planted_case(0).cache)
    cache = effects.cache
    names = [
        f"{group}/{layer}{end}" for layer in cache.layers for group, end in (("mlp", "/post"), ("readout", "_norm"))
    ]
    arrays = {name: cache.read(name) for name in [*names, "final/scale", "years/gram"]}
    arrays |= {f"readout/{layer}": -cache.readout(layer) for layer in cache.layers}
    own = {name: value for name, value in vars(cache).items() if name in Cache.__dataclass_fields__}
    mirrored = rank(LogitEffects(Activations(MadeUp(**own, arrays=arrays)), effects.start_years))
    honest = rank(effects)
    assert set(mirrored.boosting_neurons()) == set(honest.suppressing_neurons())
    assert set(mirrored.suppressing_neurons()) == set(honest.boosting_neurons())


def test_the_most_strongly_suppressing_comes_first(planted_case: Callable[[int], PlantedCase]) -> None:
    found = rank(logit_effects(planted_case(0).cache))
    scores = [found.score[found.row_of(neuron)] for neuron in found.suppressing_neurons()]
    assert scores == sorted(scores)
    assert scores[-1] < 0


def test_a_single_century_has_no_interval_and_calls_nothing() -> None:
    found = rank(logit_effects(made_up(seed=0, length=20, nouns=1, neurons=50)))
    assert np.isnan(found.ci_low).all()
    assert not found.boosting.any()
    assert not found.suppressing.any()
    assert found.record(0)["ci_low"] is None


# --- what is handed on -----------------------------------------------------------------------------


def test_a_record_has_the_documented_keys_and_plain_values(ranking: Ranking) -> None:
    record = ranking.record(0)
    assert tuple(record) == COLUMNS
    assert record["rank"] == 1
    assert record["neuron"] == str(ranking.neurons[0])
    assert {type(value) for value in record.values()} <= {str, int, float, bool}


def test_a_neuron_knows_its_row(ranking: Ranking) -> None:
    for row in (0, 3, 1000):
        assert ranking.row_of(str(ranking.neurons[row])) == row


def test_the_table_has_a_row_a_neuron_in_rank_order(ranking: Ranking) -> None:
    frame = ranking.to_frame()
    assert tuple(frame.columns) == COLUMNS
    assert frame["rank"].tolist() == list(range(1, len(ranking) + 1))
    assert frame["neuron"][0] == str(ranking.neurons[0])
    assert frame.iloc[5].to_dict() == ranking.record(5)


def test_progress_counts_the_layers(mini_cache: Cache) -> None:
    seen: list[tuple[int, int]] = []
    rank(logit_effects(mini_cache), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- wrong input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("neuron", "message"), [("L0N3", "L0N3 is not among"), ("L9N99999", "is not among"), ("foo", "'foo' is")]
)
def test_a_neuron_that_is_not_ranked_is_refused(ranking: Ranking, neuron: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ranking.row_of(neuron)


def test_the_plain_lens_is_not_ranked(mini_cache: Cache) -> None:
    with pytest.raises(InputError, match="ranked by exact effects"):
        rank(plain_logit_lens(mini_cache))


def test_a_start_year_that_is_not_measured_is_refused(mini_cache: Cache) -> None:
    with pytest.raises(InputError, match=r"start year 32 is not measured: choose within"):
        rank(logit_effects(mini_cache, years=[10, 50]), start_year=32)


def test_neurons_in_small_parts_are_ranked_the_same(mini_cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rank(logit_effects(mini_cache))
    monkeypatch.setattr("neurons.decomposition.effects.PART_NUMBERS", 8 * 97 * 100)
    parts = rank(logit_effects(mini_cache))
    assert parts.neurons == whole.neurons
    np.testing.assert_allclose(parts.score, whole.score, atol=1e-12)
    np.testing.assert_allclose(parts.ci_low, whole.ci_low, atol=1e-12)
    np.testing.assert_allclose(parts.ci_high, whole.ci_high, atol=1e-12)
