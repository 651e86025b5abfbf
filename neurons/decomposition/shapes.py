"""Shapes of a map of start year by year: triangle, diagonal, span limit.

1. Rows and columns are centred, so that neither what all start years share nor a shift common to all years
   counts: a YY-independent bias to late years is nothing here, nor is a mere slope in y - YY.
2. The rest is compared (by the cosine) with three centred patterns:
       triangle     1 for y > YY
       diagonal     exp(-(y - YY)^2 / 50): the years around YY (a standard deviation of 5 years)
       span limit   -1 for y > YY + 50

The triangle is odd and the diagonal even in y - YY, so that neither resembles the other: over start years 02-98
their own cosine is -0.06. A triangle that fades with distance has both, and is a triangle by the first alone.

One neuron's map has rank one. No such map has a cosine with the triangle above 0.56 (`rank_one_limit`).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from neurons.rounding import largest, reaches
from neurons.task.years import N_YEARS

Shape = Literal["triangle", "diagonal", "span limit"]

LEAST_CORRELATION = 0.4
NOTHING = 1e-9
"""Share of a map that may be left of it by rounding when it is centred."""
WIDTH, SPAN = 5.0, 50
"""Years: the diagonal's standard deviation, and the published limit of a span."""


def shapes(start_years: Sequence[int]) -> dict[Shape, Float[np.ndarray, "Y 100"]]:
    """Return the three patterns, not centred."""
    after = np.arange(N_YEARS) - np.asarray(start_years)[:, None]
    return {
        "triangle": (after > 0).astype(float),
        "diagonal": np.exp(-(after**2) / (2 * WIDTH**2)),
        "span limit": -(after > SPAN).astype(float),
    }


def cosines(maps: Float[np.ndarray, "B Y 100"], start_years: Sequence[int]) -> dict[Shape, Float[np.ndarray, " B"]]:
    """Return each centred map's cosine with each pattern; 0 if there is nothing to compare."""
    centred = doubly_centred(maps)
    size = np.linalg.norm(centred, axis=(1, 2))
    there = size > NOTHING * np.linalg.norm(maps, axis=(1, 2))
    found: dict[Shape, Float[np.ndarray, " B"]] = {}
    for name, pattern in shapes(start_years).items():
        target = doubly_centred(pattern)
        along = np.tensordot(centred, target / np.linalg.norm(target), 2)
        found[name] = np.divide(along, size, out=np.zeros(len(maps)), where=there)
    return found


def correlations(written: Float[np.ndarray, "Y 100"], start_years: Sequence[int]) -> dict[Shape, float]:
    """Return the same for one map."""
    return {name: float(values[0]) for name, values in cosines(written[None], start_years).items()}


def shape_of(found: dict[Shape, float]) -> Shape | None:
    """Return the pattern with the largest cosine, either sign, if it is at least 0.4."""
    names = list(found)
    best = names[int(largest(np.abs([found[name] for name in names])))]
    return best if reaches(abs(found[best]), LEAST_CORRELATION) else None


def doubly_centred(values: Float[np.ndarray, "... Y 100"]) -> Float[np.ndarray, "... Y 100"]:
    """Subtract means so that rows and columns have mean 0."""
    rows_done = values - values.mean(-1, keepdims=True)
    return rows_done - rows_done.mean(-2, keepdims=True)


def rank_one_limit(start_years: Sequence[int]) -> float:
    """Return the largest cosine with the triangle that any map of rank one can have (Eckart and Young)."""
    sizes = np.linalg.svd(doubly_centred(shapes(start_years)["triangle"]), compute_uv=False)
    return float(sizes[0] / np.linalg.norm(sizes))


def rank_one_cosines(
    tuning: Float[np.ndarray, "Y N"], readout: Float[np.ndarray, "N 100"], pattern: Float[np.ndarray, "Y 100"]
) -> Float[np.ndarray, " N"]:
    """Return each neuron's own map's cosine with a pattern, both centred: tuning curve times readout, never formed."""
    A, R = tuning - tuning.mean(0), readout - readout.mean(1, keepdims=True)
    target = doubly_centred(pattern)
    products = ((A.T @ target) * R).sum(1)
    sizes = np.linalg.norm(A, axis=0) * np.linalg.norm(R, axis=1)
    whole = np.linalg.norm(tuning, axis=0) * np.linalg.norm(readout, axis=1)
    cosines = products / np.linalg.norm(target)
    return np.divide(cosines, sizes, out=np.zeros_like(products), where=sizes > NOTHING * whole)
