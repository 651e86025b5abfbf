"""Results of top-k curves: a measure with the first k neurons of an order kept or ablated. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from neurons.labelled import labelled
from neurons.shown import Shown
from neurons.types import Ablation, Measure, check_choice

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Kind = Literal["keep", "ablate"]


KINDS: tuple[Kind, ...] = get_args(Kind)


EXACT_ORDER = "exact effect"
"""The order that takes a run for each neuron."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A measure at each k, for neurons in one order. K sizes.

    kind: `keep` keeps the top k and ablates the rest, `ablate` ablates the top k. values [K]: the mean over
    seeds for the random order; low, high [K]: its 5th and 95th percentiles, elsewhere the values
    themselves. k90: the smallest k from which on a `keep` curve has 90 % of the behaviour, None for
    `ablate`. area: under (m(k) - m(none kept)) / (m(all kept) - m(none kept)) over log2(1 + k), 0..1 wide.
    """

    order: str
    kind: Kind
    measure: Measure
    k: Int[np.ndarray, " K"]
    values: Float[np.ndarray, " K"]
    low: Float[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]
    k90: int | None
    area: float

    def to_json(self) -> dict[str, Any]:
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False, repr=False)
class Curves(Shown):
    """Every curve of one ablation over the neurons of the cached layers, in every measure."""

    model: str
    ablation: Ablation
    n_neurons: int
    n_prompts: int
    seeds: int
    curves: tuple[Curve, ...]

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "ablation": self.ablation,
            "neurons": self.n_neurons,
            "prompts": self.n_prompts,
            "seeds": self.seeds,
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas row for each point: order, kind, measure, k, the value and its 5th and 95th percentiles over
        seeds.
        """
        import pandas as pd

        parts = [
            pd.DataFrame({"order": c.order, "kind": c.kind, "measure": c.measure, "k": c.k, "value": c.values,
                          "low": c.low, "high": c.high})
            for c in self.curves
        ]  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    @property
    def orders(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(curve.order for curve in self.curves))

    def of(self, measure: Measure, kind: Kind) -> tuple[Curve, ...]:
        """Return the curve of each order."""
        check_choice("measure", measure, Measure)
        check_choice("kind", kind, Kind)
        return tuple(c for c in self.curves if (c.measure, c.kind) == (measure, kind))

    def to_json(self, measure: Measure = "probability_difference") -> dict[str, Any]:
        """`curves` in the JSON of `neurons causal`: those of one measure."""
        about = {
            "ablation": self.ablation,
            "measure": measure,
            "n_neurons": self.n_neurons,
            "n_prompts": self.n_prompts,
        }
        return about | {kind: [curve.to_json() for curve in self.of(measure, kind)] for kind in KINDS}


@dataclass(frozen=True, eq=False, repr=False)
class PublishedCurve(Shown):
    """Keep the k neurons of one layer whose activation varies most, zero the rest at all positions.

    probability_difference [K] with the softmax over the 100 years alone; k ends with the whole layer.
    """

    model: str
    layer: int
    k: Int[np.ndarray, " K"]
    probability_difference: Float[np.ndarray, " K"]

    def summary(self) -> dict[str, object]:
        return {"model": self.model, "layer": self.layer, "points": len(self.k),
                "whole layer": f"{self.probability_difference[-1]:+.4f}"}  # fmt: skip

    def to_frame(self) -> "pd.DataFrame":
        """A row a point: k and the probability difference there."""
        import pandas as pd

        return pd.DataFrame({"k": self.k, "probability_difference": self.probability_difference})

    def to_xarray(self) -> "xr.DataArray":
        """The probability difference at each k."""
        return labelled(self.probability_difference, unit="probability", about={"layer": self.layer}, k=self.k.tolist())

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"k": self.k.tolist(), "probability_difference": self.probability_difference.tolist()}


CurvesAndPublished = tuple[Curves, PublishedCurve]
