"""The 100 two-digit years: which are later than a start year, and their weights in a contrast."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from neurons.types import InputError, check_wholes, parse_ranges

N_YEARS = 100
MEASURED = range(2, 99)
"""Start years measured as published: 02-98, so that YY-1 and YY+1 can be scored too."""
KNOWN_CENTURIES = range(10, 21)
"""Centuries accepted: 10 for the years 1000-1099, up to 20 for 2000-2099."""


def later(start_years: Sequence[int]) -> Bool[np.ndarray, "Y 100"]:
    """Return True where the year (column) is later than the start year (row)."""
    return np.arange(N_YEARS)[None, :] > np.asarray(start_years)[:, None]


def contrast_weights(start_years: Sequence[int]) -> Float[np.ndarray, "Y 100"]:
    """Return the weights W whose product with year logits is the contrast.

    Row YY holds 1 / (99 - YY) for y > YY and -1 / (YY + 1) for y <= YY, so `W @ logits` is the mean
    logit over later years minus the mean over the others, and a shift common to all years cancels.

    Raises `InputError` for a start year with no later year.
    """
    if any(not 0 <= year < N_YEARS - 1 for year in start_years):
        wrong = next(year for year in start_years if not 0 <= year < N_YEARS - 1)
        raise InputError(f"start year {wrong} has no later year among 00-99: write its last two digits, 00 to 98")
    mask = later(start_years)
    return np.where(mask, 1 / mask.sum(1, keepdims=True), -1 / (~mask).sum(1, keepdims=True))


def check_measured(years: Iterable[int]) -> tuple[int, ...]:
    """Return the start years as a tuple; raises `InputError` for one whose neighbours cannot both be scored."""
    years = check_wholes("years", years, "[31, 32]")
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
    """Return the start years measured: those asked for, or those of 02-98 that have a prompt.

    held: the start years of the prompts.

    Raises `InputError` for one asked for that cannot be measured or has no prompt, or if none has.
    """
    there = set(held)
    if asked is None:
        found = tuple(year for year in MEASURED if year in there)
        if not found:
            raise InputError("no start year within 02-98 has a prompt: choose more nouns or other centuries")
        return found
    measured = check_measured(asked)
    absent = [year for year in measured if year not in there]
    if absent:
        raise InputError(
            f"start year {absent[0]:02d} has no prompt ({len(absent)} of {len(measured)} years asked for): choose other"
            " years, or more nouns or centuries"
        )
    return measured


def spans(years: Sequence[int]) -> str:
    """Write ascending years as spans, like `20-29, 60-98`."""
    runs: list[list[int]] = []
    for year in years:
        if runs and year == runs[-1][1] + 1:
            runs[-1][1] = year
        else:
            runs.append([year, year])
    return ", ".join(f"{a:02d}" if a == b else f"{a:02d}-{b:02d}" for a, b in runs)


def parse_years(text: str) -> tuple[int, ...]:
    """Read `02-98` into start years that can be measured; raises `InputError`."""
    return check_measured(parse_ranges(text, what="years"))


def check_centuries(centuries: Iterable[int]) -> tuple[int, ...]:
    """Return the centuries as a tuple; raises `InputError` for an invalid number, such as 1700 for 17."""
    numbers = check_wholes("centuries", centuries, "[16, 17]")
    if not numbers:
        raise InputError(f"no century given: choose among {KNOWN_CENTURIES[0]}-{KNOWN_CENTURIES[-1]}")
    for number in numbers:
        if number not in KNOWN_CENTURIES:
            meant = f"; did you mean {number // 100}?" if number // 100 in KNOWN_CENTURIES else ""
            raise InputError(
                f"invalid century {number}: choose among {KNOWN_CENTURIES[0]}-{KNOWN_CENTURIES[-1]}, for instance"
                f" 17 for the years 1700-1799{meant}"
            )
    return numbers
