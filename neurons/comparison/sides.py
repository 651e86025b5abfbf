"""Models side by side: behaviour, scores, composed maps, clusters, and neurons one by one where they correspond.

1. Each model is a `Side`: its results, as numbers and arrays.
2. Sides are compared with the first. Composed maps by their cosine (all are year-centred, so that a shift common
   to all years counts for nothing); each cluster with the cluster of the first whose mean map is most similar.
3. Where layers and width are equal the neurons are compared one by one (`overlap`): which are kept, lost, gained.
   An index means the same neuron only within one training run; `same_index`, the median cosine of the readouts of
   neurons of equal index, indicates whether it does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from neurons.clustering.results import Clustering
from neurons.comparison.overlap import Scores, Sharing, scores_of, share
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.measured import MeasuredBehaviour
from neurons.decomposition.ranking import Ranking
from neurons.regression.results import Composition
from neurons.rounding import largest
from neurons.types import InputError

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
SAME_INDEX_BAR = 0.5
"""Below this median cosine, neurons of equal index do not seem to correspond."""
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

    behaviour: as in `neurons behaviour`, by run. triangle: R^2 of the step by itself in the map (None for a map
    of zeros); contrast: of all neurons, in logits. layers are those compared of the model's n_layers.
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
class Comparison:
    """Two or more models, and each but the first beside the first."""

    task: str
    start_years: tuple[int, ...]
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]

    def to_json(self) -> dict[str, Any]:
        """The result of `neurons compare --json`."""
        return {
            "task": self.task,
            "start_years": list(self.start_years),
            "models": [side.to_json() for side in self.sides],
            "with_first": [pair.to_json() for pair in self.pairs],
        }


def side(
    name: str,
    behaviour: MeasuredBehaviour,
    effects: LogitEffects,
    ranking: Ranking,
    clustering: Clustering,
    composition: Composition,
    *,
    n_layers: int,
) -> Side:
    """Collect what is compared of one model from its results."""
    cache = effects.cache
    readout = np.concatenate([cache.readout(layer) for layer in cache.layers]).astype(float)
    steps = [term.alone for term in composition.whole.regression.terms if term.term == "step"]
    return Side(
        name=name,
        model_sha256=cache.model_sha256,
        n_layers=n_layers,
        layers=cache.layers,
        n_prompts=behaviour.n_prompts,
        behaviour=behaviour.summaries(),
        scores=scores_of(ranking),
        readout=readout - readout.mean(1, keepdims=True),
        contrast=composition.whole.contrast,
        triangle=steps[0] if composition.whole.regression.r2 is not None else None,
        map=composition.whole.map,
        singular_values=composition.whole.singular_values,
        kinds=tuple(
            Kind(c.id, len(c.members), str(c.medoid), c.share, c.fraction, c.description, c.mean_map)
            for c in clustering.clusters
        ),
    )


def compare_sides(sides: Sequence[Side], *, task: str, start_years: Sequence[int]) -> Comparison:
    """Compare models with the first of them; raises `InputError` for fewer than two."""
    if len(sides) < 2:
        raise InputError("a comparison needs two models or more")
    first, *others = sides
    return Comparison(task, tuple(start_years), tuple(sides), tuple(_pair(first, other) for other in others))


def _pair(first: Side, other: Side) -> Pair:
    same_shape = first.shape == other.shape
    return Pair(
        name=other.name,
        map_cosine=cosine(first.map, other.map),
        matches=_matches(first, other),
        neurons=share(first.scores, other.scores) if same_shape else None,
        same_index=_same_index(first.readout, other.readout) if same_shape else None,
    )


def cosine(one: Float[np.ndarray, "..."], other: Float[np.ndarray, "..."]) -> float | None:
    """Return the cosine of two maps as vectors; None if one is zero."""
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.clip((one * other).sum() / size, -1, 1)) if size else None


def _matches(first: Side, other: Side) -> tuple[Match, ...]:
    """Match each cluster; several may match the same cluster of the first."""
    found = []
    for kind in other.kinds:
        likeness = {of.id: cosine(of.mean_map, kind.mean_map) or 0.0 for of in first.kinds}
        if likeness:
            best = list(likeness)[int(largest(np.array(list(likeness.values()))))]
            found.append(Match(kind.id, best, likeness[best]))
    return tuple(found)


def _same_index(one: Float[np.ndarray, "M 100"], other: Float[np.ndarray, "M 100"]) -> float | None:
    """Neurons that write nothing on one side are left out; None where no other is there."""
    size = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    write = size > 0
    return float(np.median((one * other).sum(1)[write] / size[write])) if write.any() else None
