import numpy as np
import pytest

from neurons.task.years import MEASURED, check_measured, contrast_weights, later, measured_years, parse_years, spans
from neurons.types import InputError


def test_the_measured_years_are_those_published() -> None:
    assert list(MEASURED) == list(range(2, 99))


def test_later_is_strictly_later() -> None:
    assert np.flatnonzero(later([32])[0]).tolist() == list(range(33, 100))


def test_the_contrast_is_the_mean_over_later_years_minus_the_mean_over_the_others() -> None:
    logits = np.random.default_rng(0).normal(size=100)
    weights = contrast_weights(MEASURED)
    for row, year in zip(weights, MEASURED, strict=True):
        assert row @ logits == pytest.approx(logits[year + 1 :].mean() - logits[: year + 1].mean(), rel=1e-12)


def test_a_shift_common_to_all_years_cancels_in_the_contrast() -> None:
    np.testing.assert_allclose(contrast_weights(MEASURED) @ np.ones(100), 0, atol=1e-14)


@pytest.mark.parametrize("year", [-1, 99, 100])
def test_a_start_year_without_a_later_year_has_no_contrast(year: int) -> None:
    with pytest.raises(InputError, match="has no later year"):
        contrast_weights([year])


def test_chosen_years_come_sorted_without_repeats() -> None:
    assert check_measured([40, 2, 40]) == (2, 40)


@pytest.mark.parametrize("year", [0, 99, 120])
def test_a_year_whose_neighbours_cannot_be_scored_is_refused_by_name(year: int) -> None:
    with pytest.raises(InputError, match=f"start year {year:02d} cannot be measured.*choose within 01-98"):
        check_measured([50, year])


def test_no_start_year_is_refused() -> None:
    with pytest.raises(InputError, match="no start year chosen"):
        check_measured([])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("98-02", "invalid years '98-02': the first number must not exceed the last (for example 02-98)"),
        ("0-120", "start year 00 cannot be measured: the years before and after it are scored too"),
        ("50-120", "start year 99 cannot be measured"),
        ("abc", "invalid years 'abc': write a range like 8-11 or 3,8-11"),
    ],
)
def test_wrong_years_are_refused_in_one_line_with_exit_code_2(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_years(text)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_years_read_as_start_years() -> None:
    assert parse_years("02-98") == tuple(MEASURED)


def test_years_that_nobody_asked_for_are_measured_where_they_have_a_prompt() -> None:
    held = [1, 2, 3, 40, 99, 40]
    assert measured_years(held, None) == (2, 3, 40)
    assert measured_years(held, [40, 1]) == (1, 40)


@pytest.mark.parametrize(
    ("held", "asked", "message"),
    [
        ([2, 3], [3, 4, 5], r"^start year 04 has no prompt \(2 of 3 years asked for\): choose other years, or more"),
        ([2, 99], [99], "^start year 99 cannot be measured"),
        ([1, 99], None, "^no start year within 02-98 has a prompt: choose more nouns"),
    ],
)
def test_years_without_a_prompt_are_refused(held: list[int], asked: list[int] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured_years(held, asked)


def test_spans_join_consecutive_years() -> None:
    assert spans([2, 3, 4, 20, 98, 99]) == "02-04, 20, 98-99"
