"""Composed maps of all neurons, of each layer and of groups; and the sign of their sum, as neurons are added one by
one.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from neurons.decomposition.effects import neuron_parts
from neurons.decomposition.population import Population
from neurons.intervals import Cells, year_means
from neurons.regression.results import SIGN_BAR, Part, Signs
from neurons.regression.terms import best_fade, regress
from neurons.rounding import RESOLUTION, descending, sign_of_largest
from neurons.task.years import N_YEARS, contrast_weights, later
from neurons.types import NeuronId

COMPONENTS = 3
Name = TypeVar("Name", int, str)


def maps_of(population: Population, groups: Mapping[Name, Int[np.ndarray, " M"]]) -> dict[Name, Cells]:
    """The map [C, Y, 100] of each group of neurons (rows of the population) by century, year-centred, in logits."""
    return {name: Cells(_map(population, members), population.held) for name, members in groups.items()}


def _map(population: Population, members: Int[np.ndarray, " M"]) -> Float[np.ndarray, "C Y 100"]:
    total = np.zeros((*population.held.shape, N_YEARS))
    for part in neuron_parts(population.held.size, len(members)):
        rows = members[part]
        total += population.value[:, :, rows].astype(float) @ population.readout[rows]
    return total


def layer_maps(population: Population) -> dict[int, Cells]:
    layers = np.unique(population.layer).tolist()
    return maps_of(population, {layer: np.flatnonzero(population.layer == layer) for layer in layers})


class Composer:
    """Makes parts with one basis: the decay length is the one that suits the whole map."""

    def __init__(self, start_years: Sequence[int], whole: Cells) -> None:
        self.start_years = start_years
        self.fade = best_fade(start_years, year_means(whole))

    def part(self, name: str, n_neurons: int, maps: Cells) -> Part:
        years, target = self.start_years, year_means(maps)
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
            regression=regress(years, self.fade, maps),
            sign_right=float(_right(target, later(years)).mean()),
        )


def layer_parts(composer: Composer, population: Population, maps: Mapping[int, Cells]) -> dict[int, Part]:
    sizes = {layer: int((population.layer == layer).sum()) for layer in maps}
    return {layer: composer.part(f"MLP {layer}", sizes[layer], found) for layer, found in maps.items()}


def group_parts(
    composer: Composer, population: Population, groups: Mapping[str, Sequence[NeuronId]]
) -> dict[str, Part]:
    maps = maps_of(population, {name: population.rows(neurons) for name, neurons in groups.items()})
    return {name: composer.part(name, len(groups[name]), found) for name, found in maps.items()}


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
