"""Results of ablations: frozen dataclasses of plain arrays, with their JSON. No torch, so that a report needs none.

An effect is the measure when ablated minus the measure in the clean run, averaged over the prompts of a start year,
then over start years: a boosting neuron's is negative.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from neurons.intervention.curve_results import Curves, PublishedCurve
from neurons.labelled import labelled
from neurons.shown import Shown
from neurons.task.intervention import Intervention
from neurons.types import OF_LOGITS, Ablation, InputError, Measure, NeuronId, check_choice, check_whole

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

COLUMNS = ("effect", "ci_low", "ci_high", "patching", "score", "year_specific")


@dataclass(frozen=True)
class References:
    """A measure's reference values, averaged over start years: the clean run's, and three that do not depend on YY.

    floor: all neurons of the cached layers together at a random other start year; None where the ablation is another.
    counterfactual: the corrupted run scored against the true YY. average_distribution: the mean of the year
    probabilities over all prompts of the cache, scored against every YY (in logits, its logarithm).
    """

    baseline: float
    floor: float | None
    counterfactual: float
    average_distribution: float

    def to_json(self) -> dict[str, float | None]:
        return dict(vars(self))


@dataclass(frozen=True, eq=False, repr=False)
class NeuronEffects(Shown):
    """Exact effects of M neurons, each ablated alone. Y start years; effect is the mean over them.

    ci_low, ci_high: the 95 % interval over centuries, NaN with one. by_start_year: the effect at each start year.
    draws: random other start years for each prompt; 1 for another ablation. patching: the attribution-patching
    estimate. score, year_specific: the boosting score and its year-specific part, in logits. NaN if not given.
    """

    model: str
    intervention: Intervention
    n_prompts: int
    start_years: tuple[int, ...]
    draws: int
    neurons: tuple[NeuronId, ...]
    effect: Float[np.ndarray, " M"]
    ci_low: Float[np.ndarray, " M"]
    ci_high: Float[np.ndarray, " M"]
    by_start_year: Float[np.ndarray, "M Y"]
    patching: Float[np.ndarray, " M"]
    score: Float[np.ndarray, " M"]
    year_specific: Float[np.ndarray, " M"]

    @property
    def predicted(self) -> Float[np.ndarray, " M"]:
        """What the neuron's direct effect says that the ablation takes away, in logits: the whole score for zero, else
        the year-specific part, since a neuron at another activation still leans to late years.
        """
        return self.score if self.intervention.ablation == "zero" else self.year_specific

    def summary(self) -> dict[str, object]:
        return {"model": self.model, **vars(self.intervention), "neurons": len(self.neurons), "prompts": self.n_prompts}

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas row for each neuron: effect, its interval and attribution patching in units of the measure,
        boosting score and its year-specific part in logits.
        """
        import pandas as pd

        names = [str(neuron) for neuron in self.neurons]
        return pd.DataFrame({"neuron": names} | {name: getattr(self, name) for name in COLUMNS})

    def to_xarray(self) -> "xr.DataArray":
        """The effect of each neuron at each start year."""
        unit = "logits" if self.intervention.measure in OF_LOGITS else "probability"
        return labelled(self.by_start_year, unit=unit, neuron=self.neurons, start_year=self.start_years)

    def record(self, row: int) -> dict[str, Any]:
        """Return one neuron as in the JSON of `neurons causal`; row 0 is the first named."""
        check_whole("row", row, least=0, most=len(self.neurons) - 1)
        values = {name: float(getattr(self, name)[row]) for name in COLUMNS}
        known = {name: None if np.isnan(value) else value for name, value in values.items()}
        return {"neuron": str(self.neurons[row]), **known, "by_start_year": self.by_start_year[row].tolist()}

    def to_json(self) -> dict[str, Any]:
        about = {"model": self.model, **vars(self.intervention), "draws": self.draws, "n_prompts": self.n_prompts}
        about |= {"start_years": list(self.start_years)}
        return about | {"neurons": [self.record(row) for row in range(len(self.neurons))]}


@dataclass(frozen=True, eq=False, repr=False)
class GroupEffect(Shown):
    """Neurons ablated together: the effect on each measure, in its units; by_start_year [Y] at each start year.

    interval: lower and upper end of the 95 % interval over centuries; NaN with one. draws: as in `NeuronEffects`.
    """

    neurons: tuple[NeuronId, ...]
    draws: int
    by_start_year: dict[Measure, Float[np.ndarray, " Y"]]
    interval: dict[Measure, tuple[float, float]]

    @property
    def effect(self) -> dict[Measure, float]:
        return {measure: float(values.mean()) for measure, values in self.by_start_year.items()}

    def summary(self) -> dict[str, object]:
        return {"neurons": len(self.neurons), **{measure: f"{value:+.4f}" for measure, value in self.effect.items()}}

    def to_json(self, measure: Measure = "probability_difference") -> dict[str, Any]:
        """`effect` is that of the chosen measure; `effects` holds all."""
        if check_choice("measure", measure, Measure) not in self.by_start_year:
            raise InputError(f"this effect has no {measure}: choose {', '.join(self.by_start_year)}")
        return {
            "neurons": [str(neuron) for neuron in self.neurons],
            "measure": measure,
            "effect": self.effect[measure],
            "interval": [None if np.isnan(end) else end for end in self.interval[measure]],
            "by_start_year": self.by_start_year[measure].tolist(),
            "effects": self.effect,
        }


