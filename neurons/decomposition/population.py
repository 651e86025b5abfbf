"""Neurons as arrays: how each is tuned, noun by noun, and what each writes. What tuning, clusters and composition read.

1. `neuron_population` takes every neuron of a cache: its readout, centred over the 100 years, and where the sums of its
   a/sigma for each group of prompts (one noun in one century) and start year can be read.
2. These sums are as many as the activations, so they are never all in memory: `parts` reads them for some
   neurons at a time, and what is kept of them are means and sums for each noun.
3. `take` picks some neurons; `strongest` says which.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from neurons.decomposition.effects import LogitEffects, neuron_parts
from neurons.rounding import centred_rows, descending
from neurons.shown import Shown
from neurons.task.years import contrast_weights
from neurons.types import InputError, NeuronId, Neurons, Progress, check_is, check_progress, parse_neurons


@runtime_checkable
class Cells(Protocol):
    """Sums of a/sigma for each group of prompts and start year, of the neurons asked for."""

    def __call__(self, layer: Int[np.ndarray, " m"], index: Int[np.ndarray, " m"]) -> Float[np.ndarray, "G Y m"]: ...


@dataclass(frozen=True, eq=False)
class _Read:
    """`Cells` of a cache file: read when they are asked for."""

    effects: LogitEffects
    group: Int[np.ndarray, " P"]

    def __call__(self, layer: Int[np.ndarray, " m"], index: Int[np.ndarray, " m"]) -> Float[np.ndarray, "G Y m"]:
        places = [np.flatnonzero(layer == one) for one in np.unique(layer).tolist()]
        found = [self.effects.sums(int(layer[place[0]]), index[place], self.group) for place in places]
        if len(places) == 1:
            return found[0]
        sums = np.zeros((*self.effects.counts(self.group).shape, len(layer)), np.float32)
        for place, values in zip(places, found, strict=True):
            sums[:, :, place] = values
        return sums


@dataclass(frozen=True, eq=False, repr=False)
class Population(Shown):
    """N neurons over Y measured start years and G groups of prompts, one noun in one century each.

    layer, index [N]; noun, century [G], nouns as numbers. cells: reads sums of a/sigma over the prompts of
    each group and start year; counts [G, Y] how many there are (0 where the tokenizer has no such year).
    readout [N, 100]: logits for each unit of a/sigma, mean over the years taken out. bias_contrast: what
    each layer's output bias adds to the contrast, in logits; it belongs to no neuron.
    """

    model: str
    start_years: tuple[int, ...]
    layer: Int[np.ndarray, " N"]
    index: Int[np.ndarray, " N"]
    noun: Int[np.ndarray, " G"]
    century: Int[np.ndarray, " G"]
    cells: Cells
    counts: Int[np.ndarray, "G Y"]
    readout: Float[np.ndarray, "N 100"]
    bias_contrast: dict[int, float]

    def __len__(self) -> int:
        return len(self.layer)

    def summary(self) -> dict[str, object]:
        return {"model": self.model, "neurons": len(self), "start years": len(self.start_years), "nouns": self.n_nouns}

    @property
    def n_nouns(self) -> int:
        return int(self.noun.max()) + 1

    @cached_property
    def neurons(self) -> tuple[NeuronId, ...]:
        return tuple(NeuronId(int(layer), int(index)) for layer, index in zip(self.layer, self.index, strict=True))

    def parts(self) -> Iterator[tuple[Int[np.ndarray, " m"], Float[np.ndarray, "G Y m"]]]:
        """The sums of all neurons, some at a time, with the rows of those neurons: layer by layer, by index."""
        order = np.lexsort((self.index, self.layer))
        for part in neuron_parts(self.counts, len(self)):
            rows = order[part]
            yield rows, self.cells(self.layer[rows], self.index[rows])

    @cached_property
    def curve(self) -> Float[np.ndarray, "Y N"]:
        """The tuning curve: mean a/sigma over all prompts of each start year."""
        curve = np.zeros((len(self.start_years), len(self)))
        for rows, sums in self.parts():
            curve[:, rows] = sums.sum(0, dtype=float) / self.counts.sum(0)[:, None]
        return curve

    def of_nouns(self, values: Float[np.ndarray, "G *rest"] | Int[np.ndarray, "G *rest"], dtype: type) -> np.ndarray:
        """What groups have, summed for each noun in this type."""
        total = np.zeros((self.n_nouns, *values.shape[1:]), dtype)
        for noun, value in zip(self.noun.tolist(), values, strict=True):
            total[noun] += value
        return total

    @cached_property
    def noun_sums(self) -> Float[np.ndarray, "nouns Y N"]:
        """Sums of a/sigma for each noun and start year: of a few thousand neurons at most."""
        total = np.zeros((self.n_nouns, len(self.start_years), len(self)), np.float32)
        for rows, sums in self.parts():
            total[:, :, rows] = self.of_nouns(sums, np.float32)
        return total

    @cached_property
    def noun_counts(self) -> Int[np.ndarray, "nouns Y"]:
        """How many prompts each noun has at each start year."""
        return self.of_nouns(self.counts, int)

    @cached_property
    def score(self) -> Float[np.ndarray, " N"]:
        """Boosting score in logits: the contrast averaged over the start years, as in the ranking."""
        values = self.readout @ contrast_weights(self.start_years).T
        return (self.curve.T * values).mean(1)

    def weighted_curve(self, nouns: Float[np.ndarray, " nouns"]) -> Float[np.ndarray, "Y N"]:
        """The tuning curve over nouns taken this many times each; a year that is lost so keeps the full mean."""
        prompts = nouns @ self.noun_counts
        total = np.tensordot(nouns.astype(np.float32), self.noun_sums, 1).astype(float)
        kept = prompts > 0
        return np.where(kept[:, None], total / np.where(kept, prompts, 1)[:, None], self.curve)

    def take(self, rows: Int[np.ndarray, " M"]) -> "Population":
        """The neurons of these rows, in this order."""
        return replace(self, layer=self.layer[rows], index=self.index[rows], readout=self.readout[rows])

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
    cache, layers = effects.cache, effects.layers
    _, noun = np.unique(cache.noun, return_inverse=True)
    pairs, group = np.unique(np.stack([noun.reshape(-1), cache.century], 1), axis=0, return_inverse=True)
    readouts = []
    for done, layer in enumerate(layers):
        readouts.append(effects.readout(layer).astype(float))
        if progress:
            progress(done + 1, len(layers))
    readout = np.concatenate(readouts)
    return Population(
        model=cache.model,
        start_years=effects.start_years,
        layer=np.repeat(layers, cache.d_mlp),
        index=np.tile(np.arange(cache.d_mlp), len(layers)),
        noun=pairs[:, 0],
        century=pairs[:, 1],
        cells=_Read(effects, group.reshape(-1)),
        counts=effects.counts(group.reshape(-1)),
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
