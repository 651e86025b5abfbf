"""The tiling law: neurons that are tuned to a place of the century write an edge near it.

1. Tuning: the curve less its mean, smoothed over five start years, turned so that its largest size is up. Centre: the
   middle of the run of start years around the peak at 80 % of its height or more; width: of the run at half of it.
   Both runs end between start years, by straight line. Standard errors are a jackknife over centuries.
2. Readout edge: of the steps that raise the years y > z against y <= z when the neuron is at its centre, the one that
   explains most of the readout (least squares); of all steps where none raises them. z is between the first and the
   last start year: elsewhere a step is no cutoff. Its height is what the neuron adds to that step at the peak of its
   tuning, in logits.
3. The law is the correlation of centre and edge over neurons, of ranks, weighted by their shares. Its interval is a
   jackknife over neurons: centuries would say how well each place is known, not whether the places belong together.
4. The edge at a start year is the step of the summed map from YY - 1 to YY + 1, and each neuron's part of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from neurons.decomposition.population import Population
from neurons.decomposition.scores import smoothed
from neurons.intervals import jackknife, left_out
from neurons.regression.tiling_results import EdgeAt, Exchange, Law, Placed, Tiling
from neurons.rounding import MARGIN, ascending, largest, sign_of_largest
from neurons.task.years import N_YEARS, contrast_weights

TOP, HALF = 0.8, 0.5
"""Parts of a tuning's height: where its top is, and where its width is taken."""
AS_GOOD = 0.9
"""Part of what the best step explains from which another is as good."""
NAMED = 5
"""Neurons named at each edge."""
FEWEST = 3


@dataclass(frozen=True, eq=False)
class Places:
    """Of M curves, in years; peak in their own unit, with its sign; silent ones are at NaN."""

    centre: Float[np.ndarray, "... M"]
    width: Float[np.ndarray, "... M"]
    peak: Float[np.ndarray, "... M"]


@dataclass(frozen=True, eq=False)
class Edges:
    """Of M readouts: the edge's year, those as good on either side, and the gap in the readout's unit."""

    edge: Int[np.ndarray, " M"]
    low: Int[np.ndarray, " M"]
    high: Int[np.ndarray, " M"]
    gap: Float[np.ndarray, " M"]


def tile(
    population: Population, rows: Int[np.ndarray, " m"], share: Float[np.ndarray, " m"], *, exchange: Exchange | None
) -> Tiling:
    """The places of these neurons and their law. population: all neurons of the layers; share: the weight of each."""
    some = population.take(rows)
    found = places(some.start_years, some.curve)
    readout = np.where(found.peak < 0, -1.0, 1.0)[:, None] * some.readout
    turned, edges = turned_curves(some.curve), edges_of(some.start_years, readout)
    kept = np.flatnonzero(np.isfinite(found.centre) & (edges.gap != 0))
    order = kept[ascending(found.centre[kept])]
    placed = _placed(some, found, edges, share)
    neurons = tuple(placed[row] for row in order.tolist())
    readout = readout[order]
    return Tiling(
        model=population.model,
        start_years=population.start_years,
        neurons=neurons,
        law=law_of(found.centre[order], edges.edge[order], share[order]),
        covered=_covered(population.start_years, neurons),
        edges=_edges_at(population, some),
        tuning=turned[:, order] / np.abs(turned[:, order]).max(0, initial=1e-300),
        readout=readout / np.abs(readout).max(1, initial=1e-300)[:, None],
        exchange=exchange,
    )


def turned_curves(curve: Float[np.ndarray, "Y M"]) -> Float[np.ndarray, "Y M"]:
    """Each curve less its mean, turned so that the largest size of the smoothed one is up."""
    away = curve - curve.mean(0)
    return away * sign_of_largest(smoothed(away))


def places(start_years: Sequence[int], curve: Float[np.ndarray, "Y M"]) -> Places:
    """Centre, width and peak of each curve."""
    away = smoothed(curve - curve.mean(0))
    sign = sign_of_largest(away)
    up, years = away * sign, np.asarray(start_years, float)
    at = largest(up)
    top, half = (
        np.array([_run(years, up[:, m], int(at[m]), part) for m in range(up.shape[1])]).reshape(-1, 2)
        for part in (TOP, HALF)
    )
    peak = np.take_along_axis(up, at[None], 0)[0] * sign
    silent = ~(np.abs(peak) > 1e-5 * np.abs(curve).max(0, initial=0.0))
    centre, width = np.where(silent, np.nan, [top.mean(1), half[:, 1] - half[:, 0]])
    return Places(centre, width, np.where(silent, 0.0, peak))


def _run(years: Float[np.ndarray, " Y"], up: Float[np.ndarray, " Y"], at: int, part: float) -> tuple[float, float]:
    """Where the curve falls below this part of its peak, before and after it; an end of the years where it does not."""
    level = part * up[at]
    below = np.flatnonzero(up < level)
    before, after = below[below < at], below[below > at]
    low = _crossing(years, up, level, int(before[-1]), int(before[-1]) + 1) if len(before) else float(years[0])
    high = _crossing(years, up, level, int(after[0]), int(after[0]) - 1) if len(after) else float(years[-1])
    return low, high


