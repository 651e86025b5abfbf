"""Models side by side: behaviour, scores, composed maps, clusters, and neurons one by one where they correspond.

1. Each model is a `Side`: its results, as numbers and arrays.
2. Sides are compared with the first. Composed maps by their cosine (all are year-centred, so that a shift common
   to all years counts for nothing); each cluster with the cluster of the first whose mean map is most similar.
3. Where layers and width are equal the neurons are compared one by one (`overlap`): which are kept, lost, gained.
   An index means the same neuron only within one training run; `same_index`, the median cosine of the readouts of
   neurons of equal index, indicates whether it does.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from neurons.clustering.results import Clustering
from neurons.comparison.development import development
from neurons.comparison.model_results import Comparison, Kind, Match, Pair, Side
from neurons.comparison.overlap import scores_of, share
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.results import MeasuredBehaviour
from neurons.ranking.results import Ranking
from neurons.regression.results import Composition
from neurons.regression.tiling_results import Tiling
from neurons.rounding import largest
from neurons.types import InputError


def side(
    name: str,
    behaviour: MeasuredBehaviour,
    effects: LogitEffects,
    ranking: Ranking,
    clustering: Clustering,
    composition: Composition,
    *,
    n_layers: int,
    tiling: Tiling | None = None,
) -> Side:
    """Collect what is compared of one model from its results."""
    cache = effects.cache
    readout = np.concatenate([cache.readout(layer) for layer in cache.layers]).astype(float)
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
        triangle=composition.whole.regression.alone("step"),
        map=composition.whole.map,
        singular_values=composition.whole.singular_values,
        kinds=tuple(
            Kind(c.id, len(c.members), str(c.medoid), c.share, c.fraction, c.description, c.mean_map)
            for c in clustering.clusters
        ),
        k={} if ranking.answer is None else {measure: found["90"] for measure, found in ranking.answer.k.items()},
        tiling={} if tiling is None else _tiling(tiling),
    )


def _tiling(found: Tiling) -> dict[str, float | None]:
    return {"correlation": found.law.correlation, "slope": found.law.slope, "largest_gap": found.largest_gap}


def compare_sides(sides: Sequence[Side], *, task: str, start_years: Sequence[int]) -> Comparison:
    """Compare models with the first of them; raises `InputError` for fewer than two."""
    if len(sides) < 2:
        raise InputError("a comparison needs two models or more")
    first, *others = sides
    pairs = tuple(_pair(first, other) for other in others)
    return Comparison(task, tuple(start_years), tuple(sides), pairs, development(sides))


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
        similarity = {of.id: cosine(of.mean_map, kind.mean_map) or 0.0 for of in first.kinds}
        if similarity:
            best = list(similarity)[int(largest(np.array(list(similarity.values()))))]
            found.append(Match(kind.id, best, similarity[best]))
    return tuple(found)


def _same_index(one: Float[np.ndarray, "M 100"], other: Float[np.ndarray, "M 100"]) -> float | None:
    """Neurons that write nothing on one side are left out; None where no other is there."""
    size = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    write = size > 0
    return float(np.median((one * other).sum(1)[write] / size[write])) if write.any() else None
