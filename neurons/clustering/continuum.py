"""Clusters or a continuum: whether neurons fall into groups at all, by two kinds of evidence.

1. Each tuned curve, smoothed, has three numbers: its tuning centre (the year of its peak, between start years by a
   parabola), its width (the area under the curve from its least to its largest value, over that range, in years), and
   its monotonicity (net change over total variation: 1 rising, -1 falling, about 0 for a bump).
2. Hartigan's dip test of each (Hartigan and Hartigan 1985): groups make a second mode, a continuum makes none, however
   unevenly it is filled. A curve that is monotone by more than half, or whose peak lies at an end, has no centre.
3. Stability: the mean Jaccard overlap of each cluster with its best match when neurons are subsampled (`partition`).
4. Neurons are clustered if any of the three dips has p below 0.05 / 3 and at least half of the neurons that are in
   clusters are in stable ones.

A dip along the lines between centres of clusters does not work (a curved continuum falls into parts there), nor does
one of the centre of mass (the century's ends cut wide bumps).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from neurons.clustering.evidence import Dip, Evidence, Place
from neurons.clustering.prototypes import Prototype
from neurons.clustering.results import STABILITY_BAR, Tuning
from neurons.clustering.tuning import is_constant
from neurons.decomposition.scores import smoothed
from neurons.rounding import largest, reaches, sign_of_largest
from neurons.types import NeuronId

MONOTONE = 0.5
"""A curve with more net change than this share of its total variation has no peak to speak of."""
DECADE = 10
FEWEST = 4
"""Values that a dip test needs."""


def evidence(tuning: Tuning, stability: Sequence[tuple[int, float | None]]) -> Evidence:
    """Weigh the evidence for clusters. stability: size and stability of each cluster."""
    known = [(size, value) for size, value in stability if value is not None]
    total = sum(size for size, _ in known)
    mean = sum(size * value for size, value in known) / total if total else None
    stable = sum(size for size, value in known if reaches(value, STABILITY_BAR))
    return Evidence(_dips(tuning.curve, tuning.start_years), mean, stable / total if total else 0.0)


def tuning_centres(curve: Float[np.ndarray, "Y M"], start_years: Sequence[int]) -> Float[np.ndarray, " M"]:
    """The year at which each smoothed curve is furthest from its mean, between start years by the parabola through
    the peak and its neighbours; NaN for a constant curve.
    """
    oriented, years = _oriented(curve), np.asarray(start_years, float)
    at = largest(oriented) if oriented.shape[1] else np.zeros(0, int)
    neurons, last = np.arange(len(at)), len(years) - 1
    left, right = np.maximum(at - 1, 0), np.minimum(at + 1, last)
    before, peak, after = (oriented[place, neurons] for place in (left, at, right))
    bend = 2 * peak - before - after
    inner = (at > 0) & (at < last) & (bend > 0)
    moved = np.divide(after - before, 2 * bend, out=np.zeros(len(at)), where=inner)
    centre = years[at] + np.clip(moved, -0.5, 0.5)
    return np.where(is_constant(curve), np.nan, centre)


def _dips(curve: Float[np.ndarray, "Y M"], start_years: Sequence[int]) -> tuple[Dip, ...]:
    tuned = curve[:, ~is_constant(curve)].astype(float)
    centre, width, monotone = tuning_centres(tuned, start_years), _widths(tuned), _monotonicity(tuned)
    peaked = (np.abs(monotone) <= MONOTONE) & (centre > start_years[0]) & (centre < start_years[-1])
    values: dict[Place, np.ndarray] = {"tuning centre": centre[peaked], "width": width, "monotonicity": monotone}
    return tuple(_dip(of, found) for of, found in values.items())


def _dip(of: Place, values: Float[np.ndarray, " n"]) -> Dip:
    from diptest import diptest  # slow to import

    if len(values) < FEWEST:
        return Dip(of, len(values), None, None)
    found, p_value = diptest(values)
    return Dip(of, len(values), float(found), float(p_value))


def _oriented(curve: Float[np.ndarray, "Y M"]) -> Float[np.ndarray, "Y M"]:
    """Smoothed, less its mean, its largest deviation upwards."""
    smooth = smoothed(curve - curve.mean(0))
    return smooth * sign_of_largest(smooth) if curve.shape[1] else smooth


def _widths(curve: Float[np.ndarray, "Y M"]) -> Float[np.ndarray, " M"]:
    oriented = _oriented(curve)
    height = np.ptp(oriented, axis=0)
    return np.divide((oriented - oriented.min(0)).sum(0), height, out=np.zeros(len(height)), where=height > 0)


def _monotonicity(curve: Float[np.ndarray, "Y M"]) -> Float[np.ndarray, " M"]:
    smooth = smoothed(curve)
    net, variation = smooth[-1] - smooth[0], np.abs(np.diff(smooth, axis=0)).sum(0)
    sign = sign_of_largest(curve) if curve.shape[1] else np.zeros(0)
    return np.asarray(sign * np.divide(net, variation, out=np.zeros_like(net), where=variation > 0))


# --- prototypes ----------------------------------------------------------------------------------


def prototypes(
    neurons: Sequence[NeuronId], curve: Float[np.ndarray, "Y M"], groups: Iterable[tuple[str, Int[np.ndarray, " _"]]]
) -> tuple[Prototype, ...]:
    """The prototype of each group: its name, and the places of its members among the neurons."""
    unit = _standardised(curve)
    return tuple(
        Prototype(
            name, tuple(neurons[row] for row in rows.tolist()), _standardised(unit[:, rows].mean(1)[:, None])[:, 0]
        )
        for name, rows in groups
    )


def bins(tuning: Tuning) -> list[tuple[str, Int[np.ndarray, " _"]]]:
    """Neurons by the decade of their tuning centre, those without any last; empty bins are left out."""
    centre = tuning_centres(tuning.curve, tuning.start_years)
    decade = np.floor_divide(np.nan_to_num(centre, nan=-1.0), DECADE).astype(int)
    found = [(f"centre {at * DECADE:02d}-{at * DECADE + DECADE - 1:02d}", np.flatnonzero(decade == at))
             for at in range(DECADE)]  # fmt: skip
    found.append(("constant", np.flatnonzero(np.isnan(centre))))
    return [(name, rows) for name, rows in found if len(rows)]


def _standardised(curve: Float[np.ndarray, "Y M"]) -> Float[np.ndarray, "Y M"]:
    deviation = curve - curve.mean(0)
    size = deviation.std(0)
    unit = np.divide(deviation, size, out=np.zeros_like(deviation), where=~is_constant(curve))
    return unit * sign_of_largest(smoothed(unit)) if curve.shape[1] else unit
