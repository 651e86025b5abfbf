"""How tuning and writing of a set of neurons tile the century, and what exchanging their curves costs. No torch."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from neurons.regression.faithfulness_results import Faithfulness, Recovered
from neurons.regression.results import Composition
from neurons.shown import Shown
from neurons.types import NeuronId

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Placed:
    """One neuron's place in the tiling; years but for share (weight in the law) and height (logits).

    centre: middle of the top of its tuning, either sign; width: of the tuning at half its height. edge: the last year
    before the step up that explains most of what it then writes; edge_low, edge_high: steps that explain 90 % of it or
    more. height: what it adds at its centre to the years after the edge, against those up to it. *_error:
    jackknife standard error over centuries (None with one); the readout is of weights alone and has none.
    """

    neuron: NeuronId
    share: float
    centre: float
    centre_error: float | None
    width: float
    width_error: float | None
    edge: int
    edge_low: int
    edge_high: int
    height: float
    height_error: float | None

    def record(self) -> dict[str, Any]:
        return vars(self) | {"neuron": str(self.neuron)}


@dataclass(frozen=True)
class Law:
    """Edge against centre over neurons, weighted by share; ci_*: 95 %, a jackknife over neurons. None for fewer than 3.

    correlation: of ranks. slope: years of edge for each year of centre; offset: weighted median of edge - centre.
    """

    correlation: float | None
    ci_low: float | None
    ci_high: float | None
    slope: float | None
    slope_ci_low: float | None
    slope_ci_high: float | None
    offset: float | None


@dataclass(frozen=True)
class EdgeAt:
    """The step of the summed map from the year before a start year to the year after it, in logits, less its mean over
    start years: of all neurons and of the set; and the set's neurons that add most to it, with what each adds.
    """

    start_year: int
    all_neurons: float
    of_set: float
    neurons: tuple[NeuronId, ...]
    adds: tuple[float, ...]


@dataclass(frozen=True)
class Exchanged:
    """Each of so many neurons held at the curve of another whose centre lies `years` (low, high) away, all others at
    their own.
    """

    years: tuple[int, int]
    neurons: int
    cutoff_sharpness: Recovered
    probability_difference: Recovered

    def record(self) -> dict[str, Any]:
        sharp, difference = self.cutoff_sharpness, self.probability_difference
        return {
            "years": list(self.years),
            "neurons": self.neurons,
            "cutoff_sharpness": sharp.value,
            "ci_low": sharp.ci_low,
            "ci_high": sharp.ci_high,
            "probability_difference": difference.value,
        }


@dataclass(frozen=True)
class Exchange:
    """Recovered behaviour with exchanged curves, by distance; with everyone's own; with partners drawn at random."""

    own: Exchanged
    at_random: Exchanged
    by_distance: tuple[Exchanged, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Tiling(Shown):
    """M neurons of a set, in order of their centres.

    tuning [Y, M]: the curve less its mean, as the largest size of each is 1, turned so that the centre is up; readout
    [M, 100]: what the neuron then adds, in the same way. covered [Y]: how many neurons have each start year within half
    their width. edges: at each start year. exchange: None where the model was not run.
    """

    model: str
    start_years: tuple[int, ...]
    neurons: tuple[Placed, ...]
    law: Law
    covered: Int[np.ndarray, " Y"]
    edges: tuple[EdgeAt, ...]
    tuning: Float[np.ndarray, "Y M"]
    readout: Float[np.ndarray, "M 100"]
    exchange: Exchange | None

    def __len__(self) -> int:
        return len(self.neurons)

    @property
    def largest_gap(self) -> float | None:
        """The largest distance between neighbouring centres, in years; None for fewer than two."""
        centres = [one.centre for one in self.neurons]
        return max((b - a for a, b in pairwise(centres)), default=None)

    def place_of(self, neuron: NeuronId) -> dict[str, Any] | None:
        """Its record; `by_centre`, its place in this order from 1; `before`, `after`: its neighbours there. None where
        it is not of the set.
        """
        names = [one.neuron for one in self.neurons]
        if neuron not in names:
            return None
        at = names.index(neuron)
        before, after = names[at - 1] if at else None, names[at + 1] if at + 1 < len(names) else None
        beside = {"before": None if before is None else str(before), "after": None if after is None else str(after)}
        return self.neurons[at].record() | {"by_centre": at + 1, "of": len(names)} | beside

    def summary(self) -> dict[str, object]:
        law = self.law
        shown = "none" if law.correlation is None else f"{law.correlation:.2f}"
        return {"model": self.model, "neurons": len(self), "correlation": shown}

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron, in order of its centre: years, and height in logits."""
        import pandas as pd

        return pd.DataFrame([one.record() for one in self.neurons])

    def to_json(self) -> dict[str, Any]:
        """`tiling` in the JSON of `neurons compose`."""
        return {
            **vars(self.law),
            "covered": self.covered.tolist(),
            "neurons": [one.record() for one in self.neurons],
            "edges": [vars(one) | {"neurons": list(map(str, one.neurons))} for one in self.edges],
        }

    def exchange_json(self) -> list[dict[str, Any]]:
        """`exchanged` in the JSON of `neurons compose`: by distance."""
        return [] if self.exchange is None else [one.record() for one in self.exchange.by_distance]


def composed_json(composition: Composition, tiling: Tiling | None, faithfulness: Faithfulness | None) -> dict[str, Any]:
    """The result of `neurons compose --json`; what was not measured is null."""
    return composition.to_json() | {
        "faithfulness": None if faithfulness is None else faithfulness.to_json(),
        "tiling": None if tiling is None else tiling.to_json(),
        "exchanged": None if tiling is None else tiling.exchange_json(),
    }
