"""Comparisons whose outcome no rounding can turn, and orders with a stated tie rule.

Activations are float32, and sums of products differ in their last bits between processors, libraries and thread
counts. Hence two rules for every verdict, call, family, cluster, rank and text:

1. A comparison has a margin of 1e-6 of the sizes compared: what is above must be clearly above, and what lies on a
   bar has reached it.
2. In an order, values that differ by less than float32's resolution of the largest are equal, and equal ones keep
   their order: twins, silent neurons and cells of a symmetric map do not change places.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

Real = float | int | np.floating

MARGIN = 1e-6
"""Of the sizes compared; some ten times float32's resolution."""
RESOLUTION = float(np.finfo(np.float32).eps)
"""Of the largest value of an order (1.2e-7)."""


def clearly_above(value: Real, other: Real, *, scale: Real = 0.0) -> bool:
    """Whether value > other by more than rounding. scale: the size of what they were computed from, where larger."""
    return bool(value - other > MARGIN * max(abs(float(value)), abs(float(other)), float(scale)))


def reaches(value: Real, bar: Real, *, scale: Real = 0.0) -> bool:
    """Whether value >= bar, a value that rounding alone parts from the bar included. False for NaN."""
    return bool(value - bar >= -MARGIN * max(abs(float(value)), abs(float(bar)), float(scale)))


def is_nothing(values: Float[np.ndarray, "..."] | Real, scale: Real) -> bool:
    """Whether all values are nothing but rounding beside what they were computed from."""
    return bool(np.abs(values).max(initial=0.0) <= MARGIN * scale)


def cleared(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Values of less than float32's resolution of the largest as 0."""
    return np.where(np.abs(values) <= RESOLUTION * _largest_size(values), 0.0, values)


def centred_rows(rows: Float[np.ndarray, "M X"]) -> Float[np.ndarray, "M X"]:
    """Less each row's mean; a row of which only rounding is left becomes 0."""
    centred = rows - rows.mean(1, keepdims=True)
    left = np.abs(centred).max(1, keepdims=True, initial=0.0) > MARGIN * np.abs(rows).max(1, keepdims=True, initial=0.0)
    return np.where(left, centred, 0)


def descending(values: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Places of the values, largest first; ties keep their order, NaN comes last.

    A tie holds those within the resolution of its first, so that none is more than that out of place.
    """
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    tie = np.zeros(len(values), int)
    width, first, number = RESOLUTION * _largest_size(values), np.inf, 0
    for place, value in enumerate(ordered.tolist()):
        if not first - value <= width:
            first, number = value, number + 1
        tie[place] = number
    return order[np.lexsort((order, tie))]


def ascending(values: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The same, smallest first."""
    return descending(-values)


def largest(values: Float[np.ndarray, "K *rest"]) -> Int[np.ndarray, "*rest"]:
    """Place of the largest value along the first axis; the first of those that equal it."""
    top = values.max(0, keepdims=True)
    width = RESOLUTION * np.abs(values).max(0, keepdims=True)
    return np.asarray((values >= top - width).argmax(0))


def sign_of_largest(values: Float[np.ndarray, "K *rest"]) -> Float[np.ndarray, "*rest"]:
    """1 or -1 along the first axis: the sign of the first entry of the largest size; 1 where all are 0."""
    place = largest(np.abs(values))[None]
    return np.where(np.take_along_axis(values, place, 0)[0] < 0, -1.0, 1.0)


def above(values: Float[np.ndarray, "..."], scale: Real) -> Bool[np.ndarray, "..."]:
    """Where values are above 0 by more than rounding of what they were computed from."""
    return values > MARGIN * scale


def whole(value: float) -> str:
    """Rounded to a whole number; what lies midway but for a thousandth is midway, and goes to the even one."""
    return f"{round(value, 3):.0f}"


def _largest_size(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))
