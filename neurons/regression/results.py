"""Results of composition: the composed map and its parts, their regression, and the sparse curve."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from neurons.clustering.results import Tuning
from neurons.labelled import labelled
from neurons.shown import Shown
from neurons.task.years import N_YEARS

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


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
    """r2: of all terms, over the cells of the doubly centred map (None for a map of zeros). r2_heldout: of centuries'
    maps as the others predict them (None with one century).
    """

    r2: float | None
    r2_heldout: float | None
    terms: tuple[Term, ...]

    def alone(self, term: str) -> float | None:
        """R^2 of one term by itself; None for a map of zeros."""
        return next((one.alone for one in self.terms if one.term == term), None)

    def record(self) -> list[dict[str, Any]]:
        """`basis` in the JSON of `neurons compose`."""
        return [vars(term) for term in self.terms]


@dataclass(frozen=True, eq=False)
class Part:
    """One composed map: of all neurons, of a layer or of a group.

    map [Y, 100]: at the average century, year-centred, in logits. contrast: averaged over the start years, in
    logits. singular_values of the map. regression: of the map, doubly centred.
    """

    name: str
    n_neurons: int
    map: Float[np.ndarray, "Y 100"]
    contrast: float
    singular_values: Float[np.ndarray, " K"]
    regression: Regression

    def record(self) -> dict[str, Any]:
        """One entry of `by_layer` in the JSON of `neurons compose`."""
        return {
            "n_neurons": self.n_neurons,
            "contrast": self.contrast,
            "step": self.regression.alone("step"),
            "r2_basis": self.regression.r2,
            "r2_heldout": self.regression.r2_heldout,
            "basis": self.regression.record(),
        }


@dataclass(frozen=True, eq=False)
class Sparse:
    """The first k neurons in order of their share, each with its own weights: nothing is fitted.

    sizes: k, ascending; the last is all neurons. r2 [G]: of the doubly centred map of all. maps [G, Y, 100]: doubly
    centred, in logits. probability_difference, cutoff_sharpness [G]: what the model recovers of clean minus floor with
    all others at a random other start year; None where it was not run. held_out: whether order and R^2 (and recovered
    parts) come from different centuries.
    """

    sizes: tuple[int, ...]
    r2: Float[np.ndarray, " G"]
    probability_difference: Float[np.ndarray, " G"] | None
    cutoff_sharpness: Float[np.ndarray, " G"] | None
    maps: Float[np.ndarray, "G Y 100"]
    held_out: bool

    def record(self, k: int) -> dict[str, Any]:
        """One entry of `sparse` in the JSON of `neurons compose`; k is one of `sizes`."""
        place = self.sizes.index(k)
        known = {"probability_difference": self.probability_difference, "cutoff_sharpness": self.cutoff_sharpness}
        recovered = {name: None if values is None else float(values[place]) for name, values in known.items()}
        return {"k": k, "r2": float(self.r2[place]), **recovered}

    def to_json(self) -> list[dict[str, Any]]:
        return [self.record(k) for k in self.sizes]


@dataclass(frozen=True, eq=False, repr=False)
class Composition(Shown):
    """The composition of ">" from neurons.

    whole, by_layer, by_group: the composed maps. sparse: of neurons in order. bias_contrast: what each layer's output
    bias adds to the contrast, in logits, part of no map here. notes: caps and degenerate cases, in words.
    """

    model: str
    start_years: tuple[int, ...]
    tuning: Tuning
    whole: Part
    by_layer: dict[int, Part]
    by_group: dict[str, Part]
    sparse: Sparse
    bias_contrast: dict[int, float]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, object]:
        step, r2 = self.whole.regression.alone("step"), self.whole.regression.r2_heldout
        return {
            "model": self.model,
            "neurons": self.whole.n_neurons,
            "contrast": f"{self.whole.contrast:+.4f} logits",
            "R^2 of the step": None if step is None else f"{step:.2f}",
            "held-out R^2 of all terms": None if r2 is None else f"{r2:.2f}",
        }

    def to_frame(self) -> "pd.DataFrame":
        """A row a part (all neurons, each layer, each group): its contrast in logits and how well the terms fit it."""
        import pandas as pd

        columns = ("n_neurons", "contrast", "step", "r2_basis", "r2_heldout")
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
        """The result of `neurons compose --json`, but for what `Faithfulness` and `Tiling` add."""
        whole = self.whole.record()
        return {
            "model": self.model,
            "start_years": list(self.start_years),
            "tuning": self.tuning.to_json(),
            "families": self.tuning.family_counts(),
            "singular_values": self.whole.singular_values.tolist(),
            "sparse": self.sparse.to_json(),
            **{name: whole[name] for name in ("basis", "r2_basis", "r2_heldout", "contrast")},
            "bias_contrast": {str(layer): value for layer, value in self.bias_contrast.items()},
            "by_layer": [{"layer": layer, **part.record()} for layer, part in self.by_layer.items()],
            "by_cluster": [{"cluster": name, **part.record()} for name, part in self.by_group.items()],
            "notes": list(self.notes),
        }
