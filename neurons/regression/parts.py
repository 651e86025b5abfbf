"""Composed maps of all neurons, of each layer and of groups."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from neurons.decomposition.effects import neuron_parts
from neurons.decomposition.population import Population
from neurons.intervals import Cells, year_means
from neurons.regression.results import Part
from neurons.regression.terms import regress
from neurons.task.years import N_YEARS, contrast_weights
from neurons.types import NeuronId

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


def part(name: str, n_neurons: int, start_years: Sequence[int], maps: Cells) -> Part:
    """One composed map, from the year-centred map of each century."""
    target = year_means(maps)
    return Part(
        name=name,
        n_neurons=n_neurons,
        map=target,
        contrast=float((target * contrast_weights(start_years)).sum(1).mean()),
        singular_values=np.linalg.svd(target, compute_uv=False),
        regression=regress(start_years, maps),
    )


def layer_parts(population: Population, maps: Mapping[int, Cells]) -> dict[int, Part]:
    sizes = {layer: int((population.layer == layer).sum()) for layer in maps}
    return {layer: part(f"MLP {layer}", sizes[layer], population.start_years, one) for layer, one in maps.items()}


def group_parts(population: Population, groups: Mapping[str, Sequence[NeuronId]]) -> dict[str, Part]:
    maps = maps_of(population, {name: population.rows(neurons) for name, neurons in groups.items()})
    return {name: part(name, len(groups[name]), population.start_years, found) for name, found in maps.items()}
