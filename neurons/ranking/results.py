"""Orders of neurons as they are handed on: the ranking, and how much the first k of each order recover. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.decomposition.pairing import Pairing
from neurons.shown import Shown
from neurons.types import InputError, Measure, NeuronId, check_whole

if TYPE_CHECKING:
    import pandas as pd

Order = Literal["attribution", "direct", "sharpness", "total"]
"""Share of the probability difference; direct effect; share of cutoff sharpness; exact effect of ablating it alone."""
COLUMNS = (
    "neuron", "layer", "index", "rank", "share", "ci_low", "ci_high", "written_share", "sharpness_share", "score",
    "static", "year_specific", "total", "indirect", "tuning_centre", "readout_edge", "edge_gap", "boosting",
    "suppressing",
)  # fmt: skip
YEARS = ("tuning_centre", "readout_edge")
FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the neurons kept, for the areas (Mueller et al. 2025)."""
SIZES = (31, 64, 128, 256)
SHAPLEY = "Shapley value, sampled"
"""The order by values of all neurons, where they were asked for."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What shares add up to. clean, floor: each measure as it is, and with all neurons at a random other start year.

    k: by measure, the first k neurons that recover 50, 80 and 90 % of clean minus floor on centuries held out; None
    where none do. alone: what ablating neurons one at a time accounts for, as a part of clean minus floor of the
    probability difference; None where it was not measured.
    """

    clean: dict[Measure, float]
    floor: dict[Measure, float]
    k: dict[Measure, dict[str, int | None]]
    alone: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Shown):
    """Every neuron of the layers in rank order. M neurons; NaN where a number is not known.

    layer, index [M]: which neuron. share, written_share [M]: of the probability difference; sharpness_share [M]: of the
    cutoff sharpness. score, static, year_specific [M]: the direct effect on the contrast, in logits; score = static +
    year_specific. ci_low, ci_high [M]: the 95 % interval over centuries of share, without attribution of year_specific.
    total, indirect [M]: exact effect on the contrast of ablating it alone, and what of that is not direct, in logits.
    tuning_centre, readout_edge [M]: years; edge_gap [M] in logits (`decomposition.scores`). boosting, suppressing [M]:
    the verdicts. order: what the neurons are ordered by. start_year is None for the average over all measured years.
    pairing: a test for each layer. answer is None without attribution.
    """

    model: str
    n_prompts: int
    layers: tuple[int, ...]
    start_years: tuple[int, ...]
    start_year: int | None
    order: Order
    answer: Answer | None
    pairing: tuple[Pairing, ...]
    layer: Int[np.ndarray, " M"]
    index: Int[np.ndarray, " M"]
    share: Float[np.ndarray, " M"]
    ci_low: Float[np.ndarray, " M"]
    ci_high: Float[np.ndarray, " M"]
    written_share: Float[np.ndarray, " M"]
    sharpness_share: Float[np.ndarray, " M"]
    score: Float[np.ndarray, " M"]
    static: Float[np.ndarray, " M"]
    year_specific: Float[np.ndarray, " M"]
    total: Float[np.ndarray, " M"]
    indirect: Float[np.ndarray, " M"]
    tuning_centre: Float[np.ndarray, " M"]
    readout_edge: Float[np.ndarray, " M"]
    edge_gap: Float[np.ndarray, " M"]
    boosting: Bool[np.ndarray, " M"]
    suppressing: Bool[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def neurons(self) -> tuple[NeuronId, ...]:
        """All in rank order."""
        return tuple(NeuronId(int(layer), int(index)) for layer, index in zip(self.layer, self.index, strict=True))

    @property
    def judged(self) -> Float[np.ndarray, " M"]:
        """What verdicts and intervals are of: share of the probability difference, or the direct effect in logits."""
        return self.year_specific if self.answer is None else self.share

    def boosting_neurons(self) -> tuple[NeuronId, ...]:
        """In rank order."""
        return tuple(n for n, yes in zip(self.neurons, self.boosting, strict=True) if yes)

    def suppressing_neurons(self) -> tuple[NeuronId, ...]:
        """Last in rank order first."""
        return tuple(n for n, yes in zip(self.neurons[::-1], self.suppressing[::-1], strict=True) if yes)

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "neurons": len(self),
            "order": self.order,
            "boosting": int(self.boosting.sum()),
            "suppressing": int(self.suppressing.sum()),
            "prompts": self.n_prompts,
        }

    def record(self, row: int) -> dict[str, Any]:
        """One neuron as in the JSON of `neurons rank`; row 0 is the first in rank order."""
        check_whole("row", row, least=0, most=len(self) - 1)
        neuron = NeuronId(int(self.layer[row]), int(self.index[row]))
        values = {"neuron": str(neuron), "layer": neuron.layer, "index": neuron.index, "rank": row + 1}
        for name in COLUMNS[4:]:
            value = getattr(self, name)[row].item()
            values[name] = None if value != value else int(value) if name in YEARS else value
        return values

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """The result of `neurons rank --json`: all neurons in rank order, or the first `top`."""
        about = self.answer
        return {
            "model": self.model,
            "prompts": self.n_prompts,
            "layers": list(self.layers),
            "start_year": self.start_year,
            "start_years": list(self.start_years),
            "order": self.order,
            "clean": about and about.clean,
            "floor": about and about.floor,
            "k": about and about.k,
            "alone": about and about.alone,
            "pairing": [
                {"layer": layer, "z": None if test.z != test.z else test.z, "p_value": test.p_value}
                for layer, test in zip(self.layers, self.pairing, strict=True)
            ],
            "neurons": [self.record(row) for row in range(len(self))[:top]],
        }

    def row_of(self, neuron: str | NeuronId) -> int:
        """Where a neuron stands (0 is first); `InputError` when it is not ranked."""
        found = NeuronId.parse(neuron)
        rows = np.flatnonzero((self.layer == found.layer) & (self.index == found.index))
        if not len(rows):
            raise InputError(f"{found} is not among the ranked neurons of layers {self.layers}")
        return int(rows[0])

    def to_frame(self) -> "pd.DataFrame":
        """The ranking as a pandas table, a row a neuron in rank order."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in COLUMNS if name not in {"neuron", "rank"}}
        frame = pd.DataFrame(columns)
        frame.insert(0, "neuron", [str(neuron) for neuron in self.neurons])
        frame.insert(3, "rank", np.arange(1, len(self) + 1))
        return frame


@dataclass(frozen=True, eq=False, repr=False)
class OrderComparison(Shown):
    """A orders of the M neurons of the layers, in one measure; the first is by share.

    sizes [G]: k, ascending from 0 to M. kept, removed [A, G]: parts of clean minus floor with the first k alone run as
    they are, and with all others. correlation [A]: Spearman's with the share. total [A]: sum of the scores in units of
    the measure, NaN where they have others. alone [2, M]: exact effect of each neuron alone at a random other start
    year on contrast and probability difference, where asked for; else [2, 0].
    """

    measure: Measure
    names: tuple[str, ...]
    sizes: Int[np.ndarray, " G"]
    kept: Float[np.ndarray, "A G"]
    removed: Float[np.ndarray, "A G"]
    correlation: Float[np.ndarray, " A"]
    total: Float[np.ndarray, " A"]
    alone: Float[np.ndarray, "2 M"]

    @property
    def effects_alone(self) -> dict[Measure, Float[np.ndarray, " M"]] | None:
        """Exact effects by measure, as `rank` takes them; None where they were not asked for."""
        if not self.alone.size:
            return None
        return {"contrast": self.alone[0], "probability_difference": self.alone[1]}

    def recovered(self, k: int) -> Float[np.ndarray, " A"]:
        """What the first k of each order recover, as a part of clean minus floor; k is one of `sizes`."""
        return self.kept[:, self.sizes.tolist().index(k)]

    @property
    def cpr(self) -> Float[np.ndarray, " A"]:
        """Area under the recovered part over the fraction of neurons kept, by trapezia (Mueller et al. 2025)."""
        return self._area(self.kept)

    @property
    def cmd(self) -> Float[np.ndarray, " A"]:
        """Area between the recovered part and 1; 0 is best."""
        return self._area(np.abs(1 - self.kept))

    def _area(self, values: Float[np.ndarray, "A G"]) -> Float[np.ndarray, " A"]:
        M = int(self.sizes[-1])
        held = np.isin(self.sizes, [max(1, round(fraction * M)) for fraction in FRACTIONS])
        return np.trapezoid(values[:, held], self.sizes[held] / M, axis=1)

    def summary(self) -> dict[str, object]:
        return {"measure": self.measure, "orders": len(self.names), "best CPR": self.names[int(self.cpr.argmax())]}

    def to_frame(self) -> "pd.DataFrame":
        """A row an order: correlation with the share, sum, what the first k recover, CPR, CMD."""
        import pandas as pd

        held = [k for k in SIZES if k in self.sizes]
        columns = {"order": self.names, "correlation": self.correlation, "sum": self.total}
        columns |= {f"kept_{k}": self.recovered(k) for k in held}
        return pd.DataFrame(columns | {"cpr": self.cpr, "cmd": self.cmd})

    def to_json(self) -> dict[str, Any]:
        """The table and both curves; what is not known is null."""
        rows = self.to_frame().to_dict("records")
        return {
            "measure": self.measure,
            "sizes": self.sizes.tolist(),
            "orders": [
                {key: None if value != value else value for key, value in row.items()}
                | {"kept": self.kept[place].tolist(), "removed": self.removed[place].tolist()}
                for place, row in enumerate(rows)
            ],
        }
