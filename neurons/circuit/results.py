"""What the study of a circuit finds, as frozen results: no model and no torch is needed to read or draw them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from neurons.circuit.edges import EdgeEffects
from neurons.circuit.graph import Circuit, Edge, Layout, Node
from neurons.circuit.search_results import Found, Search
from neurons.decomposition.shapes import Shape
from neurons.labelled import labelled
from neurons.rounding import is_nothing
from neurons.shown import Shown
from neurons.types import NeuronId

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CurveBy = Literal["path-patching", "eap-ig", "eap-ig greedy", "random"]
N_RANDOM = 100
PROMPTS = 200
"""Prompts by default, spread over start years and nouns."""


@dataclass(frozen=True)
class Kept:
    """Both measures, means over the prompts of a start year and then over start years."""

    probability_difference: float
    cutoff_sharpness: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A circuit's measures with their reference values.

    edges_alone: what the edges alone carry, stricter than the nodes with all between them; None without edges.
    left_out: each node (or edge) of the circuit with the circuit's measures without it. random: probability
    differences of random circuits of the same size. share: of the model's probability difference, as published;
    recovered: of the distance from the corrupted run's to the clean run's.
    """

    circuit: Circuit
    n_prompts: int
    model: Kept
    alone: Kept
    complement: Kept
    counterfactual: Kept
    edges_alone: Kept | None = None
    left_out: dict[str, Kept] = field(default_factory=dict)
    random: tuple[float, ...] = ()

    @property
    def share(self) -> float:
        return self.alone.probability_difference / self.model.probability_difference

    @property
    def recovered(self) -> float:
        floor = self.counterfactual.probability_difference
        return (self.alone.probability_difference - floor) / (self.model.probability_difference - floor)

    @property
    def evaluated_as(self) -> str:
        """`edges`, `nodes` or `clean-heads`."""
        if self.circuit.by_edges:
            return "edges"
        return "clean-heads" if self.circuit.clean_heads else "nodes"

    @property
    def random_band(self) -> dict[str, float]:
        """Mean, and the central 95 % of the random circuits; empty without any."""
        if not self.random:
            return {}
        low, high = np.percentile(self.random, [2.5, 97.5]).tolist()
        return {"mean": float(np.mean(self.random)), "low": low, "high": high}

    def to_json(self) -> dict[str, Any]:
        """`behaviour` as in the JSON of `neurons circuit`: probability differences; cutoff sharpness beside them."""
        cases = {
            "model": self.model,
            "circuit": self.alone,
            "complement": self.complement,
            "counterfactual": self.counterfactual,
        }
        return {
            **{name: kept.probability_difference for name, kept in cases.items()},
            "edges_alone": self.edges_alone and self.edges_alone.probability_difference,
            "random": {**self.random_band, "n": len(self.random)},
            "share": self.share,
            "recovered": self.recovered,
            "cutoff_sharpness": {name: kept.cutoff_sharpness for name, kept in cases.items()},
            "left_out": [{"without": name, **vars(kept)} for name, kept in self.left_out.items()],
            "evaluated_as": self.evaluated_as,
            "published": dict(self.circuit.published),
        }


@dataclass(frozen=True, eq=False)
class SizeCurve:
    """What circuits of several sizes carry: their edges alone, of S sizes and D circuits each (1, but for `random`).

    by: how the edges are chosen. asked [S]: their number; edges [S, D]: of these, those on a path from YY's embedding
    to the logits. probability_difference [S, D].
    """

    by: CurveBy
    asked: tuple[int, ...]
    edges: Int[np.ndarray, "S D"]
    probability_difference: Float[np.ndarray, "S D"]

    def to_json(self, clean: float, corrupted: float) -> list[dict[str, Any]]:
        """Return an entry a size. recovered: of the distance from the corrupted run's to the clean run's."""
        values = self.probability_difference
        return [
            {
                "by": self.by,
                "asked": asked,
                "edges": float(self.edges[row].mean()),
                "probability_difference": float(values[row].mean()),
                "low": float(values[row].min()),
                "high": float(values[row].max()),
                "recovered": (float(values[row].mean()) - corrupted) / (clean - corrupted),
            }
            for row, asked in enumerate(self.asked)
        ]


