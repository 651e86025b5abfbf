"""Results of composition: the composed map and its parts, the sparse reconstruction, and the signs of growing sums."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from neurons.clustering.results import Tuning
from neurons.labelled import labelled
from neurons.rounding import largest, reaches
from neurons.shown import Shown
from neurons.task.years import N_YEARS
from neurons.types import NeuronId

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SIGN_BAR = 0.95
LEVELS = (0.9, 0.99)
"""Shares of a map asked for: how many components, how many neurons."""
LEAST_ALONE = 0.1
"""R^2 by itself from which a term is what a map is."""
WRITES = {
    "slope": "a bias to late years",
    "step": "the triangle",
    "decay": "a slope after the start year",
    "diagonal": "the diagonal",
    "span_limit": "the span limit",
}


def reached(curve: Sequence[float], level: float) -> int | None:
    """How many it takes until a curve of 1, 2, ... reaches the level; None where it never does."""
    return next((k for k, value in enumerate(curve, 1) if reaches(value, level)), None)


@dataclass(frozen=True)
class Term:
    """coefficient and its 95 % interval over centuries (None with one) in logits for each unit of the term.

    share: R^2 lost without the term. alone: R^2 of the term by itself.
    """

    term: str
    coefficient: float
    ci_low: float | None
    ci_high: float | None
    share: float
    alone: float


@dataclass(frozen=True)
class Regression:
    """r2: of all terms, over the cells of the year-centred map (None for a map of zeros)."""

    r2: float | None
    terms: tuple[Term, ...]

    @property
    def writes(self) -> str:
        """What the map is, in words: the term that explains most by itself, or nothing that has a name."""
        if self.r2 is None:
            return "nothing"
        best = self.terms[int(largest(np.array([term.alone for term in self.terms])))]
        if not reaches(best.alone, LEAST_ALONE):
            return "no named shape"
        return WRITES.get(best.term, "a last-digit pattern")

    def record(self) -> list[dict[str, Any]]:
        """`basis` in the JSON of `neurons compose`."""
        return [vars(term) for term in self.terms]


@dataclass(frozen=True, eq=False)
class Part:
    """One composed map: of all neurons, of a layer or of a group.

    map [Y, 100]: at the average century, year-centred, in logits. contrast: averaged over the start years, in
    logits. singular_values of the map; components: the three leading ones, `start_year_components`
    [Y, 3] in logits, `year_components` [3, 100] of norm 1. sign_right: share of the cells (YY, y) in
    which the map's sign is that of ">".
    """

    name: str
    n_neurons: int
    map: Float[np.ndarray, "Y 100"]
    contrast: float
    singular_values: Float[np.ndarray, " K"]
    start_year_components: Float[np.ndarray, "Y c"]
    year_components: Float[np.ndarray, "c 100"]
    regression: Regression
    sign_right: float

    def components_for(self, level: float) -> int | None:
        """Components for this share of the map's sum of squares; None for a map of zeros."""
        squares = self.singular_values**2
        if not squares.sum():
            return None
        return reached((np.cumsum(squares) / squares.sum()).tolist(), level)

    def record(self) -> dict[str, Any]:
        """One entry of `by_layer` in the JSON of `neurons compose`."""
        return {
            "n_neurons": self.n_neurons,
            "contrast": self.contrast,
            "r2_basis": self.regression.r2,
            "writes": self.regression.writes,
            "sign_right": self.sign_right,
            "components_for": {str(level): self.components_for(level) for level in LEVELS},
            "basis": self.regression.record(),
        }


@dataclass(frozen=True, eq=False)
class Pursuit:
    """Sparse reconstruction by orthogonal matching pursuit.

    order: neurons as chosen on all centuries. r2_heldout[k - 1]: R^2 of k neurons, chosen and weighted on half of the
    centuries, on the others (mean over splits; empty with one century). shown: how many neurons `reconstruction`
    [Y, 100] has. frequency: how often each neuron is among the first `picks` over subsamples of half the centuries,
    most often first (empty with one).
    """

    candidates: int
    order: tuple[NeuronId, ...]
    r2_heldout: tuple[float, ...]
    shown: int
    reconstruction: Float[np.ndarray, "Y 100"]
    picks: int
    frequency: tuple[tuple[NeuronId, float], ...]

    def neurons_for(self, level: float) -> int | None:
        """Neurons for this held-out R^2; None where those tried never reach it."""
        return reached(self.r2_heldout, level)


