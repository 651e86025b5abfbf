"""What clustering finds: clusters, their members and shares, and each in words."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from neurons.clustering.evidence import Evidence
from neurons.clustering.families import FAMILIES, Family
from neurons.clustering.heuristics import Match
from neurons.clustering.prototypes import Prototype
from neurons.labelled import labelled, together
from neurons.rounding import reaches
from neurons.shown import Shown
from neurons.task.years import N_YEARS
from neurons.types import NeuronId

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Method = Literal["hdbscan", "agglomerative"]
STABILITY_BAR = 0.75


@dataclass(frozen=True, eq=False)
class CurveFit:
    """The family of one curve.

    r2_cv is that of the family chosen, for `none` that of the best; None for `constant`, where nothing
    varies that could be explained. values [Y]: the family's curve; for `none` the curve's mean.
    r2_by_family and aicc_by_family: every family that the number of years allows.
    """

    family: Family
    parameters: dict[str, float]
    r2_cv: float | None
    values: Float[np.ndarray, " Y"]
    r2_by_family: dict[str, float]
    aicc_by_family: dict[str, float]


@dataclass(frozen=True, eq=False)
class NeuronTuning:
    """One neuron: how it is tuned, what it writes, which heuristics it follows, and that in one line."""

    neuron: NeuronId
    score: float
    tuning: CurveFit
    readout: CurveFit
    heuristics: tuple[Match, ...]
    description: str

    def record(self) -> dict[str, Any]:
        """One entry of `tuning` in the JSON of `neurons compose`."""
        return {
            "neuron": str(self.neuron),
            "score": self.score,
            "family": self.tuning.family,
            "parameters": self.tuning.parameters,
            "r2_cv": self.tuning.r2_cv,
            "r2_by_family": self.tuning.r2_by_family,
            "aicc_by_family": self.tuning.aicc_by_family,
            "readout_family": self.readout.family,
            "readout_parameters": self.readout.parameters,
            "heuristics": [vars(match) for match in self.heuristics],
            "description": self.description,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Tuning(Shown):
    """The fits of a population, neuron by neuron, with what a figure needs.

    curve [Y, M]: mean a/sigma at each start year; low, high: its 95 % interval over centuries (NaN with one).
    readout [M, 100]: year-centred logits for each unit of a/sigma.
    """

    start_years: tuple[int, ...]
    neurons: tuple[NeuronTuning, ...]
    curve: Float[np.ndarray, "Y M"]
    low: Float[np.ndarray, "Y M"]
    high: Float[np.ndarray, "Y M"]
    readout: Float[np.ndarray, "M 100"]

    def __len__(self) -> int:
        return len(self.neurons)

    @property
    def families(self) -> tuple[Family, ...]:
        """The family of each neuron's tuning curve."""
        return tuple(one.tuning.family for one in self.neurons)

    def summary(self) -> dict[str, object]:
        counts = ", ".join(f"{count} {family}" for family, count in self.family_counts().items() if count)
        return {"neurons": len(self), "families": counts}

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron: its score in logits, the family of its tuning and of its readout, and a description."""
        import pandas as pd

        columns = ("neuron", "score", "family", "r2_cv", "readout_family", "description")
        return pd.DataFrame([one.record() for one in self.neurons], columns=columns)

    def to_xarray(self) -> "xr.Dataset":
        """`curve` with its interval `low`, `high` in a/sigma; `readout` in logits for each unit of it."""
        neurons = [one.neuron for one in self.neurons]
        curves = {
            name: labelled(getattr(self, name), unit="a/sigma", start_year=self.start_years, neuron=neurons)
            for name in ("curve", "low", "high")
        }
        readout = labelled(self.readout, unit="logits per a/sigma", neuron=neurons, year=range(N_YEARS))
        return together(**curves, readout=readout)

    def to_json(self) -> list[dict[str, Any]]:
        """`tuning` in the JSON of `neurons compose`: an entry a neuron."""
        return [one.record() for one in self.neurons]

    def family_counts(self) -> dict[str, int]:
        """How many neurons have each family, `none` included."""
        return {family: self.families.count(family) for family in (*FAMILIES, "none")}


@dataclass(frozen=True, eq=False)
class Cluster:
    """Neurons with similar tuning and readouts, strongest membership first.

    medoid: the member most similar to the others. share: sum of the members' scores, in logits; fraction: of the
    total contrast (None if that is zero). stability: mean Jaccard overlap over draws of 80 % of the neurons
    (None with too few neurons to cluster). similarity: mean similarity over
    pairs of members. membership (0..1): HDBSCAN's strength; similarity to the medoid for agglomerative
    clusters. tuned: False if the members are constant. mean_map [Y, 100]: mean effect of a member,
    year-centred, in logits; medoid_map the medoid's.
    """

    id: int
    medoid: NeuronId
    members: tuple[NeuronId, ...]
    membership: tuple[float, ...]
    share: float
    fraction: float | None
    stability: float | None
    similarity: float
    tuned: bool
    description: str
    mean_map: Float[np.ndarray, "Y 100"]
    medoid_map: Float[np.ndarray, "Y 100"]

    @property
    def stable(self) -> bool:
        return self.stability is not None and reaches(self.stability, STABILITY_BAR)


@dataclass(frozen=True, eq=False)
class Alternative:
    """The other method's answer: a label for each neuron clustered, and how the methods agree."""

    method: Method
    labels: Int[np.ndarray, " M"]
    n_clusters: int
    agreement: float
    """Adjusted Rand index with the clusters of the result (1: the same, 0: chance)."""


