"""The neurons that are followed, layer by layer, and means over prompts as the shares take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.intervals import Interval, jackknife
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
class Means:
    """Means over prompts, filled a block at a time. total [*rest]; without [C, *rest]: without each century."""

    ctx: AblationContext
    total: Float[np.ndarray, "*rest"]
    without: Float[np.ndarray, "C *rest"]

    @classmethod
    def of(cls, ctx: AblationContext, shape: tuple[int, ...]) -> "Means":
        return cls(ctx, np.zeros(shape), np.zeros((len(ctx.averaging_without), *shape)))

    def add(self, rows: Int[np.ndarray, " P"], values: Float[np.ndarray, "P *rest"]) -> None:
        places = np.searchsorted(self.ctx.rows, rows)
        self.total[:] += np.tensordot(self.weight_of(rows), values, 1)
        self.without[:] += np.tensordot(self.ctx.averaging_without[:, places], values, 1)

    def weight_of(self, rows: Int[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        """What each of these prompts counts."""
        return np.asarray(self.ctx.averaging_of(rows).mean(0))

    def interval(self) -> Interval:
        """The mean with its 95 % interval over centuries."""
        return jackknife(self.total, self.without)
