"""The neurons that are followed, layer by layer, and means over prompts as the shares take them.

A mean is over the prompts of each cell of century and start year, then `year_means`, then over start years.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.intervals import Cells, Interval, interval, year_means
from neurons.intervention.context import AblationContext
from neurons.types import NeuronId


@dataclass(frozen=True, eq=False)
class Followed:
    """The neurons followed. rows: layer -> their places in the list; indices: layer -> their indices in the layer."""

    neurons: tuple[NeuronId, ...]
    rows: Mapping[int, Int[np.ndarray, " _"]]
    indices: Mapping[int, Int[Tensor, " _"]]

    @classmethod
    def of(cls, ctx: AblationContext, neurons: Sequence[NeuronId]) -> "Followed":
        layer, index = (np.array([getattr(one, name) for one in neurons], int) for name in ("layer", "index"))
        rows = {at: np.flatnonzero(layer == at) for at in sorted(set(layer.tolist()))}
        indices = {at: torch.as_tensor(index[here], device=ctx.model.device) for at, here in rows.items()}
        return cls(tuple(neurons), rows, indices)


@dataclass(frozen=True, eq=False)
class CellSums:
    """Sums over the prompts of each century and start year, and the weight that each prompt has in the mean."""

    ctx: AblationContext
    centuries: Int[np.ndarray, " C"]
    total: Float[np.ndarray, "cells *rest"]
    count: Int[np.ndarray, " cells"]

    @classmethod
    def of(cls, ctx: AblationContext, shape: tuple[int, ...]) -> "CellSums":
        centuries = np.unique(ctx.cache.century[ctx.rows])
        cells = len(centuries) * len(ctx.start_years)
        found = cls(ctx, centuries, np.zeros((cells, *shape)), np.zeros(cells, int))
        np.add.at(found.count, found.cell(ctx.rows), 1)
        return found

    def cell(self, rows: Int[np.ndarray, " P"]) -> Int[np.ndarray, " P"]:
        century = np.searchsorted(self.centuries, self.ctx.cache.century[rows])
        year = np.searchsorted(self.ctx.start_years, self.ctx.cache.start_year[rows])
        return np.asarray(century * len(self.ctx.start_years) + year)

    def add(self, rows: Int[np.ndarray, " P"], values: Float[np.ndarray, "P *rest"]) -> None:
        np.add.at(self.total, self.cell(rows), values)

    def weight_of(self, rows: Int[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        """What each of these prompts counts in the mean, which is linear in them."""
        cell = self.cell(rows)
        return np.asarray(self._weight_of_cells[cell] / self.count[cell])

    @cached_property
    def _weight_of_cells(self) -> Float[np.ndarray, " cells"]:
        shape = len(self.centuries), len(self.ctx.start_years)
        held = (self.count > 0).reshape(shape)
        return np.asarray(year_means(Cells(np.eye(held.size).reshape(*shape, -1), held)).mean(0))

    def interval(self) -> Interval:
        """The mean over start years with its 95 % interval over centuries."""
        shape = len(self.centuries), len(self.ctx.start_years)
        count = self.count.reshape(-1, *[1] * (self.total.ndim - 1))
        mean = np.divide(self.total, count, out=np.zeros_like(self.total), where=count > 0)
        cells = Cells(mean.reshape(*shape, *self.total.shape[1:]), (self.count > 0).reshape(shape))
        return interval(cells, lambda years: years.mean(0))
