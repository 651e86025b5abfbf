"""Routes of neurons, as they are kept: parts of a share and of a total effect, the matrix of edges. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from neurons.rounding import descending
from neurons.shown import Shown
from neurons.types import InputError, Measure, NeuronId

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Route = Literal["direct", "scale", "attention", "neurons"]
"""Own write through the final LayerNorm with its scale frozen; what it moves of that scale; later attention at END;
later neurons."""
ROUTES: tuple[Route, ...] = get_args(Route)
LISTED = 10
"""Edges of a neuron that are named in its record, by size."""


@dataclass(frozen=True, eq=False, repr=False)
class Split(Shown):
    """What n neurons add, split by route, in units of the measure.

    parts [n, 4]: by `ROUTES`; they add up to the share, or to the total effect. low, high [n, 4]: their 95 % intervals
    over centuries, NaN with one. edges [n, m]: of the last part, what runs through each of the m receivers.
    n_prompts: those that were run.
    """

    of: Literal["share", "total effect"]
    neurons: tuple[NeuronId, ...]
    receivers: tuple[NeuronId, ...]
    parts: Float[np.ndarray, "n 4"]
    low: Float[np.ndarray, "n 4"]
    high: Float[np.ndarray, "n 4"]
    edges: Float[np.ndarray, "n m"]
    n_prompts: int

    def summary(self) -> dict[str, object]:
        return {"of": self.of, "neurons": len(self.neurons), "prompts": self.n_prompts} | {
            name: f"{value:+.4f}" for name, value in zip(ROUTES, self.parts.sum(0), strict=True)
        }

    @property
    def total(self) -> Float[np.ndarray, " n"]:
        """The share, or the total effect: the sum over routes."""
        return np.asarray(self.parts.sum(1))

    @property
    def others(self) -> Float[np.ndarray, " n"]:
        """What runs through later neurons that are not among the receivers."""
        return np.asarray(self.parts[:, ROUTES.index("neurons")] - self.edges.sum(1))

    def row_of(self, neuron: str | NeuronId) -> int:
        """Where a neuron stands; `InputError` for one that was not followed."""
        found = NeuronId.parse(neuron)
        if found not in self.neurons:
            raise InputError(f"routes of {found} were not followed: choose among the {len(self.neurons)} first neurons")
        return self.neurons.index(found)

    def record(self, neuron: str | NeuronId) -> dict[str, Any]:
        """One neuron in JSON: its total, each route with its interval, and the later neurons that most runs through."""
        row = self.row_of(neuron)
        record: dict[str, Any] = {"neuron": str(self.neurons[row]), "total": float(self.total[row])}
        for at, name in enumerate(ROUTES):
            low, high = float(self.low[row, at]), float(self.high[row, at])
            record |= {name: float(self.parts[row, at]), f"{name}_low": None if low != low else low,
                       f"{name}_high": None if high != high else high}  # fmt: skip
        order = [at for at in descending(np.abs(self.edges[row])).tolist() if self.edges[row, at]][:LISTED]
        named = [{"neuron": str(self.receivers[at]), "value": float(self.edges[row, at])} for at in order]
        return record | {"through": named, "other_neurons": float(self.others[row])}

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron: total and routes."""
        import pandas as pd

        columns = {"neuron": list(map(str, self.neurons)), "total": self.total}
        return pd.DataFrame(columns | {name: self.parts[:, at] for at, name in enumerate(ROUTES)})


@dataclass(frozen=True, eq=False, repr=False)
class Routes(Shown):
    """How the first neurons by share reach the answer, in one measure.

    share: of each neuron of the set, split along its own path, by the first component that it reaches. effect: the
    total effect of the first of them, each ablated alone, split by the component that changes the final residual.
    draws: other start years drawn for each prompt, for the share; the effects have one. steps: nodes of the integral.
    """

    model: str
    measure: Measure
    share: Split
    effect: Split
    draws: int
    steps: int

    def of_neuron(self, neuron: NeuronId) -> dict[str, Any] | None:
        """What a neuron's page shows: `share` and `effect`, each a record or None; None outside the set."""
        if neuron not in self.share.neurons:
            return None
        alone = self.effect.record(neuron) if neuron in self.effect.neurons else None
        return {"share": self.share.record(neuron), "effect": alone}

    def summary(self) -> dict[str, object]:
        whole = self.share.parts.sum(0)
        return {"model": self.model, "measure": self.measure, "neurons": len(self.share.neurons)} | {
            name: f"{value:+.4f}" for name, value in zip(ROUTES, whole, strict=True)
        }

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron: its share and the routes of it."""
        return self.share.to_frame()

    def to_xarray(self) -> "xr.Dataset":
        """`edges`: of each neuron's share what runs through each later neuron of the set; `parts` by route."""
        from neurons.labelled import labelled, together

        unit, neurons = self.measure.replace("_", " "), self.share.neurons
        edges = labelled(self.share.edges, unit=unit, neuron=neurons, later_neuron=list(map(str, self.share.receivers)))
        return together(edges=edges, parts=labelled(self.share.parts, unit=unit, neuron=neurons, route=ROUTES))

    def to_json(self) -> dict[str, Any]:
        """`routes` in the JSON of `neurons compose --routes`."""
        whole = self.share.parts.sum(0).tolist()
        return {
            "model": self.model,
            "measure": self.measure,
            "draws": self.draws,
            "steps": self.steps,
            "prompts": {"share": self.share.n_prompts, "effect": self.effect.n_prompts},
            "total": float(self.share.total.sum()),
            **dict(zip(ROUTES, whole, strict=True)),
            "share": [self.share.record(neuron) for neuron in self.share.neurons],
            "effect": [self.effect.record(neuron) for neuron in self.effect.neurons],
            "matrix": {"neurons": list(map(str, self.share.neurons)), "values": self.share.edges.tolist()},
        }
