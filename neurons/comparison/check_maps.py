"""Published checks of MLP maps, from a cache file: the shape of a layer's map, and how many neurons it takes.

1. `LayerMaps`: one layer's tuning curves by noun and readouts; nouns are resampled for standard errors.
2. Shapes are those of `neurons.decomposition.shapes`: an upper-triangular map has a cosine above 0.4 with the
   triangle, a diagonal one has a larger cosine with the diagonal than with the triangle, above 0.4 too, either sign.
3. The component of a neuron's map along the triangle (their inner product) adds up over the layer: a neuron's share of
   the sum shows whether the step is one neuron's.
4. The first neurons by boosting score are summed: the sum is ">" if it is more of a triangle than any one of them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from neurons.comparison import published
from neurons.comparison.checks import RESAMPLES
from neurons.comparison.published import judge_bound, layer_of, standard_error, unjudged
from neurons.comparison.results import Check
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.shapes import LEAST_CORRELATION, cosines, doubly_centred, rank_one_cosines, shapes
from neurons.decomposition.significance import bootstrap_weighted_mean, noun_resamples
from neurons.rounding import descending


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """One layer's neurons by noun: sums of a/sigma and counts of prompts (`LogitEffects`), readout [N, 100]."""

    start_years: tuple[int, ...]
    sums: Float[np.ndarray, "nouns Y N"]
    counts: Int[np.ndarray, "nouns Y"]
    readout: Float[np.ndarray, "N 100"]
    resamples: Float[np.ndarray, "B nouns"]

    @cached_property
    def tuning(self) -> Float[np.ndarray, "Y N"]:
        return self.sums.sum(0, dtype=float) / self.counts.sum(0)[:, None]

    @cached_property
    def _rows(self) -> Float[np.ndarray, "nouns Y 100"]:
        return np.stack([one.astype(float) @ self.readout for one in self.sums])

    def map(self, neurons: Int[np.ndarray, " k"] | None = None) -> Float[np.ndarray, "Y 100"]:
        """Return the sum of the maps of some neurons, or of all."""
        chosen = slice(None) if neurons is None else neurons
        return self.tuning[:, chosen] @ self.readout[chosen]

    def resampled_tuning(self, neurons: Int[np.ndarray, " k"]) -> Float[np.ndarray, "B Y k"]:
        return self._over_nouns(self.sums[:, :, neurons].astype(float), self.tuning[:, neurons])

    def resampled_maps(self) -> Float[np.ndarray, "B Y 100"]:
        return self._over_nouns(self._rows, self.map())

    def _over_nouns(self, sums: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Means over the resampled nouns; a start year that a resample lost keeps the mean of all."""
        prompts = (self.resamples @ self.counts)[:, :, None]
        total = np.tensordot(self.resamples, sums, 1)
        return np.where(prompts > 0, total / np.maximum(prompts, 1), mean)


def layer_maps(effects: LogitEffects, layer: int, *, seed: int) -> LayerMaps:
    """Read a layer's maps from a cache file. Without a second noun there is nothing to resample."""
    nouns, which = np.unique(effects.cache.noun, return_inverse=True)
    noun, readout = which.reshape(-1), effects.readout(layer).astype(float)
    sums, counts = effects.sums(layer, np.arange(len(readout)), noun), effects.counts(noun)
    B = RESAMPLES if len(nouns) > 1 else 0
    return LayerMaps(effects.start_years, sums, counts, readout, noun_resamples(len(nouns), B, seed))


def map_checks(effects: LogitEffects, n_layers: int, *, seed: int) -> tuple[Check, ...]:
    """Check the shape of the MLPs' maps, and the shares of single neurons in them."""
    layers = dict.fromkeys(layer_of(layer, n_layers) for layer in published.TRIANGULAR)
    triangular = [_triangle_check(layer, layer_maps(effects, layer, seed=seed)) for layer in layers]
    diagonal, step = layer_of(published.DIAGONAL, n_layers), layer_of(published.STEP_LAYER, n_layers)
    found = layer_maps(effects, step, seed=seed)
    order = descending(effects.layer_contrast(step).mean(0))
    return (
        *triangular,
        _diagonal_check(diagonal, layer_maps(effects, diagonal, seed=seed)),
        _single_check(step, found),
        *(_sum_check(step, found, order[:top]) for top in published.TOPS),
    )


def _triangle_check(layer: int, found: LayerMaps) -> Check:
    value = cosines(found.map()[None], found.start_years)["triangle"]
    resampled = cosines(found.resampled_maps(), found.start_years)["triangle"]
    return judge_bound(
        f"MLP {layer}: map's cosine with the triangle",
        float(value[0]),
        LEAST_CORRELATION,
        standard_error(resampled),
        side="above", published="upper triangular", source=published.SECOND_HAND, claim="upper triangular",
    )  # fmt: skip


def _diagonal_check(layer: int, found: LayerMaps) -> Check:
    """Check for a diagonal: either sign, and more similar to the diagonal than to the triangle."""

    def of(maps: Float[np.ndarray, "B Y 100"]) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
        like = cosines(maps, found.start_years)
        return np.abs(like["diagonal"]), np.maximum(LEAST_CORRELATION, np.abs(like["triangle"]))

    measured, resampled = of(found.map()[None]), of(found.resampled_maps())
    name = f"MLP {layer}: map's cosine with the diagonal, size"
    return _exceeds(name, measured, resampled, published_as="diagonal", claim="diagonal")


def _single_check(layer: int, found: LayerMaps) -> Check:
    """Check the largest share of one neuron in the layer's component along the triangle."""
    along = found.readout @ doubly_centred(shapes(found.start_years)["triangle"]).T
    largest = _largest_share((found.tuning * along.T).sum(0)[None])
    resampled = _largest_share(bootstrap_weighted_mean(found.sums, found.counts, along, found.resamples))
    return judge_bound(
        f"MLP {layer}: largest share of the step in one neuron",
        float(largest[0]),
        published.MOST_OF_ONE,
        standard_error(resampled),
        side="below", published="none is '>'", source=published.SECOND_HAND, claim="no single neuron is '>'",
    )  # fmt: skip


def _largest_share(projections: Float[np.ndarray, "B N"]) -> Float[np.ndarray, " B"]:
    """The largest part, of the sum of those above zero."""
    above = np.maximum(projections, 0)
    total = above.sum(1)
    return np.divide(above.max(1, initial=0), total, out=np.zeros(len(total)), where=total > 0)


def _sum_check(layer: int, maps: LayerMaps, neurons: Int[np.ndarray, " k"]) -> Check:
    """Their sum is more of a triangle than any one of them, and than 0.4; with one neuron there is nothing to judge."""
    pattern, R = shapes(maps.start_years)["triangle"], maps.readout[neurons]

    def of(tuning: Float[np.ndarray, "B Y k"]) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
        ones = [rank_one_cosines(one, R, pattern).max(initial=LEAST_CORRELATION) for one in tuning]
        return cosines(tuning @ R, maps.start_years)["triangle"], np.array(ones)

    measured, resampled = of(maps.tuning[None, :, neurons]), of(maps.resampled_tuning(neurons))
    name = f"MLP {layer}: top {len(neurons)}, their sum's cosine with the triangle"
    found = _exceeds(name, measured, resampled, published_as="the sum is '>'", claim="more of a triangle than any one")
    return found if len(neurons) > 1 else unjudged(found)


def _exceeds(
    name: str,
    measured: tuple[Float[np.ndarray, " one"], Float[np.ndarray, " one"]],
    resampled: tuple[Float[np.ndarray, " B"], Float[np.ndarray, " B"]],
    *,
    published_as: str,
    claim: str,
) -> Check:
    """A value against a bound that is measured too, so that their difference is resampled."""
    value, bound = measured
    return judge_bound(
        name,
        float(value[0]),
        float(bound[0]),
        standard_error(np.subtract(*resampled)),
        side="above", published=published_as, source=published.SECOND_HAND, claim=claim,
    )  # fmt: skip
