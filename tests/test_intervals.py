"""Intervals over centuries: exact where the truth is planted, calibrated where it is drawn."""

import numpy as np
import pytest
import scipy.stats

from neurons.intervals import Cells, cell_means, interval, jackknife, left_out, prompt_weights, year_means
from neurons.types import InputError

YEARS = np.arange(2, 99)
GAPS: dict[int, list[int]] = {
    11: [*range(2, 10), 11, *range(13, 19), *range(20, 30), *range(51, 60), *range(90, 99)],
    12: [80],
    13: [*range(2, 10)],
    14: [40],
    15: [*range(2, 10)],
    16: [],
    17: [],
    18: [30, 40, 50, 60, 61, 62, 63, 65, 70, 80, 86, 88, 89, 90, 93, *range(95, 99)],
}
"""Start years that GPT-2's tokenizer does not split after " XX", by century."""
HELD = np.array([~np.isin(YEARS, absent) for absent in GAPS.values()])
SIX, FOUR = HELD[[0, 1, 2, 3, 6, 7]], HELD[[0, 1, 6, 7]]
CALIBRATED = {"eight": HELD, "six": SIX, "four": FOUR}
NOUNS, ICC = 3, 0.9
DATA_SETS = 2000


def mean(curve: np.ndarray) -> np.ndarray:
    return curve.mean(0)


def additive(held: np.ndarray, seed: int = 0, n: int = 5) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Cells that are exactly year + century, nonsense where they are missing."""
    rng = np.random.default_rng(seed)
    year, century = rng.normal(size=(held.shape[1], n)), 10 * rng.normal(size=(len(held), n))
    value = year[None] + century[:, None]
    value[~held] = np.nan
    return Cells(value, held), year, century


# --- the mean of a year ----------------------------------------------------------------------------


@pytest.mark.parametrize("held", CALIBRATED.values(), ids=CALIBRATED)
def test_planted_year_and_century_effects_are_found_exactly(held: np.ndarray) -> None:
    cells, year, century = additive(held)
    np.testing.assert_allclose(year_means(cells), year + century.mean(0), atol=1e-12)


@pytest.mark.parametrize("held", CALIBRATED.values(), ids=CALIBRATED)
def test_each_century_left_out_leaves_the_mean_of_the_others(held: np.ndarray) -> None:
    cells, year, century = additive(held)
    for c, means in enumerate(left_out(cells)):
        np.testing.assert_allclose(means, year + np.delete(century, c, 0).mean(0), atol=1e-12)


def test_a_year_that_goes_with_its_century_moves_as_the_others() -> None:
    held = np.ones((3, 5), bool)
    held[1:, 4] = False
    cells, year, century = additive(held)
    np.testing.assert_allclose(left_out(cells)[0], year + century[1:].mean(0), atol=1e-12)


def test_without_missing_cells_a_year_s_mean_is_the_plain_mean() -> None:
    value = np.random.default_rng(0).normal(size=(8, 97, 4))
    np.testing.assert_allclose(year_means(Cells(value, np.ones((8, 97), bool))), value.mean(0), atol=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_year_means_are_those_of_least_squares(seed: int) -> None:
    """Against a design matrix of indicators, solved whole with the effects' sum as one more equation."""
    rng = np.random.default_rng(seed)
    C, Y = 5, 12
    held = rng.random((C, Y)) < 0.6
    held[0], held[:, 0] = True, True
    value = rng.normal(size=(C, Y))
    c, y = np.nonzero(held)
    design = np.concatenate([np.eye(Y)[y], np.eye(C)[c]], 1)
    constraint = np.concatenate([np.zeros(Y), np.full(C, 1e3)])
    solved = np.linalg.lstsq(np.vstack([design, constraint]), np.append(value[held], 0), rcond=None)[0]
    np.testing.assert_allclose(year_means(Cells(value, held)), solved[:Y], atol=1e-10)


def test_a_year_that_no_century_has_has_no_mean() -> None:
    held = np.ones((3, 4), bool)
    held[:, 2] = False
    assert np.isnan(year_means(Cells(np.ones((3, 4)), held))).tolist() == [False, False, True, False]


def test_centuries_that_share_no_year_are_taken_as_equal() -> None:
    held = np.array([[True, True, False, False], [False, False, True, True]])
    means = year_means(Cells(np.array([[1.0, 2, 0, 0], [0, 0, 30, 40]]), held))
    np.testing.assert_allclose(means, [1, 2, 30, 40], atol=1e-12)


