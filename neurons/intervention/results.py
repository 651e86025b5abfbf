"""Results of ablations: frozen dataclasses of plain arrays, with their JSON. No torch, so that a report needs none.

An effect is the measure when ablated minus the measure in the clean run, averaged over the prompts of a start year,
then over start years: a boosting neuron's is negative.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from neurons.intervention.curve_results import Curves, PublishedCurve
from neurons.labelled import labelled
from neurons.shown import Shown
from neurons.task.intervention import Intervention
from neurons.types import InputError, Measure, NeuronId, check_choice, check_whole

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

ComponentAblation = Literal["mean", "resample"]
COMPONENT_ABLATIONS: tuple[ComponentAblation, ...] = get_args(ComponentAblation)


@dataclass(frozen=True)
class References:
    """A measure's reference values, averaged over start years: the clean run's, and two that do not depend on YY.

    counterfactual: the corrupted run scored against the true YY. average_distribution: the mean of the year
    probabilities over all prompts of the cache, scored against every YY (for the contrast, its logarithm).
    """

    baseline: float
    counterfactual: float
    average_distribution: float

    def to_json(self) -> dict[str, float]:
        return dict(vars(self))


@dataclass(frozen=True, eq=False, repr=False)
class NeuronEffects(Shown):
    """Exact effects of M neurons, each ablated alone. Y start years; effect is the mean over them.

    by_start_year: the same at each start year. screen: the attribution-patching estimate. score: the boosting score, in
    logits, NaN if none was given.
    """

    model: str
    intervention: Intervention
    n_prompts: int
    start_years: tuple[int, ...]
    references: References
    neurons: tuple[NeuronId, ...]
    effect: Float[np.ndarray, " M"]
    by_start_year: Float[np.ndarray, "M Y"]
    screen: Float[np.ndarray, " M"]
    score: Float[np.ndarray, " M"]

    def summary(self) -> dict[str, object]:
        return {"model": self.model, **vars(self.intervention), "neurons": len(self.neurons), "prompts": self.n_prompts}

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas row for each neuron: effect and attribution patching in units of the measure, boosting score
        in logits.
        """
        import pandas as pd

        names = [str(neuron) for neuron in self.neurons]
        return pd.DataFrame({"neuron": names, "effect": self.effect, "screen": self.screen, "score": self.score})

    def to_xarray(self) -> "xr.DataArray":
        """The effect of each neuron at each start year."""
        unit = "logits" if self.intervention.measure == "contrast" else "probability"
        return labelled(self.by_start_year, unit=unit, neuron=self.neurons, start_year=self.start_years)

    def record(self, row: int) -> dict[str, Any]:
        """Return one neuron as in the JSON of `neurons causal`; row 0 is the first named."""
        check_whole("row", row, least=0, most=len(self.neurons) - 1)
        score = float(self.score[row])
        return {
            "neuron": str(self.neurons[row]),
            "effect": float(self.effect[row]),
            "by_start_year": self.by_start_year[row].tolist(),
            "screen": float(self.screen[row]),
            "score": None if np.isnan(score) else score,
        }

    def to_json(self) -> dict[str, Any]:
        about = {"model": self.model, **vars(self.intervention), "n_prompts": self.n_prompts}
        about |= {"start_years": list(self.start_years), **self.references.to_json()}
        return about | {"neurons": [self.record(row) for row in range(len(self.neurons))]}


@dataclass(frozen=True, eq=False, repr=False)
class GroupEffect(Shown):
    """Neurons ablated together: the effect on each measure, in its units; by_start_year [Y] at each start year."""

    neurons: tuple[NeuronId, ...]
    by_start_year: dict[Measure, Float[np.ndarray, " Y"]]

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
            "by_start_year": self.by_start_year[measure].tolist(),
            "effects": self.effect,
        }


Step = Literal["ablation", "final LayerNorm", "later layers"]


STEPS: tuple[Step, ...] = ("ablation", "final LayerNorm", "later layers")


@dataclass(frozen=True, eq=False)
class Agreement:
    """Boosting scores beside minus the exact effects, in logits. M neurons.

    sign_differs, rank_differs: where score and total effect disagree. step: where most of the difference comes from:
    the ablation itself (score against frozen: resampling leaves a neuron's YY-independent bias to late years in
    place), the final LayerNorm (frozen against direct), or later layers (direct against total).
    """

    neurons: tuple[NeuronId, ...]
    score: Float[np.ndarray, " M"]
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
            {"neuron": str(self.neurons[i]), "score": float(self.score[i]), "frozen": float(self.frozen[i]),
             "direct": float(self.direct[i]), "total": float(self.total[i]), "sign": bool(self.sign_differs[i]),
             "rank": bool(self.rank_differs[i]), "step": self.step[i]}
            for i in rows.tolist()
        ]  # fmt: skip
        return {"n_neurons": len(self.neurons), "correlation": self.correlation, "flagged": flagged}


@dataclass(frozen=True, eq=False, repr=False)
class ComponentEffects(Shown):
    """Effects of C components: MLPs `m10` and heads `a9.h1` of every layer.

    layer [C]; effect[ablation][measure] [C], the mean over start years of ablated minus baseline.
    """

    model: str
    n_prompts: int
    components: tuple[str, ...]
    layer: tuple[int, ...]
    effect: dict[ComponentAblation, dict[Measure, Float[np.ndarray, " C"]]]

    def summary(self) -> dict[str, object]:
        return {"model": self.model, "components": len(self.components), "prompts": self.n_prompts}

    def to_frame(self) -> "pd.DataFrame":
        """A row a component, a column for each ablation and measure (`mean probability_difference`)."""
        import pandas as pd

        effects = {
            f"{ablation} {measure}": values
            for ablation, by_measure in self.effect.items()
            for measure, values in by_measure.items()
        }
        return pd.DataFrame({"component": self.components, "layer": self.layer, **effects})

    def to_json(self) -> list[dict[str, Any]]:
        """`{"component", "layer", "mean": {measure: effect}, "resample": {measure: effect}}` for each."""
        return [
            {"component": name, "layer": self.layer[row],
             **{ablation: {measure: float(values[row]) for measure, values in by_measure.items()}
                for ablation, by_measure in self.effect.items()}}
            for row, name in enumerate(self.components)
        ]  # fmt: skip


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
        result = self.effects.to_json() | {
            "references": {measure: values.to_json() for measure, values in self.references.items()},
            "group": self.group.to_json(group_measure) if self.group else None,
            "agreement": self.agreement.to_json() if self.agreement else None,
        }
        if self.curves and self.published:
            result["curves"] = self.curves.to_json(group_measure) | {"published": self.published.to_json()}
        if self.layers:
            result["layers"] = self.layers.to_json()
        return result
