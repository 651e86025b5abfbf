"""The pairing test: planted layers are called, layers that write at random are called as often as p says."""

import math
from itertools import permutations

import numpy as np
import pytest

from neurons.decomposition.pairing import Pairing, fewest, pairing_test

Y, N, WEAK = 97, 256, 0.02
LAYERS = 200


def smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random profiles of four harmonics over the start years [n, Y], the slow ones larger, about any level."""
    turns = np.repeat(np.arange(1, 5), 2)
    angle = 2 * np.pi * np.arange(Y) / 128 * turns[:, None] + np.tile([0, np.pi / 2], 4)[:, None]
    return rng.normal(size=(n, 8)) / turns @ np.cos(angle) + rng.normal(size=(n, 1))


def centred_unit(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def layer(seed: int, *, matched: bool) -> tuple[np.ndarray, np.ndarray]:
    """Tuning [Y, N] and contrast [N, Y]: 5 to 30 neurons are strong, both in tuning and in writing."""
    rng = np.random.default_rng(seed)
    strong = rng.integers(5, 31)
    sizes = np.full((2, N, 1), WEAK)
    sizes[:, :strong] = np.exp(rng.normal(0, 0.5, (2, strong, 1)))
    tuning, contrast = smooth(rng, N), smooth(rng, N)
    if matched:
        contrast[:strong] = tuning[:strong] + 0.3 * contrast[:strong]
    return (sizes[0] * tuning).T, sizes[1] * contrast


@pytest.fixture(scope="module")
def unrelated() -> list[tuple[np.ndarray, np.ndarray]]:
    return [layer(seed, matched=False) for seed in range(LAYERS)]


@pytest.fixture(scope="module")
def matched() -> list[Pairing]:
    return [pairing_test(*layer(seed, matched=True)) for seed in range(LAYERS)]


def test_layers_that_write_where_they_are_tuned_are_called(matched: list[Pairing]) -> None:
    """Five strong neurons can be re-paired in 120 ways: with fewer, no p below 0.01 is to be had."""
    enough = [one for one in matched if len(one.strong) >= 5]
    assert len(enough) > 0.9 * LAYERS
    assert max(one.p_value for one in enough) < 0.01


def test_few_strong_neurons_cannot_have_a_small_p(matched: list[Pairing]) -> None:
    few = [one for one in matched if len(one.strong) < 5]
    assert few
    assert all(one.p_value > 0.5 / math.factorial(len(one.strong)) for one in few)


def test_layers_that_write_at_random_are_called_as_often_as_p_says(
    unrelated: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """Of the first 100 layers 2 to 9, and so of all 200."""
    called = np.array([pairing_test(*one).p_value < 0.05 for one in unrelated])
    assert 2 <= called[:100].sum() <= 9
    assert 0.02 <= called.mean() <= 0.09


def test_re_pairing_whole_neurons_calls_far_too_many(unrelated: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """The competitor, and why sizes are kept: the strong get weak readouts, and every sum shrinks but the true one."""
    rng = np.random.default_rng(0)

    def whole(tuning: np.ndarray, contrast: np.ndarray) -> float:
        products = (tuning - tuning.mean(0)).T @ contrast.T
        rows = np.arange(N)
        sums = np.array([products[rows, rng.permutation(rows)].sum() for _ in range(199)])
        return float((1 + (sums >= np.trace(products)).sum()) / 200)

    assert np.mean([whole(*one) < 0.05 for one in unrelated]) > 0.25


def test_the_statistic_is_the_year_specific_part_of_the_layer() -> None:
    tuning, contrast = layer(0, matched=False)
    specific = ((tuning - tuning.mean(0)).T * contrast).mean(1).sum()
    assert pairing_test(tuning, contrast).statistic == pytest.approx(specific, rel=1e-12)


def test_the_null_is_that_of_every_pairing() -> None:
    """Four strong neurons: mean, deviation and p against all 24 pairings, listed."""
    rng = np.random.default_rng(1)
    curve, shape = (centred_unit(smooth(rng, 4)) for _ in range(2))
    norm = np.array([[1.0], [1.2], [1.4], [1.6]])
    found = pairing_test(curve.T, norm * shape, permutations=20_000)
    assert len(found.strong) == 4
    sums = np.array([(curve * norm * shape[list(order)]).sum() / Y for order in permutations(range(4))])
    assert found.null_mean == pytest.approx(sums.mean(), abs=4 * sums.std() / np.sqrt(20_000))
    assert found.null_deviation == pytest.approx(sums.std(), rel=0.03)
    assert found.p_value == pytest.approx((sums >= sums[0] - 1e-12).mean(), abs=0.02)


def test_scale_and_level_of_a_curve_change_nothing() -> None:
    tuning, contrast = layer(2, matched=True)
    moved = pairing_test(1000 * tuning + 5, contrast / 7 - 3)
    found = pairing_test(tuning, contrast)
    assert (moved.p_value, moved.strong.tolist()) == (found.p_value, found.strong.tolist())
    assert moved.z == pytest.approx(found.z, rel=1e-9)


def test_the_order_of_weak_neurons_changes_nothing() -> None:
    tuning, contrast = layer(3, matched=True)
    again = pairing_test(np.roll(tuning, 100, 1), np.roll(contrast, 100, 0))
    found = pairing_test(tuning, contrast)
    assert (again.p_value, again.z) == (found.p_value, pytest.approx(found.z, rel=1e-9))
    assert ((again.strong - 100) % N).tolist() == found.strong.tolist()


@pytest.mark.parametrize(("n", "level", "strong"), [(1, 1.0, 1), (5, 0.0, 0)])
def test_a_layer_without_two_neurons_to_re_pair_is_not_called(n: int, level: float, strong: int) -> None:
    curves = smooth(np.random.default_rng(0), n)
    found = pairing_test(level * curves.T, curves)
    assert (found.p_value, len(found.strong), math.isnan(found.z)) == (1, strong, True)


@pytest.mark.parametrize(("part", "held"), [(0.5, [1]), (0.6, [1, 0]), (0.9, [1, 0, 3]), (1.0, [1, 0, 3])])
def test_the_fewest_neurons_hold_their_part(part: float, held: list[int]) -> None:
    assert fewest(np.array([0.3, 0.5, 0.0, 0.2]), part).tolist() == held


def test_the_same_seed_gives_the_same_p() -> None:
    one, other = (pairing_test(*layer(4, matched=False), seed=7) for _ in range(2))
    assert isinstance(one, Pairing)
    assert (one.p_value, one.z) == (other.p_value, other.z)
