"""Profiles of a map: contrast by part of the model, effect by distance from YY, active range, best split of years."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.measured import mean_year_logits
from neurons.rounding import MARGIN, largest
from neurons.task.years import N_YEARS, contrast_weights

ACTIVE_SHARE = 0.75
"""A neuron's active range is the shortest run of start years with this share of its total activation."""


@dataclass(frozen=True, eq=False)
class PartContrast:
    """What one part of the model adds to the contrast by start year, in logits: its neurons and its output bias."""

    name: str
    neurons: Float[np.ndarray, " Y"]
    bias: Float[np.ndarray, " Y"]

    @property
    def mean(self) -> float:
        """Over start years, neurons and bias together."""
        return float((self.neurons + self.bias).mean())


def contrast_by_part(effects: LogitEffects) -> tuple[PartContrast, ...]:
    """The contrast of each cached MLP, of the rest of the model and of the whole model.

    The rest is the model's contrast minus the cached MLPs': embeddings, heads, other MLPs, and the final LayerNorm's
    bias; it has no bias of its own here, nor has the whole.
    """
    weights = contrast_weights(effects.start_years)
    total = (mean_year_logits(effects.cache, effects.start_years) * weights).sum(1)
    layers = []
    for layer in effects.layers:
        neurons, bias = (
            (values * weights).sum(1) for values in (effects.layer_map_array(layer), effects.bias_map_array(layer))
        )
        layers.append(PartContrast(f"MLP {layer}", neurons, bias))
    nothing = np.zeros(len(total))
    cached = sum((part.neurons + part.bias for part in layers), nothing)
    return (
        *layers,
        PartContrast("rest of the model", total - cached, nothing),
        PartContrast("whole model", total, nothing),
    )


def by_distance(
    effect: Float[np.ndarray, "Y 100"], start_years: Sequence[int]
) -> tuple[list[int], Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """y - YY, ascending, with the mean and standard deviation of the effect over the cells of each."""
    distance = np.arange(N_YEARS)[None, :] - np.asarray(start_years)[:, None]
    found, place, count = np.unique(distance, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    mean = np.bincount(place, effect.reshape(-1)) / count
    spread = np.bincount(place, (effect.reshape(-1) - mean[place]) ** 2) / count
    return found.tolist(), mean, np.sqrt(spread)


def active_range(tuning: Float[np.ndarray, " Y"]) -> tuple[int, int]:
    """First and last place of the shortest run that holds `ACTIVE_SHARE` of the summed |tuning|."""
    total = np.concatenate([[0.0], np.cumsum(np.abs(tuning))])
    wanted = total[:-1] + ACTIVE_SHARE * total[-1]
    ends = np.searchsorted(total, wanted * (1 - MARGIN))
    possible = np.flatnonzero(ends < len(total))
    first = int(possible[np.argmin(ends[possible] - possible)])
    return first, int(ends[first]) - 1


def best_split(effect: Float[np.ndarray, "100"]) -> tuple[int, float]:
    """The year z that best parts y > z from y <= z (least squares), and the gap between the two means."""
    gap = contrast_weights(range(N_YEARS - 1)) @ effect
    after = np.arange(N_YEARS - 1, 0, -1)
    z = int(largest(gap**2 * after * (N_YEARS - after)))
    return z, float(gap[z])
