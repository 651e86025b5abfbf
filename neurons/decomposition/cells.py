"""Activations read once: what every analysis of direct effects starts from.

1. One pass over a layer's activations sums a/sigma, and a itself, over the prompts of each century and start year (a
   cell), and takes each activation's mean and variance over all prompts. The sums are as large as centuries times start
   years, whatever the number of prompts.
2. `Activations` makes the pass when a layer is first asked for, and holds what it found. Where some neurons are asked
   for before that, theirs alone are read.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from neurons.cache.format import Cache
from neurons.types import check_choice, check_is

Lens = Literal["exact", "plain"]
CACHE = "what cache_activations or open_cache returns"


@dataclass(frozen=True, eq=False)
class LayerCells:
    """N neurons of one layer, over C centuries and Y start years.

    total [C, Y, N]: a/sigma (a alone for the plain lens) summed over the prompts of each cell; activation [C, Y, N]: a
    alone. mean, variance [N]: of the activation a over all prompts of the cache.
    """

    total: Float[np.ndarray, "C Y N"]
    activation: Float[np.ndarray, "C Y N"]
    mean: Float[np.ndarray, " N"]
    variance: Float[np.ndarray, " N"]


@dataclass(frozen=True, eq=False)
class Activations:
    """The activations of a cache by century and start year. `held`: the layers that were read as a whole."""

    cache: Cache
    lens: Lens = "exact"
    held: dict[int, LayerCells] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_is("cache", self.cache, Cache, CACHE)
        check_choice("lens", self.lens, Lens)

    @cached_property
    def centuries(self) -> tuple[int, ...]:
        """Ascending: 16 for 1600-1699."""
        return tuple(sorted(set(self.cache.century.tolist())))

    @cached_property
    def start_years(self) -> tuple[int, ...]:
        """Those that the cache has a prompt of, measured or not."""
        return tuple(sorted(set(self.cache.start_year.tolist())))

    @cached_property
    def counts(self) -> Int[np.ndarray, "C Y"]:
        """How many prompts each century has at each start year."""
        shape = len(self.centuries), len(self.start_years)
        return np.bincount(self._cell, minlength=shape[0] * shape[1]).reshape(shape)

    def layer(self, layer: int, neurons: slice = slice(None)) -> LayerCells:
        """The layer's neurons, or some of them. Raises `InputError` for a layer that is not cached."""
        whole = self.held.get(self.cache.check_layer(layer))
        if whole is None:
            if neurons != slice(None):
                return self._read(layer, neurons)
            whole = self.held[layer] = self._read(layer, neurons)
        part = whole.total[:, :, neurons], whole.activation[:, :, neurons]
        return LayerCells(*part, whole.mean[neurons], whole.variance[neurons])

    def every_layer(self) -> dict[int, LayerCells]:
        """All cached layers, each read unless it was."""
        return {layer: self.layer(layer) for layer in self.cache.layers}

    def _read(self, layer: int, neurons: slice) -> LayerCells:
        N, cell = len(range(self.cache.d_mlp)[neurons]), self._cell
        plain = np.zeros((self.counts.size, N), np.float32)
        total = np.zeros_like(plain) if self.lens == "exact" else plain
        mean, squares, done = np.zeros(N), np.zeros(N), 0
        for rows in self.cache.row_blocks(N):
            post = self.cache.post(layer, neurons, rows)
            for place, one in zip(cell[rows].tolist(), post, strict=True):
                plain[place] += one
            if total is not plain:
                for place, one in zip(cell[rows].tolist(), post / self.cache.scale[rows, None], strict=True):
                    total[place] += one
            count, away = len(post), post.mean(0, dtype=float) - mean
            squares += post.var(0, dtype=float) * count + away**2 * (done * count / (done + count))
            mean += away * (count / (done + count))
            done += count
        shape = *self.counts.shape, N
        return LayerCells(total.reshape(shape), plain.reshape(shape), mean, squares / done)

    @cached_property
    def _cell(self) -> Int[np.ndarray, " P"]:
        """Century and start year of each prompt as one number."""
        century = np.searchsorted(self.centuries, self.cache.century)
        return century * len(self.start_years) + np.searchsorted(self.start_years, self.cache.start_year)
