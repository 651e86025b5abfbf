"""Composed maps of all neurons, of each layer and of groups; and the sign of their sum, as neurons are added one by
one.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from neurons.decomposition.population import Population
from neurons.decomposition.significance import noun_resamples
from neurons.regression.results import SIGN_BAR, Part, Signs
from neurons.regression.terms import best_fade, regress
from neurons.rounding import RESOLUTION, descending, sign_of_largest
from neurons.task.years import N_YEARS, contrast_weights, later
from neurons.types import NeuronId

COMPONENTS = 3
Name = TypeVar("Name", int, str)

MapSums = Float[np.ndarray, "nouns Y 100"]
"""A map as sums over the prompts of each noun."""


def map_sums(population: Population, groups: Mapping[Name, Int[np.ndarray, " M"]]) -> dict[Name, MapSums]:
    """The summed map of each group of neurons (rows of the population), year-centred, in logits."""
    found = {name: np.zeros((*population.noun_counts.shape, N_YEARS)) for name in groups}
    for rows, sums in population.parts():
        of_nouns = population.of_nouns(sums, float)
        for name, members in groups.items():
            here = np.flatnonzero(np.isin(rows, members))
            if len(here):
                found[name] += of_nouns[:, :, here] @ population.readout[rows[here]]
    return found


def mean_map(population: Population, sums: MapSums) -> Float[np.ndarray, "Y 100"]:
    """Mean over the prompts of each start year."""
    return sums.sum(0) / population.counts.sum(0)[:, None]


def layer_sums(population: Population) -> dict[int, MapSums]:
    layers = np.unique(population.layer).tolist()
    return map_sums(population, {layer: np.flatnonzero(population.layer == layer) for layer in layers})


class Composer:
    """Makes parts with one basis and one bootstrap: the decay length is the one that suits the whole map."""

    def __init__(self, population: Population, whole: MapSums, resamples: int, seed: int) -> None:
        self.population = population
        self.fade = best_fade(population.start_years, mean_map(population, whole))
        self.resampled = noun_resamples(population.n_nouns, resamples if population.n_nouns > 1 else 0, seed)

    def part(self, name: str, n_neurons: int, sums: MapSums) -> Part:
        years = self.population.start_years
        target = mean_map(self.population, sums)
        U, S, Vh = np.linalg.svd(target, full_matrices=False)
        sign = sign_of_largest(U)
        return Part(
            name=name,
            n_neurons=n_neurons,
            map=target,
            contrast=float((target * contrast_weights(years)).sum(1).mean()),
            singular_values=S,
            start_year_components=(U * sign * S)[:, :COMPONENTS],
            year_components=(Vh * sign[:, None])[:COMPONENTS],
            regression=regress(years, self.fade, sums, self.population.noun_counts.astype(float), self.resampled),
            sign_right=float(_right(target, later(years)).mean()),
        )


def layer_parts(composer: Composer, population: Population, sums: Mapping[int, MapSums]) -> dict[int, Part]:
    sizes = {layer: int((population.layer == layer).sum()) for layer in sums}
    return {layer: composer.part(f"MLP {layer}", sizes[layer], found) for layer, found in sums.items()}


def group_parts(
    composer: Composer, population: Population, groups: Mapping[str, Sequence[NeuronId]]
) -> dict[str, Part]:
    sums = map_sums(population, {name: population.rows(neurons) for name, neurons in groups.items()})
    return {name: composer.part(name, len(groups[name]), found) for name, found in sums.items()}


def count_signs(population: Population, candidates: Int[np.ndarray, " M"], most: int) -> Signs:
    """Add neurons by score, all of them; and greedily, each time the candidate after which most cells are right.

    The greedy order ends where the bar is reached, or after `most` neurons.
    """
    above = later(population.start_years)
    by_score = _signs_by_score(population, above)
    order, greedy = _signs_greedily(population.take(candidates), above, most)
    return Signs(
        by_score=by_score,
        greedy=np.array(greedy),
        greedy_order=tuple(population.neurons[row] for row in candidates[order]),
        all_neurons=float(by_score[-1]) if len(by_score) else 0.0,
    )


def _right(maps: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Where a year-centred map has the sign of ">"; a cell of 0, or of nothing but rounding, has no sign."""
    least = RESOLUTION * np.abs(maps).max(initial=0.0)
    return np.where(above, maps > least, maps < -least)


def _signs_by_score(population: Population, above: np.ndarray) -> Float[np.ndarray, " N"]:
    total = np.zeros(above.shape)
    share = np.zeros(len(population))
    order = descending(population.score)
    for k, row in enumerate(order.tolist()):
        total += np.multiply.outer(population.curve[:, row], population.readout[row])
        share[k] = _right(total, above).mean()
    return share


def _signs_greedily(candidates: Population, above: np.ndarray, most: int) -> tuple[list[int], list[float]]:
    """Cells are turned over so that right means positive; single precision, as only signs are read."""
    turn = np.where(above, 1, -1).astype(np.float32)
    maps = np.einsum("yn,nx->nyx", candidates.curve, candidates.readout).astype(np.float32) * turn
    total = np.zeros((len(turn), N_YEARS), np.float32)
    least = np.float32(RESOLUTION * np.abs(maps).max(initial=0.0))
    order: list[int] = []
    share: list[float] = []
    left = np.ones(len(maps), bool)
    while left.any() and len(order) < most and (not share or share[-1] < SIGN_BAR):
        right = np.where(left, np.count_nonzero(maps > least - total, axis=(1, 2)), -1)
        best = int(right.argmax())
        order.append(best)
        share.append(float(right[best] / total.size))
        total += maps[best]
        left[best] = False
    return order, share