Step = Literal["ablation", "final LayerNorm", "later layers"]


STEPS: tuple[Step, ...] = ("ablation", "final LayerNorm", "later layers")


@dataclass(frozen=True, eq=False)
class Agreement:
    """What direct logit attribution predicts beside minus the exact effects, in logits. M neurons.

    predicted: `NeuronEffects.predicted`. sign_differs, rank_differs: where it and the total effect disagree. step:
    where most of the difference comes from: the ablation itself (predicted against frozen), the final LayerNorm (frozen
    against direct), or later layers (direct against total).
    """

    neurons: tuple[NeuronId, ...]
    predicted: Float[np.ndarray, " M"]
    frozen: Float[np.ndarray, " M"]
    direct: Float[np.ndarray, " M"]
    total: Float[np.ndarray, " M"]
    correlation: dict[str, dict[str, float]]
    sign_differs: Bool[np.ndarray, " M"]
    rank_differs: Bool[np.ndarray, " M"]
    step: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        rows = np.flatnonzero(self.sign_differs | self.rank_differs)
        flagged = [
            {"neuron": str(self.neurons[i]), "predicted": float(self.predicted[i]), "frozen": float(self.frozen[i]),
             "direct": float(self.direct[i]), "total": float(self.total[i]), "sign": bool(self.sign_differs[i]),
             "rank": bool(self.rank_differs[i]), "step": self.step[i]}
            for i in rows.tolist()
        ]  # fmt: skip
        return {"n_neurons": len(self.neurons), "correlation": self.correlation, "flagged": flagged}


@dataclass(frozen=True, eq=False, repr=False)
class ComponentEffects(Shown):
    """Effects of C components: MLPs `m10` and heads `a9.h1` of every layer.

    layer [C]; effect[measure] [C], the mean over start years of ablated minus clean. draws: as in `NeuronEffects`.
    """

    model: str
    ablation: Ablation
    draws: int
    n_prompts: int
    components: tuple[str, ...]
    layer: tuple[int, ...]
    effect: dict[Measure, Float[np.ndarray, " C"]]

    def summary(self) -> dict[str, object]:
        return {"model": self.model, "ablation": self.ablation, "components": len(self.components),
                "prompts": self.n_prompts}  # fmt: skip

    def to_frame(self) -> "pd.DataFrame":
        """A row a component, a column for each measure."""
        import pandas as pd

        return pd.DataFrame(
            {"component": self.components, "layer": self.layer} | {str(m): x for m, x in self.effect.items()}
        )

    def to_json(self) -> list[dict[str, Any]]:
        """`{"component", "layer", "random-year": {measure: effect}}` for each, under the name of the ablation."""
        return [
            {"component": name, "layer": self.layer[row], str(self.ablation): self._at(row)}
            for row, name in enumerate(self.components)
        ]

    def _at(self, row: int) -> dict[Measure, float]:
        return {measure: float(values[row]) for measure, values in self.effect.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Ablations(Shown):
    """All results of one call of `neurons causal`; None for what was not asked for. references: by measure.

    others: the direct and the frozen effects of the same neurons, if agreement was computed.
    """

    effects: NeuronEffects
    references: dict[Measure, References]
    group: GroupEffect | None
    agreement: Agreement | None
    curves: Curves | None = None
    published: PublishedCurve | None = None
    layers: ComponentEffects | None = None
    others: tuple[NeuronEffects, ...] = ()

    def summary(self) -> dict[str, object]:
        together = {"together": f"{self.group.effect['probability_difference']:+.4f}"} if self.group else {}
        return self.effects.summary() | together

    def to_frame(self) -> "pd.DataFrame":
        """A row a neuron, as `effects` has it."""
        return self.effects.to_frame()

    def to_xarray(self) -> "xr.DataArray":
        """The effect of each neuron at each start year."""
        return self.effects.to_xarray()

    def to_json(self, group_measure: Measure = "probability_difference") -> dict[str, Any]:
        """The result of `neurons causal --json`; group_measure: that of groups and curves."""
        own = self.references[self.effects.intervention.measure].to_json()
        result = (
            self.effects.to_json()
            | own
            | {
                "references": {measure: values.to_json() for measure, values in self.references.items()},
                "group": self.group.to_json(group_measure) if self.group else None,
                "agreement": self.agreement.to_json() if self.agreement else None,
            }
        )
        if self.curves and self.published:
            result["curves"] = self.curves.to_json(group_measure) | {"published": self.published.to_json()}
        if self.layers:
            result["layers"] = self.layers.to_json()
        return result