@dataclass(frozen=True, eq=False)
class Signs:
    """Share of cells with the sign of ">" as neurons are added: by score (all of them), and greedily.

    by_score[k - 1], greedy[k - 1]: share after k neurons. all_neurons: share with all.
    """

    by_score: Float[np.ndarray, " N"]
    greedy: Float[np.ndarray, " K"]
    greedy_order: tuple[NeuronId, ...]
    all_neurons: float

    def record(self) -> dict[str, Any]:
        return {
            "bar": SIGN_BAR,
            "all_neurons": self.all_neurons,
            "by_score": _until(self.by_score.tolist()),
            "greedy": _until(self.greedy.tolist()) | {"order": [str(neuron) for neuron in self.greedy_order]},
        }


def _until(curve: list[float]) -> dict[str, Any]:
    return {"neurons": reached(curve, SIGN_BAR), "best": max(curve, default=None), "tried": len(curve)}


@dataclass(frozen=True, eq=False, repr=False)
class Composition(Shown):
    """The composition of ">" from neurons.

    whole, by_layer, by_group: the composed maps. fade: the decay term's length in
    years, the same for all parts. bias_contrast: what each layer's output bias adds to the contrast, in
    logits, part of no map here. notes: caps and degenerate cases, in words.
    """

    model: str
    start_years: tuple[int, ...]
    tuning: Tuning
    whole: Part
    by_layer: dict[int, Part]
    by_group: dict[str, Part]
    fade: float
    pursuit: Pursuit
    signs: Signs
    bias_contrast: dict[int, float]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "neurons": self.whole.n_neurons,
            "contrast": f"{self.whole.contrast:+.4f} logits",
            "components for 90 %": self.whole.components_for(LEVELS[0]),
            "neurons for 90 %": self.pursuit.neurons_for(LEVELS[0]),
            "cells with the right sign": f"{self.whole.sign_right:.3f}",
        }

    def to_frame(self) -> "pd.DataFrame":
        """A row a part (all neurons, each layer, each group): its contrast in logits and how well the basis fits it."""
        import pandas as pd

        columns = ("n_neurons", "contrast", "r2_basis", "writes", "sign_right")
        rows = [{"part": part.name} | {name: part.record()[name] for name in columns} for part in self.parts]
        return pd.DataFrame(rows, columns=["part", *columns])

    @property
    def parts(self) -> tuple[Part, ...]:
        """All neurons, then each layer, then each group."""
        return (self.whole, *self.by_layer.values(), *self.by_group.values())

    def to_xarray(self) -> "xr.DataArray":
        """The composed map of each part by start year and year, year-centred, in logits."""
        maps, names = np.stack([part.map for part in self.parts]), [part.name for part in self.parts]
        return labelled(maps, unit="logits", part=names, start_year=self.start_years, year=range(N_YEARS))

    def to_json(self) -> dict[str, Any]:
        """The result of `neurons compose --json`."""
        pursuit, whole = self.pursuit, self.whole.record()
        return {
            "model": self.model,
            "start_years": list(self.start_years),
            "tuning": self.tuning.to_json(),
            "families": self.tuning.family_counts(),
            "singular_values": self.whole.singular_values.tolist(),
            "components_for": whole["components_for"],
            "sparse": [{"k": k, "r2_heldout": r2} for k, r2 in enumerate(pursuit.r2_heldout, 1)],
            "neurons_for": {str(level): pursuit.neurons_for(level) for level in LEVELS},
            "pursuit": {
                "candidates": pursuit.candidates,
                "order": [str(neuron) for neuron in pursuit.order],
                "picks": pursuit.picks,
                "selection": [{"neuron": str(n), "frequency": f} for n, f in pursuit.frequency],
            },
            "basis": whole["basis"],
            "r2_basis": whole["r2_basis"],
            "fade": self.fade,
            "contrast": whole["contrast"],
            "bias_contrast": {str(layer): value for layer, value in self.bias_contrast.items()},
            "sign": self.signs.record(),
            "by_layer": [{"layer": layer, **part.record()} for layer, part in self.by_layer.items()],
            "by_cluster": [{"cluster": name, **part.record()} for name, part in self.by_group.items()],
            "notes": list(self.notes),
        }