@dataclass(frozen=True, eq=False, repr=False)
class PreActivation(Shown):
    """One neuron's pre-activation and its parts, means over the prompts of each of Y start years.

    parts [C, Y]: of each component at END, in order of depth: `embed`, `a0.h0`, ..., `m0`, ..., and last `bias`.
    total [Y]: their sum. carried [C]: each part's covariance over start years with the total, over the total's
    variance: the shares of the tuning that the components bring, which sum to 1; NaN for a flat neuron.
    """

    neuron: NeuronId
    start_years: tuple[int, ...]
    components: tuple[str, ...]
    parts: Float[np.ndarray, "C Y"]

    def summary(self) -> dict[str, object]:
        return {"neuron": self.neuron, "start years": len(self.start_years), "components": len(self.components),
                "mean": f"{self.total.mean():+.4f}"}  # fmt: skip

    def to_frame(self) -> "pd.DataFrame":
        """A row a component: its share of the tuning, and its mean over start years."""
        import pandas as pd

        return pd.DataFrame({"component": self.components, "share": self.carried, "mean": self.parts.mean(1)})

    def to_xarray(self) -> "xr.DataArray":
        """The parts by component and start year, in units of the pre-activation."""
        about = {"neuron": str(self.neuron), "layer": self.neuron.layer}
        return labelled(
            self.parts, unit="pre-activation", about=about, component=self.components, start_year=self.start_years
        )

    @property
    def total(self) -> Float[np.ndarray, " Y"]:
        return self.parts.sum(0)

    @property
    def carried(self) -> Float[np.ndarray, " C"]:
        total = self.total - self.total.mean()
        variance = float(total @ total)
        if is_nothing(total, np.abs(self.parts).sum(0).max()):
            return np.full(len(self.parts), np.nan)
        return (self.parts - self.parts.mean(1, keepdims=True)) @ total / variance

    def to_json(self) -> dict[str, Any]:
        carried = [None if np.isnan(value) else value for value in self.carried.tolist()]
        return {
            "neuron": str(self.neuron),
            "start_years": list(self.start_years),
            "pre_activation": self.total.tolist(),
            "parts": [
                {"component": name, "share": share, "mean": float(values.mean()), "by_start_year": values.tolist()}
                for name, share, values in zip(self.components, carried, self.parts, strict=True)
            ],
        }


@dataclass(frozen=True, eq=False)
class Role:
    """The role of one part of the circuit.

    attention [T]: from the node's position over the prompt's tokens, mean over prompts; None for an MLP. written [Y,
    100]: direct effect in logits, None for a node that is not at END. correlations: of the map with each shape;
    shape None if none fits. size: root mean square of the centred map, in logits.
    """

    node: Node
    start_years: tuple[int, ...]
    attention: Float[np.ndarray, " T"] | None
    on_year: float | None
    written: Float[np.ndarray, "Y 100"] | None
    correlations: dict[Shape, float]
    shape: Shape | None
    size: float

    def to_json(self) -> dict[str, Any]:
        return {
            "node": self.node.component,
            "position": self.node.position,
            "attention_on_year": self.on_year,
            "attention": None if self.attention is None else self.attention.tolist(),
            "shape": self.shape,
            "correlations": self.correlations,
            "size": self.size,
        }


@dataclass(frozen=True, eq=False)
class Projection:
    """Mean residual of each start year on the two main axes of their differences.

    points [Y, 2]; explained: the axes' shares of the variance between start years.
    """

    position: str
    layer: int
    start_years: tuple[int, ...]
    points: Float[np.ndarray, "Y 2"]
    explained: tuple[float, float]


@dataclass(frozen=True, eq=False, repr=False)
class CircuitStudy(Shown):
    """Everything that `neurons circuit` shows. found None: the circuit was given, not discovered.

    asked: the settings of the search, the prompts, the random circuits and clean heads. edge_effects: of every edge, by
    integrated gradients. sizes: faithfulness of circuits of several sizes, where the circuit was discovered.
    """

    model: str
    layout: Layout
    found: Found | None
    evaluation: Evaluation
    roles: tuple[Role, ...]
    projections: tuple[Projection, ...]
    inputs: tuple[PreActivation, ...] = ()
    asked: tuple[Search, int, int, bool] | None = None
    edge_effects: EdgeEffects | None = None
    sizes: tuple[SizeCurve, ...] = ()

    @property
    def circuit(self) -> Circuit:
        return self.evaluation.circuit

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "circuit": self.circuit.name,
            "nodes": len(self.circuit.nodes),
            "edges": len(self.circuit.edges),
            "prompts": self.evaluation.n_prompts,
            "share": f"{self.evaluation.share:.3f}",
        }

    def to_frame(self) -> "pd.DataFrame":
        """A row a node, as in `to_json`: its effect on the probability difference, and the share of the behaviour's."""
        import pandas as pd

        return pd.DataFrame(self.to_json()["nodes"])

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `neurons circuit`. A node's effect in a given circuit is that of leaving it out."""
        return {
            "model": self.model,
            "circuit": self.circuit.name,
            "n_prompts": self.evaluation.n_prompts,
            **(self.found.to_json() if self.found else self._given()),
            "behaviour": self.evaluation.to_json(),
            "roles": [role.to_json() for role in self.roles],
            "inputs": [one.to_json() for one in self.inputs],
            "sizes": self._sizes(),
        }

    def _sizes(self) -> list[dict[str, Any]]:
        ends = self.evaluation.model.probability_difference, self.evaluation.counterfactual.probability_difference
        return [entry for curve in self.sizes for entry in curve.to_json(*ends)]

    def _given(self) -> dict[str, Any]:
        without, alone = self.evaluation.left_out, self.evaluation.alone.probability_difference

        def effect(member: Node | Edge) -> float | None:
            return without[str(member)].probability_difference - alone if str(member) in without else None

        nodes = [
            {"node": node.component, "position": node.position, "effect": effect(node)} for node in self.circuit.nodes
        ]
        edges = [{"from": str(edge.sender), "to": edge.target, "effect": effect(edge)} for edge in self.circuit.edges]
        return {"nodes": nodes, "edges": edges}
