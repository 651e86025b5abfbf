"""Regression of a year-centred map on named shapes: how much of it is ">".

1. Each term is a shape over the cells (start year YY, year y), its mean over the years subtracted, as in the
   map.
2. Least squares over all cells. A map is a mean over prompts and the regression is linear in it, so an
   interval comes from resampling the nouns.
3. A term's share is the R^2 lost when it alone is dropped; its `alone` is the R^2 that it reaches by
   itself. The terms overlap (a step favours later years), so the shares do not add up to R^2.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from neurons.decomposition.significance import interval
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
    sums: Float[np.ndarray, "G Y 100"],
    counts: Float[np.ndarray, "G Y"],
    resampled: Float[np.ndarray, "B G"],
) -> Regression:
    """Regress the mean map of all groups of prompts.

    sums: the year-centred map summed over the prompts of each group, counts: how many there are.
    resampled: how often each group occurs in each resample of the nouns (B = 0 with one noun).
    """
    cells = (sums.sum(0) / counts.sum(0)[:, None]).reshape(-1)
    total = float((cells**2).sum())
    if not total:
        return Regression(None, ())
    X = _design(start_years, fade)
    gram, products = X.T @ X, X.T @ cells
    full = _explained(gram, products)
    low, high = np.full((2, len(TERMS)), np.nan)
    if len(resampled):
        low, high = interval(_resampled_coefficients(np.linalg.pinv(X, MARGIN), sums, counts, resampled))
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
                ci_low=float(low[t]) if len(resampled) else None,
                ci_high=float(high[t]) if len(resampled) else None,
                share=(full - without) / total,
                alone=alone / total,
            )
        )
    return Regression(full / total, tuple(terms))


def _resampled_coefficients(
    pseudo: Float[np.ndarray, "terms cells"],
    sums: Float[np.ndarray, "G Y 100"],
    counts: Float[np.ndarray, "G Y"],
    resampled: Float[np.ndarray, "B G"],
) -> Float[np.ndarray, "B terms"]:
    """Coefficients are linear in the map: each group's rows are projected once, then weighted for each resample.

    A start year that a resample lost keeps the mean of all groups.
    """
    G, Y, _ = sums.shape
    rows = np.einsum("gyx,tyx->gyt", sums, pseudo.reshape(len(pseudo), Y, -1), optimize=True)
    prompts = (resampled @ counts)[:, :, None]
    mean = rows.sum(0) / counts.sum(0)[:, None]
    weighted = (resampled @ rows.reshape(G, -1)).reshape(len(resampled), Y, -1)
    return np.where(prompts > 0, weighted / np.maximum(prompts, 1), mean).sum(1)


def _design(start_years: Sequence[int], fade: float) -> Float[np.ndarray, "cells terms"]:
    return shapes(start_years, fade).reshape(len(TERMS), -1).T


def _explained(gram: Float[np.ndarray, "p p"], products: Float[np.ndarray, " p"]) -> float:
    """Sum of squares that a regression explains, from its normal equations; a term that is 0 explains nothing."""
    return float(products @ np.linalg.lstsq(gram, products, rcond=MARGIN**2)[0])
