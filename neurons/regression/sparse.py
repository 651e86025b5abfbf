"""The sparse curve: how much the first k neurons make of the whole map, each with its own weights (coefficient 1).

1. Neurons stand in order of their share of the answer; without attribution, in order of their direct effect.
2. R^2 of the doubly centred map: 1 minus what the sum of the first k leaves of the sum of all, in squares. Nothing is
   fitted, so it may be negative.
3. With attribution the order comes from half of the centuries, and the map of the other half is what is summed; both
   ways, averaged. What the model recovers is measured there too (`behaviour_of_first`): the first k as they are, all
   others at a random other start year.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from neurons.attribution.results import Attribution
from neurons.decomposition.population import Population
from neurons.decomposition.shapes import doubly_centred
from neurons.regression.results import Sparse
from neurons.rounding import descending
from neurons.types import Measure

DOUBLING = 2


def sparse_sizes(neurons: int, *also: int | None) -> tuple[int, ...]:
    """1, 2, 4, ... all, and some more."""
    sizes = {DOUBLING**n for n in range(max(neurons, 1).bit_length()) if DOUBLING**n < neurons}
    return tuple(sorted({*sizes, neurons, *(k for k in also if k and k <= neurons)} - {0}))


def sparse_curve(
    population: Population,
    share: Attribution | None,
    sizes: Sequence[int],
    behaviour: Mapping[Measure, Float[np.ndarray, " G"]] | None = None,
) -> Sparse:
    """The curve at these sizes. population: all neurons of the layers; share: what orders them; behaviour: what the
    first k recover, where the model was run.
    """
    order = descending(population.score) if share is None else share.order()
    maps = _growing(population.curve, population.readout, order, sizes)
    known = behaviour or {}
    return Sparse(
        sizes=tuple(sizes),
        r2=_r2(maps) if share is None else _held_out(population, share, sizes),
        probability_difference=known.get("probability_difference"),
        cutoff_sharpness=known.get("cutoff_sharpness"),
        maps=maps.astype(np.float32),
        held_out=share is not None and len(share.centuries) > 1,
    )


def _held_out(population: Population, share: Attribution, sizes: Sequence[int]) -> Float[np.ndarray, " G"]:
    """The order of one half of the centuries on the maps of the other, both ways."""
    measured = np.flatnonzero(population.held.any(1))
    first, found = np.arange(len(measured)) % 2 == 0, []
    for chosen in (first, ~first) if len(first) > 1 else ():
        others = np.zeros(population.n_centuries, bool)
        others[measured[~chosen]] = True
        found.append(_r2(_growing(population.curve_over(others), population.readout, share.order(chosen), sizes)))
    return np.mean(found, 0) if found else _r2(_growing(population.curve, population.readout, share.order(), sizes))


def _growing(
    curve: Float[np.ndarray, "Y N"],
    readout: Float[np.ndarray, "N 100"],
    order: Int[np.ndarray, " N"],
    sizes: Sequence[int],
) -> Float[np.ndarray, "G Y 100"]:
    """The doubly centred sum of the first k maps, for each k."""
    away, start, total, found = curve - curve.mean(0), 0, np.zeros((len(curve), readout.shape[1])), []
    for k in sizes:
        rows = order[start:k]
        total = total + away[:, rows] @ readout[rows]
        start = k
        found.append(total)
    return doubly_centred(np.stack(found)) if found else np.zeros((0, *total.shape))


def _r2(maps: Float[np.ndarray, "G Y 100"]) -> Float[np.ndarray, " G"]:
    """Against the last, which is of all neurons; 0 where that is nothing."""
    whole = (maps[-1] ** 2).sum()
    left = ((maps - maps[-1]) ** 2).sum((1, 2))
    return 1 - left / whole if whole else np.zeros(len(maps))
