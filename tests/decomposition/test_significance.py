"""The bootstrap over nouns against brute force and against scipy."""

import numpy as np
from scipy.stats import bootstrap

from neurons.decomposition.significance import (
    bootstrap_weighted_mean,
    interval,
    noun_resamples,
)

NOUNS, Y, N = 12, 9, 4


def complete_data(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One prompt for each noun and start year: sums [nouns, Y, N], counts, and values [N, Y]."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(NOUNS, Y, N)) + 1, np.ones((NOUNS, Y), int), rng.normal(size=(N, Y))


# --- bootstrap -------------------------------------------------------------------------------------


def test_a_resample_draws_as_many_nouns_as_there_are() -> None:
    weights = noun_resamples(7, 100, seed=0)
    assert weights.shape == (100, 7)
    assert (weights.sum(1) == 7).all()


def test_resamples_depend_on_the_seed_alone() -> None:
    assert np.array_equal(noun_resamples(7, 50, seed=3), noun_resamples(7, 50, seed=3))
    assert not np.array_equal(noun_resamples(7, 50, seed=3), noun_resamples(7, 50, seed=4))


def test_drawing_every_noun_once_gives_the_plain_score() -> None:
    sums, counts, values = complete_data()
    found = bootstrap_weighted_mean(sums, counts, values, np.ones((1, NOUNS)))
    np.testing.assert_allclose(found[0], np.einsum("yn,ny->n", sums.mean(0), values), rtol=1e-5, atol=1e-5)


def test_every_resample_equals_a_direct_loop_on_gappy_data() -> None:
    sums, counts, values = complete_data()
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 3, counts.shape)
    sums = sums * (counts[:, :, None] > 0)
    resamples = noun_resamples(NOUNS, 20, seed=0)
    found = bootstrap_weighted_mean(sums, counts, values, resamples)
    for row, weight in enumerate(resamples):
        prompts = weight @ counts
        held = prompts > 0
        tuning = np.einsum("j,jyn->yn", weight, sums)[held] / prompts[held, None]
        expected = np.einsum("yn,ny->n", tuning, values[:, held]) * Y / held.sum()
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_a_start_year_that_a_resample_lost_is_made_up_for() -> None:
    """Two nouns, each with half of the start years, all of value one: every resample's score is the same."""
    counts = np.array([[1, 1, 0, 0], [0, 0, 1, 1]])
    sums = counts[:, :, None].astype(float)
    found = bootstrap_weighted_mean(sums, counts, np.ones((1, 4)), np.array([[2.0, 0], [1, 1], [0, 2]]))
    np.testing.assert_allclose(found, 4)


def test_the_interval_is_scipy_s_on_complete_data() -> None:
    sums, counts, values = complete_data()
    low, high = interval(bootstrap_weighted_mean(sums, counts, values, noun_resamples(NOUNS, 20_000, seed=0)))
    score = np.einsum("jyn,ny->jn", sums, values)
    expected = bootstrap((score,), np.mean, axis=0, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    width = expected.high - expected.low
    assert (np.abs(low - expected.low) < 0.03 * width).all()
    assert (np.abs(high - expected.high) < 0.03 * width).all()


def test_the_interval_leaves_a_fortieth_on_either_side() -> None:
    samples = np.random.default_rng(0).normal(size=(2001, 3))
    low, high = interval(samples)
    for side, expected in ((low, np.quantile(samples, 0.025, axis=0)), (high, np.quantile(samples, 0.975, axis=0))):
        np.testing.assert_allclose(side, expected, atol=1e-12)