@dataclass(frozen=True, eq=False, repr=False)
class Clustering(Shown):
    """Clusters by descending |share|, and what is outside them.

    tuning: the M neurons clustered, with their fits. labels [M]: position in `clusters`, -1 for noise. total_contrast =
    sum of the shares + unclustered_share; unclustered_share = noise_share + others_share (neurons that
    were not clustered). bias_contrast: by layer, part of none of these. place [M, 2]: the neurons in the
    plane, nearer when more alike; merges: the tree of average linkage (SciPy's format). evidence: whether there are
    clusters at all; prototypes: a tuning shape for each cluster, or where there are none for each bin along the tuning
    centre. notes: caps and degenerate cases, in words.
    """

    model: str
    method: Method
    start_years: tuple[int, ...]
    tuning: Tuning
    clusters: tuple[Cluster, ...]
    noise: tuple[NeuronId, ...]
    labels: Int[np.ndarray, " M"]
    total_contrast: float
    unclustered_share: float
    noise_share: float
    others_share: float
    bias_contrast: dict[int, float]
    silhouette: float | None
    alternative: Alternative | None
    place: Float[np.ndarray, "M 2"]
    merges: Float[np.ndarray, "K 4"]
    evidence: Evidence
    prototypes: tuple[Prototype, ...]
    notes: tuple[str, ...]

    @property
    def clustered(self) -> bool:
        """Whether the neurons fall into clusters at all; else they are a continuum."""
        return self.evidence.clustered

    def verdict(self) -> str:
        """Whether there are clusters, in words."""
        several = len(self.clusters) != 1
        if self.clustered:
            return f"{len(self.clusters)} cluster{'s' * several} of {len(self.tuning)} neurons"
        return f"no clusters: {len(self.tuning)} neurons make a continuum, binned along the tuning centre"

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "method": self.method,
            "clustered": self.clustered,
            "neurons": len(self.tuning),
            "clusters": len(self.clusters),
            "noise": len(self.noise),
            "total contrast": f"{self.total_contrast:+.4f} logits",
        }

    def to_frame(self) -> "pd.DataFrame":
        """A row a cluster: size, medoid, share in logits and of the total, stability, and its description."""
        import pandas as pd

        columns = ("id", "size", "medoid", "share", "fraction", "stability", "description")
        return pd.DataFrame([_record(cluster) for cluster in self.clusters], columns=columns)

    def to_xarray(self) -> "xr.Dataset":
        """`mean_map` and `medoid_map` of each cluster by start year and year, year-centred, in logits."""
        shape, ids = (-1, len(self.start_years), N_YEARS), [cluster.id for cluster in self.clusters]
        maps = {
            name: labelled(
                np.array([getattr(cluster, name) for cluster in self.clusters]).reshape(shape),
                unit="logits", cluster=ids, start_year=self.start_years, year=range(N_YEARS),
            )
            for name in ("mean_map", "medoid_map")
        }  # fmt: skip
        return together(**maps)

    def to_json(self) -> dict[str, Any]:
        """The result of `neurons cluster --json`; shares in logits, fractions of the total beside them."""
        other = self.alternative
        return {
            "model": self.model,
            "start_years": list(self.start_years),
            "method": self.method,
            "clustered": self.clustered,
            "evidence": self.evidence.to_json(),
            "prototypes": [one.to_json() for one in self.prototypes],
            "clusters": [_record(cluster) for cluster in self.clusters],
            "noise": [str(neuron) for neuron in self.noise],
            "unclustered_share": self.unclustered_share,
            "noise_share": self.noise_share,
            "others_share": self.others_share,
            "total_contrast": self.total_contrast,
            "bias_contrast": {str(layer): value for layer, value in self.bias_contrast.items()},
            "candidates": len(self.tuning),
            "silhouette": self.silhouette,
            "stability_bar": STABILITY_BAR,
            "alternative": other
            and {"method": other.method, "n_clusters": other.n_clusters, "agreement": other.agreement},
            "notes": list(self.notes),
        }


def _record(cluster: Cluster) -> dict[str, Any]:
    return {
        "id": cluster.id,
        "size": len(cluster.members),
        "medoid": str(cluster.medoid),
        "share": cluster.share,
        "fraction": cluster.fraction,
        "stability": cluster.stability,
        "stable": cluster.stable,
        "likeness": cluster.similarity,
        "tuned": cluster.tuned,
        "description": cluster.description,
        "members": [
            {"neuron": str(neuron), "membership": strength}
            for neuron, strength in zip(cluster.members, cluster.membership, strict=True)
        ],
    }
