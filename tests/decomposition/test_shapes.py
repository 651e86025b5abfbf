"""Shapes of maps: each is message from the others, a lean is none, and what one neuron can reach is bounded."""

import numpy as np
import pytest

from neurons.decomposition.shapes import Shape, correlations, rank_one_cosines, rank_one_limit, shape_of, shapes

YEARS = range(2, 99)
AFTER = np.arange(100) - np.array(YEARS)[:, None]


@pytest.mark.parametrize("name", ["triangle", "diagonal", "span limit"])
def test_each_shape_is_told_from_the_others(name: Shape) -> None:
    pattern = shapes(YEARS)[name]
    rng = np.random.default_rng(0)
    noisy = 3 * pattern + rng.normal(size=100) + rng.normal(size=(97, 1)) + 0.2 * rng.normal(size=pattern.shape)
    found = correlations(noisy, YEARS)
    assert shape_of(found) == name
    assert found[name] > 0.9


def test_noise_has_no_shape() -> None:
    assert shape_of(correlations(np.random.default_rng(0).normal(size=(97, 100)), YEARS)) is None


def test_a_triangle_is_no_diagonal_and_a_diagonal_no_triangle() -> None:
    assert abs(correlations(shapes(YEARS)["triangle"], YEARS)["diagonal"]) < 0.07
    assert abs(correlations(shapes(YEARS)["diagonal"], YEARS)["triangle"]) < 0.07


@pytest.mark.parametrize("fade", [10, 20, 40])
def test_a_triangle_that_fades_with_distance_is_still_a_triangle(fade: int) -> None:
    fading = np.where(AFTER > 0, np.exp(-AFTER / fade), 0.0)
    found = correlations(fading, YEARS)
    assert found["triangle"] > 0.4
    assert found["triangle"] > found["span limit"]


def test_a_lean_to_late_years_is_nothing() -> None:
    lean = np.linspace(-1, 1, 100) + np.zeros((97, 1)) + np.linspace(0, 1, 97)[:, None]
    assert all(abs(value) < 1e-9 for value in correlations(lean, YEARS).values())


def test_no_neuron_is_more_of_a_triangle_than_rank_one_allows() -> None:
    """Alternating maximisation climbs to the limit; the first step starts anywhere."""
    target = shapes(YEARS)["triangle"]
    A = np.random.default_rng(0).normal(size=(97, 50))
    centred = target - target.mean(0) - target.mean(1, keepdims=True) + target.mean()
    for _ in range(200):
        R = A.T @ centred
        A = centred @ R.T
        A /= np.linalg.norm(A, axis=0)
    found = rank_one_cosines(A, A.T @ centred, target)
    assert found.max() <= rank_one_limit(YEARS) + 1e-9
    assert found.max() == pytest.approx(rank_one_limit(YEARS), abs=1e-6)
    assert rank_one_limit(YEARS) == pytest.approx(0.56, abs=0.005)


def test_a_neuron_s_cosine_is_that_of_its_map() -> None:
    rng = np.random.default_rng(1)
    A, R = rng.normal(size=(97, 4)), rng.normal(size=(4, 100))
    found = rank_one_cosines(A, R, shapes(YEARS)["triangle"])
    expected = [correlations(np.outer(A[:, n], R[n]), YEARS)["triangle"] for n in range(4)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_silent_neuron_has_the_cosine_zero() -> None:
    assert rank_one_cosines(np.zeros((97, 1)), np.ones((1, 100)), shapes(YEARS)["triangle"]).tolist() == [0.0]