def _crossing(years: np.ndarray, up: np.ndarray, level: float, out: int, inside: int) -> float:
    return float(years[out] + (years[inside] - years[out]) * (level - up[out]) / (up[inside] - up[out]))


def edges_of(start_years: Sequence[int], readout: Float[np.ndarray, "M 100"]) -> Edges:
    """The edge of each readout, turned as the neuron is at its centre."""
    z = np.arange(N_YEARS - 1)[:, None]
    cutoff = (z >= start_years[0]) & (z <= start_years[-1])
    gap = contrast_weights(range(N_YEARS - 1)) @ readout.T
    after = np.arange(N_YEARS - 1, 0, -1)[:, None]
    explained = gap**2 * after * (N_YEARS - after)
    raising = cutoff & (gap > MARGIN * np.abs(gap).max(0, initial=0.0))
    explained = np.where(raising | (cutoff & ~raising.any(0)), explained, 0.0)
    edge, neurons = largest(explained), np.arange(len(readout))
    poor = explained < AS_GOOD * explained[edge, neurons]
    low = np.where(poor & (z < edge), z + 1, 0).max(0)
    high = np.where(poor & (z > edge), z - 1, N_YEARS - 2).min(0)
    return Edges(edge, low, high, gap[edge, neurons])


def _placed(some: Population, found: Places, edges: Edges, share: Float[np.ndarray, " m"]) -> list[Placed]:
    without = [places(some.start_years, curve) for curve in left_out(some.cells)] if some.n_centuries > 1 else []
    errors = {
        name: jackknife(getattr(found, name), np.stack([getattr(one, name) for one in without])).standard_error
        if without
        else np.full(len(some), np.nan)
        for name in ("centre", "width", "peak")
    }

    def error(name: str, row: int, scale: float = 1.0) -> float | None:
        value = float(errors[name][row]) * scale
        return None if np.isnan(value) else value

    return [
        Placed(
            neuron=some.neurons[row],
            share=float(share[row]),
            centre=float(found.centre[row]),
            centre_error=error("centre", row),
            width=float(found.width[row]),
            width_error=error("width", row),
            edge=int(edges.edge[row]),
            edge_low=int(edges.low[row]),
            edge_high=int(edges.high[row]),
            height=abs(float(found.peak[row])) * float(edges.gap[row]),
            height_error=error("peak", row, abs(float(edges.gap[row]))),
        )
        for row in range(len(some))
    ]


def law_of(centre: Float[np.ndarray, " M"], edge: Int[np.ndarray, " M"], weight: Float[np.ndarray, " M"]) -> Law:
    """The correlation of ranks, slope and offset of edge on centre; weights below 0 count as 0."""
    weight = np.maximum(weight, 0)
    if len(centre) < FEWEST or np.count_nonzero(weight) < FEWEST or not np.ptp(centre) or not np.ptp(edge):
        return Law(None, None, None, None, None, None, None)
    every = np.arange(len(centre))
    without = np.stack([_strength(centre[n], edge[n], weight[n]) for n in (np.delete(every, m) for m in every)])
    found = jackknife(_strength(centre, edge, weight), without)
    low, high = np.maximum(found.low, [-1, -np.inf]), np.minimum(found.high, [1, np.inf])
    return Law(
        correlation=float(found.estimate[0]), ci_low=float(low[0]), ci_high=float(high[0]),
        slope=float(found.estimate[1]), slope_ci_low=float(low[1]), slope_ci_high=float(high[1]),
        offset=_median(edge - centre, weight),
    )  # fmt: skip


def _strength(centre: np.ndarray, edge: np.ndarray, weight: np.ndarray) -> Float[np.ndarray, "2"]:
    """Weighted correlation of ranks, and weighted least-squares slope."""
    cov = np.cov(rankdata(centre), rankdata(edge), aweights=weight)
    scale = np.sqrt(cov[0, 0] * cov[1, 1])
    years = np.cov(centre, edge, aweights=weight)
    return np.array([cov[0, 1] / scale if scale else 0.0, years[0, 1] / years[0, 0] if years[0, 0] else 0.0])


def _median(values: Float[np.ndarray, " M"], weight: Float[np.ndarray, " M"]) -> float:
    order = ascending(values)
    reached = np.cumsum(weight[order]) >= weight.sum() / 2
    return float(values[order][int(reached.argmax())])


def _covered(start_years: Sequence[int], neurons: Sequence[Placed]) -> Int[np.ndarray, " Y"]:
    years = np.asarray(start_years)[:, None]
    centre, width = (np.array([getattr(one, name) for one in neurons]) for name in ("centre", "width"))
    return (np.abs(years - centre) <= width / 2).sum(1)


def _edges_at(population: Population, some: Population) -> tuple[EdgeAt, ...]:
    years = np.array(population.start_years)
    step = [one.readout[:, years + 1] - one.readout[:, years - 1] for one in (population, some)]
    away = [one.curve - one.curve.mean(0) for one in (population, some)]
    whole, adds = (away[0] * step[0].T).sum(1), away[1] * step[1].T
    found = []
    for place, year in enumerate(years.tolist()):
        first = ascending(-adds[place])[:NAMED].tolist()
        names, values = tuple(some.neurons[row] for row in first), tuple(adds[place, first].tolist())
        found.append(EdgeAt(year, float(whole[place]), float(adds[place].sum()), names, values))
    return tuple(found)
