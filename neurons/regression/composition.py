"""Composition of the greater-than map from the neurons' maps.

1. The composed map is A @ R: tuning curves [YY, neurons] times readouts [neurons, years], the mean over
   the 100 years subtracted from each row. The regression on named shapes (`terms`) says how much of it is ">". The
   same for each layer and group.
2. The sparse curve (`sparse`): how much of it, and of the behaviour, the first k neurons make with their own weights.
"""

from collections.abc import Mapping

import numpy as np

from neurons.clustering.results import Tuning
from neurons.decomposition.population import Population, one_thread
from neurons.intervals import Cells
from neurons.regression.parts import group_parts, layer_maps, layer_parts, part
from neurons.regression.results import Composition, Part, Sparse
from neurons.regression.sparse import sparse_curve, sparse_sizes
from neurons.task.years import N_YEARS
from neurons.types import Neurons, check_is, parse_neurons


@one_thread()
def compose(
    population: Population,
    tuning: Tuning,
    *,
    groups: Mapping[str, Neurons],
    sparse: Sparse | None = None,
    notes: tuple[str, ...] = (),
) -> Composition:
    """Compose the maps of all neurons of a population, which should be all of the layers.

    tuning: the fits to be shown with it. groups: neurons by name (clusters), composed apart. sparse: what
    `sparse_curve` returns; default that of the neurons in order of direct effect.
    """
    check_is("population", population, Population, "what neuron_population(effects) returns")
    check_is("tuning", tuning, Tuning, "what tune(population) returns")
    check_is("groups", groups, Mapping, "neurons by name, like {'mine': ['L9N12']}")
    check_is("sparse", sparse, Sparse | None, "what sparse_curve returns")
    check_is("notes", notes, tuple, "texts in a tuple")
    by_layer = layer_maps(population)
    total = sum((maps.value for maps in by_layer.values()), np.zeros((*population.held.shape, N_YEARS)))
    whole = part("all neurons", len(population), population.start_years, Cells(total, population.held))
    named = {name: parse_neurons(group) for name, group in groups.items()}
    return Composition(
        model=population.model,
        start_years=population.start_years,
        tuning=tuning,
        whole=whole,
        by_layer=layer_parts(population, by_layer),
        by_group=group_parts(population, named),
        sparse=sparse or sparse_curve(population, None, sparse_sizes(len(population))),
        bias_contrast=population.bias_contrast,
        notes=(*notes, *_notes(population, whole)),
    )


def _notes(population: Population, whole: Part) -> tuple[str, ...]:
    notes = []
    if not whole.map.any():
        notes.append("the neurons' maps add up to nothing")
    if population.n_centuries < 2:
        notes.append("held-out R^2 and intervals need 2 centuries")
    return tuple(notes)
