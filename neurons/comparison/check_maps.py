"""Published checks of MLP maps, from a cache file: the shape of a layer's map, and how many neurons it takes.

1. `LayerMaps`: one layer's tuning curves by century and readouts; standard errors are a jackknife over centuries.
2. Shapes are those of `neurons.decomposition.shapes`: an upper-triangular map has a cosine above 0.4 with the
   triangle, a diagonal one has a larger cosine with the diagonal than with the triangle, above 0.4 too, either sign.
3. The component of a neuron's map along the triangle (their inner product) adds up over the layer: a neuron's share of
   the sum shows whether the step is one neuron's.
4. The first neurons by boosting score are summed: the sum is ">" if it is more of a triangle than any one of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from neurons.comparison import published
from neurons.comparison.published import judge_bound, layer_of, unjudged
from neurons.comparison.results import Check
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.shapes import LEAST_CORRELATION, cosines, doubly_centred, rank_one_cosines, shapes
from neurons.intervals import Cells, jackknife, left_out, year_means
from neurons.rounding import descending

Tuning = Float[np.ndarray, "Y N"]


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """One layer's neurons: a/sigma by century and start year (`LogitEffects.cells`), readout [N, 100]."""

    start_years: tuple[int, ...]
    cells: Cells
    readout: Float[np.ndarray, "N 100"]

    @cached_property
    def tuning(self) -> Tuning:
        return year_means(self.cells)

    @cached_property
    def without(self) -> Float[np.ndarray, "C Y N"]:
        """`tuning` without each century."""
        return left_out(self.cells)

    def error(self, statistic: Callable[[Tuning], float]) -> float:
        """Standard error of a statistic of the tuning curves; NaN with one century."""
        without = np.array([statistic(tuning) for tuning in self.without])
        return float(jackknife(np.array(statistic(self.tuning)), without).standard_error)


def layer_maps(effects: LogitEffects, layer: int) -> LayerMaps:
    """From a cache file."""
    return LayerMaps(effects.start_years, effects.cells(layer), effects.readout(layer).astype(float))


def map_checks(effects: LogitEffects, n_layers: int) -> tuple[Check, ...]:
    """Check the shape of the MLPs' maps, and the shares of single neurons in them."""
    layers = dict.fromkeys(layer_of(layer, n_layers) for layer in published.TRIANGULAR)
    diagonal, step = layer_of(published.DIAGONAL, n_layers), layer_of(published.STEP_LAYER, n_layers)
    maps = {layer: layer_maps(effects, layer) for layer in (*layers, diagonal, step)}
    order = descending(effects.layer_contrast(step).mean(0))
    return (
        *(_triangle_check(layer, maps[layer]) for layer in layers),
        _diagonal_check(diagonal, maps[diagonal]),
        _single_check(step, maps[step]),
        *(_sum_check(step, maps[step], order[:top]) for top in published.TOPS),
    )


def _triangle_check(layer: int, maps: LayerMaps) -> Check:
    def along(tuning: Tuning) -> float:
        return float(cosines((tuning @ maps.readout)[None], maps.start_years)["triangle"][0])

    return judge_bound(
        f"MLP {layer}: map's cosine with the triangle",
        along(maps.tuning),
        LEAST_CORRELATION,
        maps.error(along),
        side="above", published="upper triangular", source=published.SECOND_HAND, claim="upper triangular",
    )  # fmt: skip


def _diagonal_check(layer: int, maps: LayerMaps) -> Check:
    """Check for a diagonal: either sign, and more similar to the diagonal than to the triangle."""

    def of(tuning: Tuning) -> tuple[float, float]:
        like = cosines((tuning @ maps.readout)[None], maps.start_years)
        return abs(float(like["diagonal"][0])), max(LEAST_CORRELATION, abs(float(like["triangle"][0])))

    name = f"MLP {layer}: map's cosine with the diagonal, size"
    return _exceeds(name, maps, of, published_as="diagonal", claim="diagonal")


def _single_check(layer: int, maps: LayerMaps) -> Check:
    """Check the largest share of one neuron in what the layer's neurons add along the triangle, those above 0."""
    along = maps.readout @ doubly_centred(shapes(maps.start_years)["triangle"]).T

    def largest(tuning: Tuning) -> float:
        above = np.maximum((tuning * along.T).sum(0), 0)
        return float(above.max(initial=0) / above.sum()) if above.any() else 0.0

    return judge_bound(
        f"MLP {layer}: largest share of the step in one neuron",
        largest(maps.tuning),
        published.MOST_OF_ONE,
        maps.error(largest),
        side="below", published="none is '>'", source=published.SECOND_HAND, claim="no single neuron is '>'",
    )  # fmt: skip


def _sum_check(layer: int, maps: LayerMaps, neurons: Int[np.ndarray, " k"]) -> Check:
    """Their sum is more of a triangle than any one of them, and than 0.4; with one neuron there is nothing to judge."""
    pattern, R = shapes(maps.start_years)["triangle"], maps.readout[neurons]

    def of(tuning: Tuning) -> tuple[float, float]:
        ones = rank_one_cosines(tuning[:, neurons], R, pattern)
        together = cosines((tuning[:, neurons] @ R)[None], maps.start_years)["triangle"]
        return float(together[0]), float(ones.max(initial=LEAST_CORRELATION))

    name = f"MLP {layer}: top {len(neurons)}, their sum's cosine with the triangle"
    found = _exceeds(name, maps, of, published_as="the sum is '>'", claim="more of a triangle than any one")
    return found if len(neurons) > 1 else unjudged(found)


def _exceeds(
    name: str, maps: LayerMaps, of: Callable[[Tuning], tuple[float, float]], *, published_as: str, claim: str
) -> Check:
    """A value against a bound that is measured too, so that the error is of their difference."""
    value, bound = of(maps.tuning)
    return judge_bound(
        name,
        value,
        bound,
        maps.error(lambda tuning: float(np.subtract(*of(tuning)))),
        side="above", published=published_as, source=published.SECOND_HAND, claim=claim,
    )  # fmt: skip
