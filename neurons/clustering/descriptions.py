"""Descriptions in one line: of a neuron by the start years at which it is active and the years that it raises, and of a
cluster by the families of its members."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from neurons.clustering.families import Family
from neurons.decomposition.profiles import ACTIVE_SHARE, active_range, best_split
from neurons.rounding import above, clearly_above, is_nothing, sign_of_largest, whole
from neurons.task.years import spans

if TYPE_CHECKING:
    from neurons.clustering.results import NeuronTuning


def describe(
    *,
    family: Family,
    parameters: dict[str, float],
    start_years: Sequence[int],
    fitted: Float[np.ndarray, " Y"],
    curve: Float[np.ndarray, " Y"],
    readout_family: Family,
    readout: Float[np.ndarray, "100"],
) -> str:
    """`fires for start years 59-98 (step at 58), raises years 71-99`.

    `fitted` is the family's curve, `readout` the fitted readout (or the readout where no family fits).
    Where the activation that matters most is negative the words say so, and the readout is turned round.
    """
    sign = float(sign_of_largest(curve))
    when = _when(family, parameters, start_years, sign * fitted, sign * curve)
    if sign < 0:
        when = when.replace("fires", "is below zero", 1).replace("always on", "always below zero", 1)
    return f"{when}, {_raises(readout_family, sign * readout)}"


def describe_unfitted(
    tuning: Float[np.ndarray, " Y"], readout: Float[np.ndarray, "100"], start_years: Sequence[int]
) -> str:
    """The same of a neuron that no family was fitted to: where it is active, and which years it raises there."""
    if not np.any(tuning) or is_nothing(np.ptp(readout), np.abs(readout).max()):
        return "has no effect on the years"
    first, last = active_range(tuning)
    years = f"{start_years[first]:02d}–{start_years[last]:02d}"
    whole_range = last - first + 1 > ACTIVE_SHARE * len(tuning)
    when = "at all start years" if whole_range else f"mostly at start years {years}"
    split, gap = best_split(sign_of_largest(tuning) * readout)
    verb = "raises" if gap > 0 else "lowers"
    return f"active {when}, where it {verb} the years after {split:02d} against those up to {split:02d}"


def _when(
    family: Family, parameters: dict[str, float], years: Sequence[int], fitted: np.ndarray, curve: np.ndarray
) -> str:
    if family == "constant":
        return "never fires" if not curve.any() else "always on, independent of the start year"
    if family == "none":
        return "fires without a simple relation to the start year"
    if family == "line":
        return f"fires more strongly for {'later' if fitted[-1] > fitted[0] else 'earlier'} start years"
    if family == "periodic":
        return f"fires for start years ending in {_digits(years, fitted)}"
    return f"fires for start years {spans(_upper(years, fitted))} ({_place(family, parameters, fitted)})"


def _place(family: Family, parameters: dict[str, float], fitted: np.ndarray) -> str:
    if family == "step":
        return f"step at {whole(parameters['threshold'])}"
    if family == "ramp":
        side = "above" if parameters["side"] > 0 else "below"
        return f"ramp {side} {whole(parameters['threshold'])}"
    if family == "bump":
        dips = clearly_above(np.median(fitted), (fitted.max() + fitted.min()) / 2, scale=np.ptp(fitted))
        return f"{'dip' if dips else 'bump'} at {whole(parameters['centre'])}, width {whole(parameters['width'])}"
    return "by the tens digit"


def _raises(family: Family, readout: np.ndarray) -> str:
    years = range(len(readout))
    if family == "constant":
        return "has no effect on the years"
    if family == "none":
        return "has a readout of no simple shape"
    if family == "line":
        return f"raises {'later' if readout[-1] > readout[0] else 'earlier'} years more"
    if family == "periodic":
        return f"raises years ending in {_digits(years, readout)}"
    upper = _upper(years, readout)
    if upper and upper == list(range(upper[0], 100)):
        return f"raises years from {upper[0]:02d} on"
    if family == "bump" and len(upper) > 50:
        return f"lowers years {spans([year for year in years if year not in set(upper)])}"
    return f"raises years {spans(upper)}"


def _upper(years: Sequence[int], values: np.ndarray) -> list[int]:
    """Years at which the curve is above the middle of its range."""
    upper = above(values - (values.max() + values.min()) / 2, float(np.ptp(values)))
    return [year for year, is_upper in zip(years, upper.tolist(), strict=True) if is_upper]


def _digits(years: Sequence[int], values: np.ndarray) -> str:
    digits = sorted({year % 10 for year in _upper(years, values)})
    return ", ".join(map(str, digits))


def describe_cluster(fits: "Sequence[NeuronTuning]", medoid: "NeuronTuning") -> str:
    """`12 neurons of layers 8-9; tuning: 11 step (threshold 54-56, median 55), 1 bump; typical: fires for ...`."""
    families = Counter(fit.tuning.family for fit in fits)
    most, _ = families.most_common(1)[0]
    parts = [
        f"{count} {family}{_where(fits, family) if family == most else ''}" for family, count in families.most_common()
    ]
    layers = ", ".join(
        f"layer {layer}: {count}" for layer, count in sorted(Counter(f.neuron.layer for f in fits).items())
    )
    return f"{len(fits)} neurons ({layers}); tuning: {', '.join(parts)}; typical: {medoid.description}"


def _where(fits: "Sequence[NeuronTuning]", family: str) -> str:
    """The thresholds or centres of the members of one family."""
    for name in ("threshold", "centre"):
        values = [
            fit.tuning.parameters[name] for fit in fits if fit.tuning.family == family and name in fit.tuning.parameters
        ]
        if values:
            return f" ({name} {whole(min(values))}-{whole(max(values))}, median {whole(np.median(values))})"
    return ""
