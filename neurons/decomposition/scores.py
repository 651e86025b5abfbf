"""Direct-effect scores: what each neuron itself adds to the years after the start year, and where it does.

1. Score: the contrast of a neuron's direct effect (mean over y > YY minus mean over y <= YY), averaged over YY.
2. It splits exactly into a static part (mean activation times mean contrast: a lean to late years that looks at no
   YY) and a year-specific part (covariance over YY of activation and contrast), which is the direct effect proper: of
   the two it alone is lost when the neuron is at a random other start year. Its interval is a jackknife over centuries.
3. Tuning centre: the start year at which the tuning curve, smoothed over `SMOOTHED` start years, is furthest from its
   mean. Readout edge: the year z that best parts the readout into y > z and y <= z. Edge gap: what the deviation at the
   centre adds to the years after z against those up to it; positive where the neuron raises them.
4. Each layer's pairing test says whether its neurons write on the years that they are tuned to.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from neurons.decomposition.effects import LogitEffects, neuron_parts
from neurons.decomposition.pairing import Pairing, pairing_test
from neurons.intervals import Cells, jackknife, left_out, year_means
from neurons.rounding import RESOLUTION, largest
from neurons.task.years import N_YEARS, contrast_weights
from neurons.types import InputError, Progress, check_is, check_progress, check_whole

CONSTANT = 1e-5
"""A tuning curve that varies by less than this share of its size is constant: float32 noise. So is one that varies
by less than float32's resolution of the layer's largest: a silent neuron."""
SMOOTHED = 5


@dataclass(frozen=True, eq=False)
class DirectScores:
    """M neurons layer by layer. score = static + year_specific [M], in logits; low, high [M]: ends of the 95 % interval
    of the year-specific part over centuries, NaN with one.

    tuning_centre, readout_edge [M]: years, NaN for a constant curve; edge_gap [M]: logits. pairing: a test a layer.
    """

    layer: Int[np.ndarray, " M"]
    index: Int[np.ndarray, " M"]
    score: Float[np.ndarray, " M"]
    static: Float[np.ndarray, " M"]
    year_specific: Float[np.ndarray, " M"]
    low: Float[np.ndarray, " M"]
    high: Float[np.ndarray, " M"]
    tuning_centre: Float[np.ndarray, " M"]
    readout_edge: Float[np.ndarray, " M"]
    edge_gap: Float[np.ndarray, " M"]
    pairing: tuple[Pairing, ...]


def direct_scores(
    effects: LogitEffects, *, start_year: int | None = None, progress: Progress | None = None
) -> DirectScores:
    """Score every neuron of the cached layers; start_year: at one alone, where the year-specific part is what the
    neuron's tuning adds to its mean activation.

    Raises `InputError` for a start year that is not measured, or for effects of the plain lens.
    """
    check_is("effects", effects, LogitEffects, "what logit_effects(cache) returns")
    check_progress(progress)
    if effects.lens != "exact":
        raise InputError("neurons are ranked by exact effects: use logit_effects(cache)")
    if start_year is not None and check_whole("start_year", start_year) not in effects.start_years:
        first, last = effects.start_years[0], effects.start_years[-1]
        raise InputError(f"start year {start_year} is not measured: choose within {first:02d}-{last:02d}")
    parts, pairing = [], []
    for done, layer in enumerate(effects.layers):
        part, test = _score_layer(effects, layer, _year_weights(effects, start_year))
        parts.append(part)
        pairing.append(test)
        if progress:
            progress(done + 1, len(effects.layers))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return DirectScores(**columns, pairing=tuple(pairing))


def _year_weights(effects: LogitEffects, start_year: int | None) -> Float[np.ndarray, " Y"]:
    years = effects.start_years
    if start_year is None:
        return np.full(len(years), 1 / len(years))
    return np.array([float(year == start_year) for year in years])


def _score_layer(
    effects: LogitEffects, layer: int, weight: Float[np.ndarray, " Y"]
) -> tuple[dict[str, np.ndarray], Pairing]:
    readout, tuning = effects.readout(layer).astype(float), effects.tuning(layer).astype(float)
    contrast = readout @ contrast_weights(effects.start_years).T
    values = contrast * weight
    centred = tuning - tuning.mean(0)
    size = np.abs(tuning).max(0)
    constant = np.ptp(tuning, axis=0) <= np.maximum(CONSTANT * size, RESOLUTION * size.max(initial=0.0))
    centred[:, constant] = 0
    score, static = (tuning.T * values).sum(1), tuning.mean(0) * values.sum(1)
    low, high = _interval(effects, layer, values)
    columns = {
        "layer": np.full(len(score), layer),
        "index": np.arange(len(score)),
        "score": score,
        "static": static,
        "year_specific": np.where(constant, 0.0, score - static),
        "low": np.where(constant, 0.0, low),
        "high": np.where(constant, 0.0, high),
        **_places(effects.start_years, centred, readout, constant),
    }
    columns["static"] = columns["score"] - columns["year_specific"]
    return columns, pairing_test(centred, contrast)


def _interval(effects: LogitEffects, layer: int, values: Float[np.ndarray, "N Y"]) -> Float[np.ndarray, "2 N"]:
    """Ends of the year-specific part's interval, so many neurons at a time that their cells fit in a bounded memory."""
    cells, ends = effects.cells(layer), np.empty((2, len(values)))
    for part in neuron_parts(cells.held.size, len(values)):
        here = Cells(cells.value[:, :, part], cells.held)
        without = np.stack([_specific(mean, values[part]) for mean in left_out(here)])
        found = jackknife(_specific(year_means(here), values[part]), without)
        ends[:, part] = found.low, found.high
    return ends


def _specific(tuning: Float[np.ndarray, "Y N"], values: Float[np.ndarray, "N Y"]) -> Float[np.ndarray, " N"]:
    """The year-specific part: what a curve's deviations from its mean add."""
    return np.asarray(((tuning - tuning.mean(0)).T * values).sum(1))


def _places(
    start_years: tuple[int, ...],
    centred: Float[np.ndarray, "Y N"],
    readout: Float[np.ndarray, "N 100"],
    constant: np.ndarray,
) -> dict[str, np.ndarray]:
    """Tuning centre, readout edge and edge gap of each neuron."""
    smooth = smoothed(centred)
    at = largest(np.abs(smooth))
    gap = contrast_weights(range(N_YEARS - 1)) @ readout.T
    after = np.arange(N_YEARS - 1, 0, -1)[:, None]
    edge = largest(gap**2 * after * (N_YEARS - after))
    neurons = np.arange(len(constant))
    return {
        "tuning_centre": np.where(constant, np.nan, np.array(start_years)[at]),
        "readout_edge": np.where(np.ptp(readout, axis=1) > 0, edge, np.nan),
        "edge_gap": smooth[at, neurons] * gap[edge, neurons],
    }


def smoothed(curve: Float[np.ndarray, "Y N"]) -> Float[np.ndarray, "Y N"]:
    """Tuning curves as the mean over `SMOOTHED` neighbouring start years, fewer at the ends."""
    reach, Y = SMOOTHED // 2, len(curve)
    total = np.concatenate([np.zeros((1, curve.shape[1])), np.cumsum(curve, axis=0)])
    first, last = np.maximum(np.arange(Y) - reach, 0), np.minimum(np.arange(Y) + reach + 1, Y)
    return (total[last] - total[first]) / (last - first)[:, None]