def test_cells_are_the_means_of_their_prompts() -> None:
    rng = np.random.default_rng(0)
    century, start_year = rng.integers(11, 15, 200), rng.integers(0, 20, 200)
    value = rng.normal(size=(200, 3)).astype(np.float32)
    found = cell_means(value, century=century, start_year=start_year, years=(2, 7, 5))
    for c, y in np.ndindex(4, 3):
        rows = (century == 11 + c) & (start_year == (2, 7, 5)[y])
        assert found.held[c, y] == rows.any()
        if rows.any():
            np.testing.assert_allclose(found.value[c, y], value[rows].mean(0), atol=1e-6)


def test_a_year_without_a_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="start year 03 has no prompt"):
        cell_means(np.ones(2), century=np.array([17, 17]), start_year=np.array([2, 4]), years=(2, 3, 4))


# --- the interval ----------------------------------------------------------------------------------


def test_with_all_cells_the_interval_of_a_mean_is_the_textbook_s() -> None:
    value = np.random.default_rng(0).normal(size=(8, 97))
    found = interval(Cells(value, np.ones((8, 97), bool)), mean)
    expected = scipy.stats.ttest_1samp(value.mean(1), 0).confidence_interval()
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, scipy.stats.sem(value.mean(1)), rtol=1e-12)


def test_a_higher_confidence_is_a_wider_interval() -> None:
    cells = Cells(np.random.default_rng(0).normal(size=(8, 97)), HELD)
    assert interval(cells, mean, confidence=0.99).high > interval(cells, mean).high


def test_one_century_has_an_estimate_and_no_interval() -> None:
    found = interval(Cells(np.ones((1, 97, 3)), np.ones((1, 97), bool)), mean)
    assert found.estimate.tolist() == [1, 1, 1]
    assert np.isnan([found.standard_error, found.low, found.high]).all()
    assert found.centuries == 1


def test_what_does_not_vary_has_an_interval_of_no_width() -> None:
    found = jackknife(np.array([2.0]), np.full((8, 1), 2.0))
    assert (found.low, found.high) == (2, 2)


def test_neurons_do_not_touch_each_other() -> None:
    value = np.random.default_rng(0).normal(size=(8, 97, 6))
    together, alone = interval(Cells(value, HELD), mean), interval(Cells(value[..., 3], HELD), mean)
    np.testing.assert_allclose(together.low[3], alone.low, rtol=1e-12)


@pytest.mark.parametrize("held", CALIBRATED.values(), ids=CALIBRATED)
def test_weights_of_prompts_are_the_means_of_their_cells(held: np.ndarray) -> None:
    """What exact effects are averaged by, with and without each century, against the cells themselves."""
    rng = np.random.default_rng(0)
    c, y = np.nonzero(held)
    kept = np.concatenate([np.arange(len(c)), rng.integers(len(c), size=2 * len(c))])
    century, start_year = 11 + c[kept], YEARS[y[kept]]
    value = rng.normal(size=len(kept))
    cells = cell_means(value, century=century, start_year=start_year, years=YEARS.tolist())
    weights = prompt_weights(century=century, start_year=start_year, years=YEARS.tolist())
    np.testing.assert_allclose(weights.means @ value, year_means(cells), atol=1e-12)
    np.testing.assert_allclose(weights.without @ value, left_out(cells).mean(1), atol=1e-12)
    np.testing.assert_allclose(weights.means.sum(1), 1, atol=1e-12)


# --- calibration: data sets with century effects, cells missing as in GPT-2's tokenizer --------------


def simulated(held: np.ndarray, *, crossing: float, seed: int, n: int = DATA_SETS) -> tuple[np.ndarray, np.ndarray]:
    """Scores [C, nouns, Y, n] of n data sets, intraclass correlation of centuries 0.9, and the true curve [Y, 1].

    crossing: how much centuries differ in the slope over the years too, which no additive fit can take out.
    """
    rng = np.random.default_rng(seed)
    C, Y = held.shape
    year = np.linspace(-1, 1, Y)[:, None]
    truth = 1.5 + 2 * np.sin(3 * year)
    century = rng.normal(size=(C, 1, 1, n)) + crossing * rng.normal(size=(C, 1, 1, n)) * year
    noun = np.sqrt(0.5) * rng.normal(size=(C, NOUNS, 1, n))
    rest = np.sqrt(0.5) * rng.normal(size=(C, NOUNS, Y, n))
    return truth + np.sqrt(ICC) * century + np.sqrt(1 - ICC) * (noun + rest), truth


