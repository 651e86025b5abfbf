"""Neurons as arrays: how each is tuned, noun by noun, and what each writes. What tuning, clusters and composition read.

1. `gather` reads every neuron of a cache: sums of a/sigma for each group of prompts (one noun in one
   century) and start year, and the readout, centred over the 100 years.
2. `take` picks some of them; `strongest` says which.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from neurons.analysis.effects import LogitEffects, tuning_by_noun
from neurons.shown import Shown
from neurons.task.years import contrast_weights
from neurons.types import InputError, NeuronId, Progress


@dataclass(frozen=True, eq=False, repr=False)
class Population(Shown):
    """N neurons over Y measured start years and G groups of prompts, one noun in one century each.

    layer, index [N]; noun, century [G], nouns as numbers. sums [G, Y, N]: a/sigma summed over the prompts
    of a group and start year, counts [G, Y] how many there are (0 where the tokenizer has no such year).
    readout [N, 100]: logits for each unit of a/sigma, mean over the years taken out. bias_contrast: what
    each layer's output bias adds to the contrast, in logits; it belongs to no neuron.
    """

    model: str
    start_years: tuple[int, ...]
    layer: Int[np.ndarray, " N"]
    index: Int[np.ndarray, " N"]
    noun: Int[np.ndarray, " G"]
    century: Int[np.ndarray, " G"]
    sums: Float[np.ndarray, "G Y N"]
    counts: Int[np.ndarray, "G Y"]
    readout: Float[np.ndarray, "N 100"]
    bias_contrast: dict[int, float]

    def __len__(self) -> int:
        return len(self.layer)

    def facts(self) -> dict[str, object]:
        return {"model": self.model, "neurons": len(self), "start years": len(self.start_years), "nouns": self.n_nouns}

    @property
    def n_nouns(self) -> int:
        return int(self.noun.max()) + 1

    @cached_property
    def neurons(self) -> tuple[NeuronId, ...]:
        return tuple(NeuronId(int(layer), int(index)) for layer, index in zip(self.layer, self.index, strict=True))

    @cached_property
    def curve(self) -> Float[np.ndarray, "Y N"]:
        """The tuning curve: mean a/sigma over all prompts of each start year."""
        return self.sums.sum(0, dtype=float) / self.counts.sum(0)[:, None]

    @cached_property
    def score(self) -> Float[np.ndarray, " N"]:
        """Boosting score in logits: the contrast averaged over the start years, as in the ranking."""
        values = self.readout @ contrast_weights(self.start_years).T
        return (self.curve.T * values).mean(1)

    def weighted_curve(self, nouns: Float[np.ndarray, " nouns"]) -> Float[np.ndarray, "Y N"]:
        """The tuning curve over nouns taken this many times each; a year that is lost so keeps the full mean."""
        weight = nouns[self.noun]
        prompts = weight @ self.counts
        total = np.tensordot(weight.astype(self.sums.dtype), self.sums, 1).astype(float)
        kept = prompts > 0
        return np.where(kept[:, None], total / np.where(kept, prompts, 1)[:, None], self.curve)

    def take(self, rows: Int[np.ndarray, " M"]) -> "Population":
        """The neurons of these rows, in this order."""
        return replace(
            self,
            layer=self.layer[rows],
            index=self.index[rows],
            sums=np.ascontiguousarray(self.sums[:, :, rows]),
            readout=self.readout[rows],
        )

    def rows(self, neurons: Iterable[str | NeuronId]) -> Int[np.ndarray, " M"]:
        """Where these neurons stand; `InputError` for one that is not here."""
        where = {neuron: row for row, neuron in enumerate(self.neurons)}
        found = [NeuronId.parse(neuron) for neuron in neurons]
        absent = [neuron for neuron in found if neuron not in where]
        if absent:
            raise InputError(
                f"{absent[0]} is not among the {len(self)} neurons looked at: name its layer with --layers"
            )
        return np.array([where[neuron] for neuron in found], int)


def gather(effects: LogitEffects, *, progress: Progress | None = None) -> Population:
    """Every neuron of the cached layers. Raises `InputError` for effects of the plain lens."""
    if effects.lens != "exact":
        raise InputError("clusters and composition are of exact effects: use logit_effects(cache)")
    cache, layers = effects.cache, effects.layers
    _, noun = np.unique(cache.noun, return_inverse=True)
    pairs, group = np.unique(np.stack([noun.reshape(-1), cache.century], 1), axis=0, return_inverse=True)
    sums, readouts, counts = [], [], np.zeros((0, 0), int)
    for done, layer in enumerate(layers):
        one, counts = tuning_by_noun(
            effects.activation(layer), cache.start_year, group.reshape(-1), effects.start_years
        )
        sums.append(one)
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
        sums=np.concatenate(sums, axis=2),
        counts=counts,
        readout=readout - readout.mean(1, keepdims=True),
        bias_contrast={layer: _bias_contrast(effects, layer) for layer in layers},
    )


def _bias_contrast(effects: LogitEffects, layer: int) -> float:
    return float((effects.bias_map(layer) * contrast_weights(effects.start_years)).sum(1).mean())


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread: the same bits whatever the machine's threads, and no slower on small matrices."""
    import scipy.linalg  # noqa: F401 - brings a BLAS of its own, and only what is loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def strongest(size: Float[np.ndarray, " N"], cap: int) -> Int[np.ndarray, " M"]:
    """Rows of the `cap` largest values, largest first; equal ones in their order."""
    return np.argsort(-size, kind="stable")[:cap]
