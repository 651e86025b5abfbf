"""What attribution found: frozen results of plain arrays. No torch, so that a report needs none."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from neurons.shown import Shown
from neurons.types import InputError, Measure, NeuronId

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Shown):
    """Shares of M neurons in a measure, in its units. C centuries, Y start years; neurons layer by layer.

    by_century, written_by_century [C, Y, M]: share and written share, averaged over the prompts of a century
    and start year; NaN where there is none (n_prompts [C, Y] is 0). clean_by_century, floor_by_century [C, Y]: the
    measure as it is, and with all neurons at a random other start year. steps: nodes of the integral.
    """

    model: str
    measure: Measure
    layers: tuple[int, ...]
    start_years: tuple[int, ...]
    centuries: tuple[int, ...]
    n_prompts: Int[np.ndarray, "C Y"]
    by_century: Float[np.ndarray, "C Y M"]
    written_by_century: Float[np.ndarray, "C Y M"]
    clean_by_century: Float[np.ndarray, "C Y"]
    floor_by_century: Float[np.ndarray, "C Y"]
    draws: int
    seed: int
    steps: int

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "measure": self.measure,
            "neurons": self.by_century.shape[-1],
            "prompts": int(self.n_prompts.sum()),
            "clean": f"{self.clean.mean():+.4f}",
            "floor": f"{self.floor.mean():+.4f}",
            "error of the sum": f"{self.sum_error:.2%}",
        }

    @cached_property
    def neurons(self) -> tuple[NeuronId, ...]:
        """The neurons in the order of the arrays."""
        d_mlp = self.by_century.shape[-1] // len(self.layers)
        return tuple(NeuronId(layer, index) for layer in self.layers for index in range(d_mlp))

    @cached_property
    def by_start_year(self) -> Float[np.ndarray, "Y M"]:
        """Share at each start year: the mean over its prompts."""
        return self._over_centuries(self.by_century)

    @cached_property
    def written_by_start_year(self) -> Float[np.ndarray, "Y M"]:
        """Written share at each start year."""
        return self._over_centuries(self.written_by_century)

    @cached_property
    def share(self) -> Float[np.ndarray, " M"]:
        """Mean over start years. Shares add up to clean minus floor, but for the error of the sum."""
        return self.by_start_year.mean(0)

    @cached_property
    def written_share(self) -> Float[np.ndarray, " M"]:
        """Mean over start years; adds up to the same."""
        return self.written_by_start_year.mean(0)

    @cached_property
    def clean(self) -> Float[np.ndarray, " Y"]:
        """The measure as it is."""
        return self._over_centuries(self.clean_by_century)

    @cached_property
    def floor(self) -> Float[np.ndarray, " Y"]:
        """The measure with all neurons of the layers at a random other start year."""
        return self._over_centuries(self.floor_by_century)

    @property
    def sum_error(self) -> float:
        """What the sum of shares or of written shares (the worse) misses of clean minus floor.

        As a part of what the measure moves between the two: the mean of |clean - floor| over centuries and start
        years, which is clean minus floor itself where all move the same way.
        """
        whole = float((self.clean - self.floor).mean())
        moved = self._over_centuries(np.abs(self.clean_by_century - self.floor_by_century)).mean()
        worst = max(abs(float(shares.sum()) - whole) for shares in (self.share, self.written_share))
        return float(worst / moved) if moved else float(worst > 0)

    def share_of(self, neuron: str | NeuronId) -> float:
        """One neuron's share; `InputError` for one that is not among those attributed."""
        return float(self.share[self._row(neuron)])

    def order(self) -> Int[np.ndarray, " M"]:
        """Rows of the neurons, largest share first; equal shares by layer and index."""
        return np.argsort(-self.share, kind="stable")

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron, largest share first, in units of the measure."""
        import pandas as pd

        order = self.order()
        names = [str(self.neurons[row]) for row in order.tolist()]
        return pd.DataFrame({"neuron": names, "share": self.share[order], "written_share": self.written_share[order]})

    def _over_centuries(self, cells: Float[np.ndarray, "C Y ..."]) -> Float[np.ndarray, "Y ..."]:
        """Mean over the prompts of each start year."""
        weight = self.n_prompts / self.n_prompts.sum(0)
        return np.einsum("cy...,cy->y...", np.nan_to_num(cells).astype(float), weight)

    def _row(self, neuron: str | NeuronId) -> int:
        found = NeuronId.parse(neuron)
        d_mlp = self.by_century.shape[-1] // len(self.layers)
        if found.layer not in self.layers or found.index >= d_mlp:
            layers = ", ".join(map(str, self.layers))
            raise InputError(f"{found} was not attributed: choose neurons 0-{d_mlp - 1} of layers {layers}")
        return self.layers.index(found.layer) * d_mlp + found.index


@dataclass(frozen=True, eq=False, repr=False)
class ShapleyValues(Shown):
    """Sampled Shapley values of n neurons in a measure, in its units, with the standard error of each."""

    measure: Measure
    neurons: tuple[NeuronId, ...]
    samples: int
    value: Float[np.ndarray, " n"]
    standard_error: Float[np.ndarray, " n"]

    def summary(self) -> dict[str, object]:
        return {"measure": self.measure, "neurons": len(self.neurons), "samples": self.samples}

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron, in the order asked for."""
        import pandas as pd

        names = [str(neuron) for neuron in self.neurons]
        return pd.DataFrame({"neuron": names, "value": self.value, "standard_error": self.standard_error})
