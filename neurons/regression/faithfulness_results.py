"""What a model does when its neurons are held at a description. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurons.shown import Shown

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
