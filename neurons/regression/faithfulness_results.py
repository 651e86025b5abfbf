"""What a model does when its neurons are held at a description. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from neurons.shown import Shown
from neurons.types import Measure, NeuronId

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Recovered:
    """A recovered part of clean minus floor, and its 95 % interval over centuries (None with one)."""

    value: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class Faithful:
    """One description of so many neurons, and what it recovers of both measures."""

    description: str
    neurons: int
    cutoff_sharpness: Recovered
    probability_difference: Recovered

    def record(self) -> dict[str, Any]:
        """`ci_low` and `ci_high` are of the cutoff sharpness."""
        sharp, difference = self.cutoff_sharpness, self.probability_difference
        return {
            "description": self.description,
            "neurons": self.neurons,
            "cutoff_sharpness": sharp.value,
            "ci_low": sharp.ci_low,
            "ci_high": sharp.ci_high,
            "probability_difference": difference.value,
            "probability_difference_ci_low": difference.ci_low,
            "probability_difference_ci_high": difference.ci_high,
        }


@dataclass(frozen=True, repr=False)
class Faithfulness(Shown):
    """Descriptions of the neurons of some layers, each put in their place at END.

    rows: recovered parts of clean minus floor, 1 where the model does with the description what it does by itself, 0
    where the description is no better than a random other start year. prompts: how many were run.
    """

    model: str
    layers: tuple[int, ...]
    prompts: int
    rows: tuple[Faithful, ...]

    def summary(self) -> dict[str, object]:
        shown = {one.description: f"{one.cutoff_sharpness.value:.2f}" for one in self.rows[:3]}
        return {"model": self.model, "prompts": self.prompts, **shown}

    def of(self, description: str) -> Faithful:
        """The row of one description, by its name."""
        return next(one for one in self.rows if one.description == description)

    def to_frame(self) -> "pd.DataFrame":
        """A row a description: recovered cutoff sharpness (with `ci_low`, `ci_high`) and probability difference."""
        import pandas as pd

        return pd.DataFrame([one.record() for one in self.rows])

    def to_json(self) -> list[dict[str, Any]]:
        """`faithfulness` in the JSON of `neurons compose`."""
        return [one.record() for one in self.rows]


@dataclass(frozen=True, eq=False)
class Reproduced:
    """What a neuron's description keeps of its own effect on a measure: it alone is held, all others at their curves.

    own, described [Y]: the measure at each start year with the neuron at its mean curve, or as described, less that
    with the neuron at its mean. part: 1 - sum (own - described)^2 / sum own^2, 1 where the description does what the
    curve does, 0 where it does no more than the mean; with its 95 % interval over centuries (None with one). None where
    the effect is too small beside its spread over centuries to tell. size: root mean square of `own` over start years.
    """

    part: float | None
    ci_low: float | None
    ci_high: float | None
    size: float
    own: Float[np.ndarray, " Y"]
    described: Float[np.ndarray, " Y"]

    def record(self) -> dict[str, Any]:
        return vars(self) | {"own": self.own.tolist(), "described": self.described.tolist()}


@dataclass(frozen=True, eq=False)
class OwnDescription:
    """A neuron, the family of curves that describes its tuning, and what this keeps of its effect on both measures."""

    neuron: NeuronId
    family: str
    cutoff_sharpness: Reproduced
    probability_difference: Reproduced

    def of(self, measure: Measure) -> Reproduced:
        return self.cutoff_sharpness if measure == "cutoff_sharpness" else self.probability_difference

    def record(self) -> dict[str, Any]:
        return {
            "neuron": str(self.neuron),
            "family": self.family,
            "cutoff_sharpness": self.cutoff_sharpness.record(),
            "probability_difference": self.probability_difference.record(),
        }


@dataclass(frozen=True, repr=False, eq=False)
class FaithfulnessOfEach(Shown):
    """Single neurons, each held by itself at the fitted family of its tuning. prompts: how many were run."""

    model: str
    start_years: tuple[int, ...]
    prompts: int
    rows: tuple[OwnDescription, ...]

    def summary(self) -> dict[str, object]:
        return {"model": self.model, "prompts": self.prompts, "neurons": len(self.rows)}

    def of(self, neuron: NeuronId) -> OwnDescription | None:
        return next((one for one in self.rows if one.neuron == neuron), None)

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron and measure: `part` with its interval, and `size`, in units of the measure."""
        import pandas as pd

        measures: tuple[Measure, ...] = ("cutoff_sharpness", "probability_difference")
        return pd.DataFrame(
            {"neuron": str(one.neuron), "family": one.family, "measure": measure}
            | {name: vars(one.of(measure))[name] for name in ("part", "ci_low", "ci_high", "size")}
            for one in self.rows
            for measure in measures
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "start_years": list(self.start_years),
            "prompts": self.prompts,
            "neurons": [one.record() for one in self.rows],
        }
