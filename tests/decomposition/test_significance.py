"""The statistics against brute force, against scipy, and under their own null."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control, kstest
from scipy.stats import t as student

from neurons.decomposition.significance import circular_shift_p, false_discovery_q, random_direction_p

# --- random directions -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_closed_form_equals_simulated_random_directions(seed: int) -> None:
    """A few neurons of a small model: draw w_out at random 200,000 times, count how often it does better."""
    rng = np.random.default_rng(seed)
    d, draws = 24, 200_000
    G = rng.normal(size=(100, d))
    G -= G.mean(1, keepdims=True)
    direction = rng.normal(size=(5, 100)) @ G
    w_out = rng.normal(size=(5, d)) + 0.3 * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    w_out -= w_out.mean(1, keepdims=True)
    covariance = (w_out * direction).sum(1)
    closed = random_direction_p(covariance, np.linalg.norm(direction, axis=1), np.linalg.norm(w_out, axis=1), d)
    others = rng.normal(size=(draws, d))
    others -= others.mean(1, keepdims=True)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    reached = others @ direction.T >= covariance / np.linalg.norm(w_out, axis=1)
    error = np.sqrt(closed * (1 - closed) / draws)
    assert (np.abs(reached.mean(0) - closed) < 4 * error + 1e-4).all()


def test_p_is_uniform_for_random_directions() -> None:
    rng = np.random.default_rng(0)
    w_out, direction = rng.normal(size=(2, 4000, 40))
    w_out -= w_out.mean(1, keepdims=True)
    direction -= direction.mean(1, keepdims=True)
    norms = np.linalg.norm(direction, axis=1), np.linalg.norm(w_out, axis=1)
    p = random_direction_p((w_out * direction).sum(1), *norms, 40)
    assert kstest(p, "uniform").pvalue > 0.01


def test_p_falls_from_one_to_zero_as_the_cosine_rises() -> None:
    r = np.linspace(-1, 1, 21)
    p = random_direction_p(r, np.ones(21), np.ones(21), 64)
    assert p[0] == 1
    assert p[10] == pytest.approx(0.5)
    assert p[20] == 0
    assert (np.diff(p) <= 0).all()
    np.testing.assert_allclose(p + p[::-1], 1)


def test_p_does_not_depend_on_the_scale() -> None:
    ones = np.ones(1)
    small = random_direction_p(1e-9 * 0.3 * ones, 1e-9 * ones, ones, 64)
    assert small == pytest.approx(random_direction_p(0.3 * ones, ones, ones, 64))


def test_p_reaches_what_a_false_discovery_rate_over_a_layer_needs() -> None:
    p = random_direction_p(np.array([0.5]), np.ones(1), np.ones(1), 768)
    assert 0 < p[0] < 1e-40


@pytest.mark.parametrize(("direction", "w_out"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_no_tuning_or_no_writing_gives_one(direction: float, w_out: float) -> None:
    norms = np.array([direction, 1.0]), np.array([w_out, 1.0])
    assert random_direction_p(np.zeros(2), *norms, 64)[0] == 1


# --- circular shifts -------------------------------------------------------------------------------


def test_the_share_of_shifts_equals_a_direct_loop() -> None:
    rng = np.random.default_rng(0)
    tuning, values = rng.normal(size=(31, 6)), rng.normal(size=(6, 31))
    centred = tuning - tuning.mean(0)
    shifted = np.array([(np.roll(centred, k, axis=0).T * values).sum(1) for k in range(31)])
    np.testing.assert_allclose(circular_shift_p(tuning, values), (shifted >= shifted[0] - 1e-9).mean(0))


def test_a_constant_neuron_is_like_all_of_its_shifts() -> None:
    assert circular_shift_p(np.full((31, 1), 5.0), np.random.default_rng(0).normal(size=(1, 31)))[0] == 1


# --- false discovery rate --------------------------------------------------------------------------


def test_q_is_benjamini_and_hochberg_s() -> None:
    p = np.array([0.01, 0.5, 0.02, 0.9, 0.04])
    assert false_discovery_q(p) == pytest.approx([0.05, 0.625, 0.05, 0.9, 0.2 / 3])


def test_false_discoveries_stay_below_the_rate() -> None:
    rng = np.random.default_rng(0)
    false, called = 0, 0
    for _ in range(50):
        p = np.concatenate([rng.uniform(size=900), rng.uniform(size=100) * 1e-4])
        hits = np.flatnonzero(false_discovery_q(p) < 0.05)
        false, called = false + int((hits < 900).sum()), called + len(hits)
    assert false / called < 0.06


def test_q_values_are_scipy_s() -> None:
    p = np.random.default_rng(0).uniform(size=1000) ** 3
    p[:50] = p[50]
    np.testing.assert_allclose(false_discovery_q(p), false_discovery_control(p), rtol=1e-12)


def test_p_is_the_tail_of_student_s_t() -> None:
    """A cosine r among d directions is r sqrt((d - 2) / (1 - r^2)) of Student's t."""
    r = np.linspace(-0.9, 0.9, 7)
    expected = student.sf(r * np.sqrt(62 / (1 - r**2)), 62)
    np.testing.assert_allclose(random_direction_p(r, np.ones(7), np.ones(7), 64), expected, rtol=1e-12)
