"""The 100 two-digit years: which are later than a start year, and how a contrast weighs them."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from neurons.types import InputError, parse_ranges

N_YEARS = 100
MEASURED = tuple(range(2, 99))
"""Start years measured as published: 02-98, so that YY-1 and YY+1 can be scored too."""


def later(start_years: Sequence[int]) -> Bool[np.ndarray, "Y 100"]:
    """True where the year (column) is later than the start year (row)."""
    return np.arange(N_YEARS)[None, :] > np.asarray(start_years)[:, None]


def contrast_weights(start_years: Sequence[int]) -> Float[np.ndarray, "Y 100"]:
    """Weights W whose product with year logits is the contrast.

    Row YY holds 1 / (99 - YY) for y > YY and -1 / (YY + 1) for y <= YY, so `W @ logits` is the mean
    logit over later years minus the mean over the others, and a shift common to all years cancels.

    Raises `InputError` for a start year with no later year.
    """
    if any(not 0 <= year < N_YEARS - 1 for year in start_years):
        wrong = next(year for year in start_years if not 0 <= year < N_YEARS - 1)
        raise InputError(f"start year {wrong} has no later year among 00-99: write its last two digits, 00 to 98")
    mask = later(start_years)
    return np.where(mask, 1 / mask.sum(1, keepdims=True), -1 / (~mask).sum(1, keepdims=True))


def check_measured(years: Sequence[int]) -> tuple[int, ...]:
    """The start years as a tuple, or `InputError` where a neighbour of one cannot be scored."""
    for year in years:
        if not 1 <= year <= 98:
            raise InputError(
                f"start year {year:02d} cannot be measured: the years before and after it are scored"
                " too, so choose within 01-98"
            )
    if not years:
        raise InputError("no start year chosen: choose within 01-98")
    return tuple(sorted(set(years)))


def measured_years(held: Iterable[int], asked: Iterable[int] | None) -> tuple[int, ...]:
    """The start years measured: those asked for, or those of 02-98 that have a prompt.

    held: the start years of the prompts.

    Raises `InputError` for one asked for that cannot be measured or has no prompt, or where none has.
    """
    there = set(held)
    if asked is None:
        found = tuple(year for year in MEASURED if year in there)
        if not found:
            raise InputError("no start year within 02-98 has a prompt: choose more nouns or other centuries")
        return found
    measured = check_measured(tuple(asked))
    absent = [year for year in measured if year not in there]
    if absent:
        raise InputError(
            f"start year {absent[0]:02d} has no prompt ({len(absent)} of {len(measured)} years asked for): choose other"
            " years, or more nouns or centuries"
        )
    return measured


def spans(years: Sequence[int]) -> str:
    """`20-29, 60-98` for ascending years, read as unbroken where one follows the other."""
    runs: list[list[int]] = []
    for year in years:
        if runs and year == runs[-1][1] + 1:
            runs[-1][1] = year
        else:
            runs.append([year, year])
    return ", ".join(f"{a:02d}" if a == b else f"{a:02d}-{b:02d}" for a, b in runs)


def parse_years(text: str) -> tuple[int, ...]:
    """Read `02-98` into start years that can be measured."""
    return check_measured(parse_ranges(text, what="years"))
