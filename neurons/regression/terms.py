"""Regression of a map on named shapes: how much of it is ">", a lean that looks at no YY left out.

1. Map and terms are centred over start years and over years: neither what all start years share (a lean to late years)
   nor a shift common to all years is left.
2. Least squares over all cells. The regression is linear in the map, and its interval a jackknife over centuries.
3. A term's share is the R^2 lost when it alone is dropped; its `alone` is the R^2 that it reaches by
   itself. The terms overlap, so the shares do not add up to R^2.
4. Held-out R^2: each century's map is predicted by the coefficients of the others.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from neurons.decomposition.shapes import doubly_centred
from neurons.intervals import Cells, interval, left_out, year_means
from neurons.regression.results import Regression, Term
from neurons.rounding import MARGIN, is_nothing
from neurons.task.years import N_YEARS

DIAGONAL, SPAN = 2.0, 50
TERMS = ("step", "diagonal", "span_limit", "later_slope")


def shapes(start_years: Sequence[int]) -> Float[np.ndarray, "terms Y 100"]:
    """The terms over (YY, y), in the order of `TERMS`, doubly centred.

    step: 1 for y > YY. diagonal: exp(-|y - YY| / 2). span_limit: 1 for y > YY + 50. later_slope: (y - YY) / 100 for
    y > YY, so that a negative coefficient says that the nearer years get more.
    """
    after = np.arange(N_YEARS, dtype=float) - np.asarray(start_years, float)[:, None]
    raw = [after > 0, np.exp(-np.abs(after) / DIAGONAL), after > SPAN, np.maximum(after, 0) / N_YEARS]
    return doubly_centred(np.stack([np.asarray(shape, float) for shape in raw]))


def regress(start_years: Sequence[int], maps: Cells) -> Regression:
    """Regress the map [Y, 100] at the average century. maps [C, Y, 100]: the map of each century."""
    whole = year_means(maps)
    cells = doubly_centred(whole).reshape(-1)
    if is_nothing(cells, np.abs(whole).max(initial=0.0)):
        return Regression(None, None, ())
    total = float((cells**2).sum())
    X = _design(start_years)
    gram, products = X.T @ X, X.T @ cells
    full = _explained(gram, products)
    pseudo = np.linalg.pinv(X, MARGIN)
    band = interval(maps, lambda one: pseudo @ doubly_centred(one).reshape(-1))
    terms = []
    for t, name in enumerate(TERMS):
        others = np.delete(np.arange(len(TERMS)), t)
        without = _explained(gram[np.ix_(others, others)], products[others])
        alone = _explained(gram[t : t + 1, t : t + 1], products[t : t + 1])
        terms.append(
            Term(
                term=name,
                coefficient=float(band.estimate[t]),
                ci_low=float(band.low[t]) if band.centuries > 1 else None,
                ci_high=float(band.high[t]) if band.centuries > 1 else None,
                share=(full - without) / total,
                alone=alone / total,
            )
        )
    return Regression(full / total, _held_out(start_years, maps), tuple(terms))


def _held_out(start_years: Sequence[int], maps: Cells) -> float | None:
    """R^2 of each century's own map as the coefficients of the others predict it, at the start years that it has."""
    if len(maps.held) < 2:
        return None
    X = shapes(start_years)
    pseudo = np.linalg.pinv(_design(start_years), MARGIN)
    wrong, total = 0.0, 0.0
    for value, held, others in zip(maps.value, maps.held, left_out(maps), strict=True):
        predicted = np.tensordot(pseudo @ doubly_centred(others).reshape(-1), X, 1)
        target = doubly_centred(value[held])
        wrong += float(((target - doubly_centred(predicted[held])) ** 2).sum())
        total += float((target**2).sum())
    return 1 - wrong / total if total else None


def _design(start_years: Sequence[int]) -> Float[np.ndarray, "cells terms"]:
    return shapes(start_years).reshape(len(TERMS), -1).T


def _explained(gram: Float[np.ndarray, "p p"], products: Float[np.ndarray, " p"]) -> float:
    """Sum of squares that a regression explains, from its normal equations; a term that is 0 explains nothing."""
    return float(products @ np.linalg.lstsq(gram, products, rcond=MARGIN**2)[0])
