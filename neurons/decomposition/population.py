"""Neurons as arrays: how each is tuned, century by century, and what each writes: for tuning, clusters, composition.

`neuron_population` takes every neuron of a cache: its readout, centred over the 100 years, and the mean of its a/sigma
in each cell, one century and one start year. `take` picks some neurons; `strongest` says which.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.decomposition.effects import LogitEffects, neuron_parts
from neurons.intervals import Cells, year_means
from neurons.labelled import labelled, together
from neurons.rounding import centred_rows, descending
from neurons.shown import Shown
from neurons.task.years import N_YEARS, contrast_weights
from neurons.types import InputError, NeuronId, Neurons, Progress, check_is, check_progress, parse_neurons

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False, repr=False)
class Population(Shown):
    """N neurons over C centuries and Y measured start years.

    layer, index [N]. value [C, Y, N]: mean a/sigma over the prompts of each cell; held [C, Y]: which cells have any.
    readout [N, 100]: logits for each unit of a/sigma, mean over the years taken out. bias_contrast: what each layer's
    output bias adds to the contrast, in logits; it belongs to no neuron.
    """

    model: str
    start_years: tuple[int, ...]
    layer: Int[np.ndarray, " N"]
    index: Int[np.ndarray, " N"]
    value: Float[np.ndarray, "C Y N"]
    held: Bool[np.ndarray, "C Y"]
    readout: Float[np.ndarray, "N 100"]
    bias_contrast: dict[int, float]

    def __len__(self) -> int:
        return len(self.layer)

    def summary(self) -> dict[str, object]:
        years, centuries = len(self.start_years), self.n_centuries
        return {"model": self.model, "neurons": len(self), "start years": years, "centuries": centuries}

    def to_xarray(self) -> "xr.Dataset":
        """`curve`: mean a/sigma by start year; `readout`: year-centred logits for each unit of it; by neuron."""
        curve = labelled(self.curve, unit="a/sigma", start_year=self.start_years, neuron=self.neurons)
        readout = labelled(self.readout, unit="logits per a/sigma", neuron=self.neurons, year=range(N_YEARS))
        return together(curve=curve, readout=readout)

    @property
    def n_centuries(self) -> int:
        return len(self.held)

    @property
    def cells(self) -> Cells:
        return Cells(self.value, self.held)

    @cached_property
    def neurons(self) -> tuple[NeuronId, ...]:
        return tuple(NeuronId(int(layer), int(index)) for layer, index in zip(self.layer, self.index, strict=True))

    @cached_property
    def curve(self) -> Float[np.ndarray, "Y N"]:
        """The tuning curve: mean a/sigma at each start year, at the average century."""
        curve = np.zeros((len(self.start_years), len(self)))
        for part in neuron_parts(self.held.size, len(self)):
            curve[:, part] = year_means(Cells(self.value[:, :, part], self.held))
        return curve

    @cached_property
    def score(self) -> Float[np.ndarray, " N"]:
        """Boosting score in logits: the contrast averaged over the start years, as in the ranking."""
        values = self.readout @ contrast_weights(self.start_years).T
        return (self.curve.T * values).mean(1)

    def curve_over(self, centuries: Bool[np.ndarray, " C"]) -> Float[np.ndarray, "Y N"]:
        """The tuning curve over some of the centuries; a year that none of them has keeps the full mean."""
        curve = year_means(Cells(self.value[centuries], self.held[centuries]))
        return np.where(np.isnan(curve), self.curve, curve)

    def take(self, rows: Int[np.ndarray, " M"]) -> "Population":
        """The neurons of these rows, in this order."""
        return replace(
            self,
            layer=self.layer[rows],
            index=self.index[rows],
            value=self.value[:, :, rows],
            readout=self.readout[rows],
        )

    def rows(self, neurons: Neurons) -> Int[np.ndarray, " M"]:
        """Where these neurons stand, in their order without repeats; `InputError` for one that is not here."""
        where = {neuron: row for row, neuron in enumerate(self.neurons)}
        found = parse_neurons(neurons)
        absent = [neuron for neuron in found if neuron not in where]
        if absent:
            raise InputError(f"{absent[0]} is not among the {len(self)} neurons looked at: choose layers with it")
        return np.array([where[neuron] for neuron in found], int)


def neuron_population(effects: LogitEffects, *, progress: Progress | None = None) -> Population:
    """Every neuron of the cached layers. Raises `InputError` for effects of the plain lens."""
    check_is("effects", effects, LogitEffects, "what logit_effects(cache) returns")
    check_progress(progress)
    if effects.lens != "exact":
        raise InputError("clusters and composition are of exact effects: use logit_effects(cache)")
    cache, layers, N = effects.cache, effects.layers, effects.cache.d_mlp
    held = effects.counts > 0
    value, readout = np.zeros((*held.shape, len(layers) * N), np.float32), np.zeros((len(layers) * N, N_YEARS))
    for done, layer in enumerate(layers):
        here = slice(done * N, (done + 1) * N)
        value[:, :, here], readout[here] = effects.cells(layer).value, effects.readout(layer)
        if progress:
            progress(done + 1, len(layers))
    return Population(
        model=cache.model,
        start_years=effects.start_years,
        layer=np.repeat(layers, N),
        index=np.tile(np.arange(N), len(layers)),
        value=value,
        held=held,
        readout=centred_rows(readout),
        bias_contrast={layer: _bias_contrast(effects, layer) for layer in layers},
    )


def _bias_contrast(effects: LogitEffects, layer: int) -> float:
    return float((effects.bias_map_array(layer) * contrast_weights(effects.start_years)).sum(1).mean())


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread: the same bits whatever the machine's threads, and no slower on small matrices."""
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own, and only what is loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def strongest(size: Float[np.ndarray, " N"], cap: int) -> Int[np.ndarray, " M"]:
    """Rows of the `cap` largest values, largest first; equal ones in their order."""
    return descending(size)[:cap]