def coverage(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> float:
    """How often intervals hold the truth; printed for `pytest -rP`."""
    found = float(((low <= truth) & (truth <= high)).mean())
    print(f"{np.size(low):,} intervals cover {found:.1%}")  # noqa: T201
    return found


@pytest.mark.parametrize("crossing", [0, 0.7])
@pytest.mark.parametrize("held", CALIBRATED.values(), ids=CALIBRATED)
def test_intervals_of_a_mean_cover_the_truth_as_often_as_they_say(held: np.ndarray, crossing: float) -> None:
    """2,000 data sets: 95 % has a standard error of 0.5 %. The first 200 alone: within 92-98 %."""
    scores, truth = simulated(held, crossing=crossing, seed=3)
    found = interval(Cells(scores.mean(1), held), mean)
    assert 0.92 <= coverage(found.low[:200], found.high[:200], truth.mean()) <= 0.98
    assert 0.935 <= coverage(found.low, found.high, truth.mean()) <= 0.965


@pytest.mark.parametrize("held", CALIBRATED.values(), ids=CALIBRATED)
def test_intervals_of_each_start_year_cover_the_truth_as_often_as_they_say(held: np.ndarray) -> None:
    scores, truth = simulated(held, crossing=0.7, seed=4)
    found = interval(Cells(scores.mean(1), held), np.array)
    for centuries in np.unique(held.sum(0)):
        years = held.sum(0) == centuries
        assert 0.93 <= coverage(found.low[years], found.high[years], truth[years]) <= 0.97, centuries


@pytest.mark.parametrize("held", CALIBRATED.values(), ids=CALIBRATED)
def test_intervals_of_a_share_cover_the_truth_as_often_as_they_say(held: np.ndarray) -> None:
    """A neuron's part of the sum over ten, whose scores move with the centuries by different amounts."""
    size = np.linspace(1, 6, 10)[:, None]
    slope = np.linspace(0.2, 0.6, 10)[:, None]
    common, truth = simulated(held, crossing=0, seed=5, n=200)
    own, _ = simulated(held, crossing=0, seed=6, n=2000)
    score = size + slope * common.mean(1)[:, :, None] + 0.3 * own.mean(1).reshape(*held.shape, 10, 200)
    true = size + (slope + 0.3) * truth.mean()

    def share(curve: np.ndarray) -> np.ndarray:
        return mean(curve) / mean(curve).sum(0)

    found = interval(Cells(score, held), share)
    assert 0.92 <= coverage(found.low, found.high, true / true.sum()) <= 0.98


@pytest.mark.parametrize("scale", [4, 30])
def test_intervals_of_a_number_of_neurons_cover_it_though_it_is_not_smooth(scale: int) -> None:
    """The fewest of 200 neurons that hold 90 % of a sum; the range of values without each century does not."""
    rng, C, n = np.random.default_rng(1), 8, 400
    sizes = np.exp(-np.arange(200) / scale)
    drawn = sizes * (1 + 0.3 * rng.normal(size=(n, C, 1))) + 0.05 * rng.normal(size=(n, C, 200))

    def fewest(scores: np.ndarray) -> np.ndarray:
        held = np.cumsum(-np.sort(-scores, axis=-1), axis=-1)
        return 1 + (held < 0.9 * held[..., -1:]).sum(-1)

    without = np.stack([fewest(np.delete(drawn, c, 1).mean(1)) for c in range(C)]).astype(float)
    found, true = jackknife(fewest(drawn.mean(1)).astype(float), without), fewest(sizes)
    assert 0.92 <= coverage(found.low, found.high, true) <= 0.98
    assert coverage(without.min(0), without.max(0), true) < 0.7


def test_a_bootstrap_of_centuries_covers_too_little() -> None:
    """The competitor: percentiles over resampled centuries, eight of which are too few for it."""
    rng = np.random.default_rng(0)
    everywhere = np.ones_like(HELD)
    scores, truth = simulated(everywhere, crossing=0, seed=3)
    by_century = scores.mean((1, 2))
    drawn = np.stack([by_century[rng.integers(0, 8, 8)].mean(0) for _ in range(1000)])
    assert coverage(*np.quantile(drawn, [0.025, 0.975], axis=0), truth.mean()) < 0.91


def test_intervals_over_nouns_cover_far_too_little() -> None:
    """The other competitor, and what was done before: 24 pairs of noun and century as 24 replicates."""
    everywhere = np.ones_like(HELD)
    scores, truth = simulated(everywhere, crossing=0, seed=3)
    pairs = scores.mean(2).reshape(-1, DATA_SETS)
    reach = scipy.stats.t.ppf(0.975, len(pairs) - 1) * scipy.stats.sem(pairs)
    assert coverage(pairs.mean(0) - reach, pairs.mean(0) + reach, truth.mean()) < 0.8
