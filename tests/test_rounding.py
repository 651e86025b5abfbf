"""No rounding turns a comparison, and ties have a rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neurons.rounding import (
    MARGIN,
    RESOLUTION,
    above,
    ascending,
    centred_rows,
    cleared,
    clearly_above,
    descending,
    is_nothing,
    largest,
    reaches,
    sign_of_largest,
    whole,
)

SIZES = st.floats(1e-12, 1e12)
ROUNDING = st.floats(-1e-8, 1e-8)


@given(SIZES, ROUNDING)
def test_rounding_never_makes_a_value_clearly_above_itself(size: float, error: float) -> None:
    assert not clearly_above(size * (1 + error), size)
    assert reaches(size * (1 + error), size)


@given(SIZES)
def test_a_real_difference_is_one(size: float) -> None:
    assert clearly_above(size * 1.001, size)
    assert not reaches(size * 0.999, size)


def test_what_was_computed_from_larger_numbers_has_their_margin() -> None:
    assert clearly_above(1e-9, 0)
    assert not clearly_above(1e-9, 0, scale=1)
    assert reaches(-1e-9, 0, scale=1)
    assert is_nothing(np.array([1e-9, -1e-9]), 1.0)
    assert above(np.array([1e-9, 1e-3]), 1.0).tolist() == [False, True]


def test_nothing_is_known_of_nan() -> None:
    assert not clearly_above(float("nan"), 0)
    assert not reaches(float("nan"), 0)


@given(arrays(float, st.integers(1, 40), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0])), st.integers(0, 99))
def test_rounding_moves_nothing_in_an_order(values: np.ndarray, seed: int) -> None:
    rounded = values + np.random.default_rng(seed).normal(size=len(values)) * 1e-9
    assert descending(rounded).tolist() == np.argsort(-values, kind="stable").tolist() or not values.any()
    assert ascending(rounded).tolist() == np.argsort(values, kind="stable").tolist() or not values.any()
    assert largest(rounded) == values.argmax() or not values.any()


@given(arrays(float, st.integers(0, 60), elements=st.floats(-1e6, 1e6)))
def test_no_value_is_out_of_order_by_more_than_the_resolution(values: np.ndarray) -> None:
    order = descending(values)
    assert sorted(order.tolist()) == list(range(len(values)))
    rises = np.diff(values[order])
    assert rises.max(initial=0) <= RESOLUTION * np.abs(values).max(initial=0) * (1 + 1e-12)


def test_nan_comes_last() -> None:
    assert descending(np.array([np.nan, 1.0, np.nan, 2.0])).tolist() == [3, 1, 0, 2]


def test_the_sign_of_an_antisymmetric_curve_is_that_of_its_first_largest() -> None:
    curve = np.array([0.1, -1 - 1e-12, 1.0])
    assert sign_of_largest(curve) == -1
    assert sign_of_largest(np.array([0.1, -1.0, 1 + 1e-12])) == -1
    assert sign_of_largest(np.zeros(3)) == 1
    assert sign_of_largest(np.array([[1.0, -2.0], [0.5, 1.0]])).tolist() == [1, -1]


def test_a_row_that_is_the_same_everywhere_is_zero_when_centred() -> None:
    rows = np.array([[0.1] * 7, [0.1 * (1 + MARGIN / 10)] + [0.1] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]])
    centred = centred_rows(rows)
    assert not centred[:2].any()
    assert centred[2].tolist() == [-3, -2, -1, 0, 1, 2, 3]


def test_less_than_the_resolution_of_the_largest_is_nothing() -> None:
    assert cleared(np.array([1e-9, -1.0, 1e-5])).tolist() == [0, -1, 1e-5]


@pytest.mark.parametrize(
    ("value", "text"), [(57.5, "58"), (58.5, "58"), (58.4999, "58"), (58.5001, "58"), (58.6, "59")]
)
def test_a_half_is_a_half_whatever_its_last_bits(value: float, text: str) -> None:
    assert whole(value) == whole(value + 1e-9) == whole(value - 1e-9) == text
