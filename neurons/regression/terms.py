"""Regression of a year-centred map on named shapes: how much of it is ">".

1. Each term is a shape over the cells (start year YY, year y), its mean over the years subtracted, as in the
   map.
2. Least squares over all cells. The regression is linear in the map, and its interval a jackknife over centuries.
3. A term's share is the R^2 lost when it alone is dropped; its `alone` is the R^2 that it reaches by
   itself. The terms overlap (a step favours later years), so the shares do not add up to R^2.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from neurons.intervals import Cells, interval, year_means
from neurons.regression.results import WRITES, Regression, Term
from neurons.rounding import MARGIN, largest
from neurons.task.years import N_YEARS

FADES = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0)
"""Years over which what distance costs may build up (to 1 - 1/e)."""
DIAGONAL, SPAN = 2.0, 50
TERMS = (*WRITES, "digit_cos_10", "digit_sin_10", "digit_cos_5", "digit_sin_5", "same_digit")


def shapes(start_years: Sequence[int], fade: float) -> Float[np.ndarray, "terms Y 100"]:
    """The terms over (YY, y), in the order of `TERMS`, centred over y.

    slope: y / 100. step: 1 for y > YY. decay: 1 - exp(-(y - YY) / fade) for y > YY, so that a negative
    coefficient takes from the step what distance costs. diagonal: exp(-|y - YY| / 2). span_limit: 1 for
    y > YY + 50. digit_*: cosine and sine of y with periods 10 and 5. same_digit: 1 where y ends like YY.
    """
    y = np.arange(N_YEARS, dtype=float)[None, :]
    YY = np.asarray(start_years, float)[:, None]
    after = y - YY
    turn = 2 * np.pi * (y + 0 * YY)
    raw = [
        y / 100 + 0 * YY,
        after > 0,
        -np.expm1(-np.maximum(after, 0) / fade),
        np.exp(-np.abs(after) / DIAGONAL),
        after > SPAN,
        np.cos(turn / 10),
        np.sin(turn / 10),
        np.cos(turn / 5),
        np.sin(turn / 5),
        after % 10 == 0,
    ]
    stack = np.stack([np.asarray(shape, float) for shape in raw])
    return stack - stack.mean(2, keepdims=True)


def best_fade(start_years: Sequence[int], target: Float[np.ndarray, "Y 100"]) -> float:
    """The decay length of `FADES` with which the terms explain most of the year-centred map; the shortest of equals."""

    def explained(fade: float) -> float:
        X = _design(start_years, fade)
        return _explained(X.T @ X, X.T @ target.reshape(-1))

    return FADES[int(largest(np.array([explained(fade) for fade in FADES])))]


def regress(
    start_years: Sequence[int],
    fade: float,
    maps: Cells,
) -> Regression:
    """Regress the map [Y, 100] at the average century. maps [C, Y, 100]: the year-centred map of each century."""
    cells = year_means(maps).reshape(-1)
    total = float((cells**2).sum())
    if not total:
        return Regression(None, ())
    X = _design(start_years, fade)
    gram, products = X.T @ X, X.T @ cells
    full = _explained(gram, products)
    pseudo = np.linalg.pinv(X, MARGIN)
    band = interval(maps, lambda one: pseudo @ one.reshape(-1))
    coefficients = np.linalg.lstsq(gram, products, rcond=MARGIN**2)[0]
    terms = []
    for t, name in enumerate(TERMS):
        others = np.delete(np.arange(len(TERMS)), t)
        without = _explained(gram[np.ix_(others, others)], products[others])
        alone = _explained(gram[t : t + 1, t : t + 1], products[t : t + 1])
        terms.append(
            Term(
                term=name,
                coefficient=float(coefficients[t]),
                ci_low=float(band.low[t]) if band.centuries > 1 else None,
                ci_high=float(band.high[t]) if band.centuries > 1 else None,
                share=(full - without) / total,
                alone=alone / total,
            )
        )
    return Regression(full / total, tuple(terms))


def _design(start_years: Sequence[int], fade: float) -> Float[np.ndarray, "cells terms"]:
    return shapes(start_years, fade).reshape(len(TERMS), -1).T


def _explained(gram: Float[np.ndarray, "p p"], products: Float[np.ndarray, " p"]) -> float:
    """Sum of squares that a regression explains, from its normal equations; a term that is 0 explains nothing."""
    return float(products @ np.linalg.lstsq(gram, products, rcond=MARGIN**2)[0])
