"""Results of comparing models: sides, pairs, clusters matched. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from neurons.comparison.results import Scores, Sharing
from neurons.labelled import labelled
from neurons.shown import Shown
from neurons.task.years import N_YEARS, spans

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


SAME_INDEX_BAR = 0.5
"""Below this median cosine, neurons of equal index do not look like the same neurons."""


SINGULAR_VALUES = 10


@dataclass(frozen=True, eq=False)
class Kind:
    """A cluster of neurons: its share of the contrast in logits and as a fraction, and its mean map [Y, 100]."""

    id: int
    size: int
    medoid: str
    share: float
    fraction: float | None
    description: str
    mean_map: Float[np.ndarray, "Y 100"]

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "mean_map"}


@dataclass(frozen=True, eq=False)
class Side:
    """One model. readout [M, 100]: each neuron's, year-centred; map [Y, 100]: the composed map of all neurons.

    behaviour: as in `neurons behaviour`, by run. triangle: R^2 of the step by itself in the doubly centred map (None
    for a map of zeros); contrast: of all neurons, in logits. layers are those compared of the model's n_layers.
    k: by measure, the first k neurons that recover 90 % on centuries held out; None where none do. tiling: rank
    correlation and slope of readout edges with tuning centres, and the largest gap between centres, in years; empty
    where it was not asked for.
    """

    name: str
    model_sha256: str
    n_layers: int
    layers: tuple[int, ...]
    n_prompts: int
    behaviour: Mapping[str, dict[str, dict[str, float]]]
    scores: Scores
    readout: Float[np.ndarray, "M 100"]
    contrast: float
    triangle: float | None
    map: Float[np.ndarray, "Y 100"]
    singular_values: Float[np.ndarray, " K"]
    kinds: tuple[Kind, ...]
    k: Mapping[str, int | None] = field(default_factory=dict)
    tiling: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, tuple[int, ...], int]:
        """Layers in all, layers compared, neurons: equal for two checkpoints of one run."""
        return self.n_layers, self.layers, len(self.scores)

    def depth(self, layer: int) -> float:
        """Where a layer stands in its model: 1 is the last."""
        return (layer + 1) / self.n_layers

    def quantiles(self) -> dict[str, float]:
        values = np.quantile(self.scores.score, QUANTILES).tolist()
        return {f"{level:g}": value for level, value in zip(QUANTILES, values, strict=True)}

    def by_layer(self) -> list[dict[str, Any]]:
        """Each layer: its relative depth, how many of its neurons boost and suppress, the sum of its scores."""
        found = []
        for layer in self.layers:
            here = self.scores.layer == layer
            found.append(
                {
                    "layer": layer,
                    "depth": self.depth(layer),
                    "neurons": int(here.sum()),
                    "boosting": int(self.scores.boosting[here].sum()),
                    "suppressing": int(self.scores.suppressing[here].sum()),
                    "contrast": float(self.scores.score[here].sum()),
                }
            )
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "model_sha256": self.model_sha256,
            "n_layers": self.n_layers,
            "layers": list(self.layers),
            "n_prompts": self.n_prompts,
            "behaviour": dict(self.behaviour),
            "neurons": len(self.scores),
            "boosting": int(self.scores.boosting.sum()),
            "suppressing": int(self.scores.suppressing.sum()),
            "contrast": self.contrast,
            "k": dict(self.k),
            "quantiles": self.quantiles(),
            "by_layer": self.by_layer(),
            "triangle": self.triangle,
            "singular_values": self.singular_values[:SINGULAR_VALUES].tolist(),
            "clusters": [kind.to_json() for kind in self.kinds],
        }


@dataclass(frozen=True)
class Match:
    """A cluster of a model and the most similar one of the first: the cosine of their mean maps."""

    kind: int
    of_first: int
    cosine: float


@dataclass(frozen=True, eq=False)
class Pair:
    """A model and the first. neurons, same_index: None if layers or width differ.

    map_cosine: of the composed maps; None if one is zero. matches: each cluster's most similar cluster of the first.
    neurons: first is the first model. same_index: median cosine of the readouts of neurons of equal index.
    """

    name: str
    map_cosine: float | None
    matches: tuple[Match, ...]
    neurons: Sharing | None
    same_index: float | None

    @property
    def notes(self) -> tuple[str, ...]:
        if self.neurons is None:
            return ("other layers or another width: neurons are not compared one by one",)
        if self.same_index is None or self.same_index < SAME_INDEX_BAR:
            return ("neurons of equal index write differently: these seem not to be two checkpoints of one run",)
        return ()

    def to_json(self) -> dict[str, Any]:
        found = None
        if self.neurons is not None:
            names = {"both": "kept", "only_first": "lost", "only_second": "gained"}
            found = {names.get(name, name): value for name, value in self.neurons.to_json().items()}
        return {
            "model": self.name,
            "map_cosine": self.map_cosine,
            "clusters": [vars(match) for match in self.matches],
            "neurons": found,
            "same_index": self.same_index,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Development:
    """S checkpoints of one shape in the order of their steps.

    behaviour [S]: the mean of each measure. k, tiling: as in `Side`, by step. boosting: how many neurons boost.
    survival [S, S]: of the neurons that boost at a step (row), the fraction that boosts at another (column), NaN where
    none boosts; chance [S]: the fraction of all neurons that boosts at a step.
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    behaviour: Mapping[str, Float[np.ndarray, " S"]]
    k: Mapping[str, tuple[int | None, ...]]
    tiling: Mapping[str, tuple[float | None, ...]]
    boosting: tuple[int, ...]
    survival: Float[np.ndarray, "S S"]
    chance: Float[np.ndarray, " S"]

    def to_json(self) -> dict[str, Any]:
        rows = self.survival.tolist()
        return {
            "models": list(self.names),
            "steps": list(self.steps),
            "behaviour": {measure: values.tolist() for measure, values in self.behaviour.items()},
            "k": {measure: list(found) for measure, found in self.k.items()},
            "tiling": {name: list(found) for name, found in self.tiling.items()},
            "boosting": list(self.boosting),
            "survival": [[None if value != value else value for value in row] for row in rows],
            "chance": self.chance.tolist(),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Shown):
    """Two or more models, and each but the first beside the first. development: of three checkpoints or more of one
    shape.
    """

    task: str
    start_years: tuple[int, ...]
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    development: Development | None = None

    def summary(self) -> dict[str, object]:
        models = ", ".join(side.name for side in self.sides)
        return {"models": models, "task": self.task, "start years": spans(self.start_years)}

    def to_frame(self) -> "pd.DataFrame":
        """A row a model: its probability difference, neurons that boost, contrast in logits, and how like the first
        it is."""
        import pandas as pd

        rows = [
            {
                "model": side.name,
                "n_prompts": side.n_prompts,
                "probability_difference": side.behaviour["model"]["probability_difference"]["mean"],
                "boosting": int(side.scores.boosting.sum()),
                "suppressing": int(side.scores.suppressing.sum()),
                "contrast": side.contrast,
                "triangle": side.triangle,
                "map_cosine": pair.map_cosine if pair else None,
                "same_index": pair.same_index if pair else None,
            }
            for side, pair in zip(self.sides, (None, *self.pairs), strict=True)
        ]
        return pd.DataFrame(rows)

    def to_xarray(self) -> "xr.DataArray":
        """The composed map of each model by start year and year, year-centred, in logits."""
        maps, names = np.stack([side.map for side in self.sides]), [side.name for side in self.sides]
        return labelled(maps, unit="logits", model=names, start_year=self.start_years, year=range(N_YEARS))

    def to_json(self) -> dict[str, Any]:
        """The result of `neurons compare --json`."""
        return {
            "task": self.task,
            "start_years": list(self.start_years),
            "models": [side.to_json() for side in self.sides],
            "with_first": [pair.to_json() for pair in self.pairs],
            "development": None if self.development is None else self.development.to_json(),
        }
