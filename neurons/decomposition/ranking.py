"""Boosting scores: which neurons raise the years after the start year, and how sure that is.

1. Score: the contrast of a neuron's effect (mean over y > YY minus mean over y <= YY), averaged over YY.
2. It splits exactly into a static part (mean activation times mean contrast: a lean to late years that
   looks at no YY) and a year-specific part (covariance over YY of activation and contrast).
3. An interval for the score by jackknife over centuries; a p value for the year-specific part, whose null is
   that the neuron, tuned as it is, writes in a random direction; q by Benjamini-Hochberg.
4. `boosting`: interval above zero, year-specific part positive, q < 0.05. `suppressing` mirrors it.
5. Scores that differ by less than float32's resolution of the largest are equal, and stand by layer and index.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.decomposition.effects import LogitEffects, neuron_parts
from neurons.decomposition.significance import Q_BAR, circular_shift_p, false_discovery_q, random_direction_p
from neurons.intervals import Cells, jackknife, left_out, year_means
from neurons.rounding import MARGIN, RESOLUTION, descending
from neurons.shown import Shown
from neurons.task.years import contrast_weights
from neurons.types import InputError, NeuronId, Progress, check_is, check_progress, check_whole

if TYPE_CHECKING:
    import pandas as pd

CONSTANT = 1e-5
"""A tuning curve that varies by less than this share of its size is constant: float32 noise. So is one that varies
by less than float32's resolution of the layer's largest: a silent neuron."""

COLUMNS = (
    "neuron", "layer", "index", "rank", "score", "static", "year_specific", "ci_low", "ci_high", "p_value",
    "q_value", "p_shift", "boosting", "suppressing",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Shown):
    """Every neuron of the layers in rank order: boosting by score, then the rest by score. M neurons.

    layer, index [M]: which neuron. score, static, year_specific, ci_low, ci_high [M] in logits; score = static +
    year_specific. p_value, q_value [M] are one-sided for boosting; p_shift [M]: share of circular shifts of the
    tuning curve that do as well. boosting, suppressing [M]: the verdicts. start_year is None for the average over
    all measured years.
    """

    model: str
    n_prompts: int
    layers: tuple[int, ...]
    start_years: tuple[int, ...]
    start_year: int | None
    layer: Int[np.ndarray, " M"]
    index: Int[np.ndarray, " M"]
    score: Float[np.ndarray, " M"]
    static: Float[np.ndarray, " M"]
    year_specific: Float[np.ndarray, " M"]
    ci_low: Float[np.ndarray, " M"]
    ci_high: Float[np.ndarray, " M"]
    p_value: Float[np.ndarray, " M"]
    q_value: Float[np.ndarray, " M"]
    p_shift: Float[np.ndarray, " M"]
    boosting: Bool[np.ndarray, " M"]
    suppressing: Bool[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def neurons(self) -> tuple[NeuronId, ...]:
        """All in rank order."""
        return tuple(NeuronId(int(layer), int(index)) for layer, index in zip(self.layer, self.index, strict=True))

    def boosting_neurons(self) -> tuple[NeuronId, ...]:
        """Most strongly boosting first."""
        return tuple(n for n, yes in zip(self.neurons, self.boosting, strict=True) if yes)

    def suppressing_neurons(self) -> tuple[NeuronId, ...]:
        """Most strongly suppressing first."""
        return tuple(n for n, yes in zip(self.neurons[::-1], self.suppressing[::-1], strict=True) if yes)

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "neurons": len(self),
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
            values[name] = None if value != value else value
        return values

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """The result of `neurons rank --json`: all neurons in rank order, or the first `top`."""
        return {
            "model": self.model,
            "prompts": self.n_prompts,
            "layers": list(self.layers),
            "start_year": self.start_year,
            "start_years": list(self.start_years),
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


def rank(
    effects: LogitEffects,
    *,
    start_year: int | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Rank every neuron of the cached layers by its boosting score.

    start_year: rank for one start year only (which neurons boost `year > 32`); the score is then the
    contrast there, and the year-specific part is what its tuning adds to its mean activation.

    Raises `InputError` for a start year that is not measured, or for effects of the plain lens.
    """
    check_is("effects", effects, LogitEffects, "what logit_effects(cache) returns")
    check_progress(progress)
    if effects.lens != "exact":
        raise InputError("neurons are ranked by exact effects: use logit_effects(cache)")
    if start_year is not None and check_whole("start_year", start_year) not in effects.start_years:
        raise InputError(
            f"start year {start_year} is not measured: choose within {effects.start_years[0]:02d}-"
            f"{effects.start_years[-1]:02d}"
        )
    parts = []
    for done, layer in enumerate(effects.layers):
        parts.append(_score_layer(effects, layer, _year_weights(effects, start_year)))
        if progress:
            progress(done + 1, len(effects.layers))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return _order(effects, start_year, columns)


def _year_weights(effects: LogitEffects, start_year: int | None) -> Float[np.ndarray, " Y"]:
    years = effects.start_years
    if start_year is None:
        return np.full(len(years), 1 / len(years))
    return np.array([float(year == start_year) for year in years])


def _score_layer(effects: LogitEffects, layer: int, weight: Float[np.ndarray, " Y"]) -> dict[str, np.ndarray]:
    W = contrast_weights(effects.start_years)
    values = (effects.readout(layer) @ W.T) * weight
    curves = _curves(effects, layer, values)
    tuning = curves.tuning
    score = (tuning.T * values).sum(1)
    static = tuning.mean(0) * values.sum(1)
    centred = tuning - tuning.mean(0)
    size = np.abs(tuning).max(0)
    constant = np.ptp(tuning, axis=0) <= np.maximum(CONSTANT * size, RESOLUTION * size.max(initial=0.0))
    centred[:, constant] = 0
    specific = (centred.T * values).sum(1)
    N = len(score)
    norms = _direction_norm(effects, centred, W * weight[:, None]), effects.cache.read(f"readout/{layer}_norm")
    p, p_mirror = (random_direction_p(sign * specific, *norms, effects.cache.d_gain) for sign in (1, -1))
    return {
        "layer": np.full(N, layer),
        "index": np.arange(N),
        "score": score,
        "static": static,
        "year_specific": score - static,
        "ci_low": curves.low,
        "ci_high": curves.high,
        "p_value": p,
        "p_mirror": p_mirror,
        "p_shift": circular_shift_p(centred, values),
    }


@dataclass(frozen=True, eq=False)
class _Curves:
    """Mean a/sigma at the average century, and the ends of the score's interval over centuries: NaN with one."""

    tuning: Float[np.ndarray, "Y N"]
    low: Float[np.ndarray, " N"]
    high: Float[np.ndarray, " N"]


def _curves(effects: LogitEffects, layer: int, values: Float[np.ndarray, "N Y"]) -> _Curves:
    """So many neurons at a time that their curves without each century fit in a bounded memory."""
    found = _Curves(np.zeros(values.T.shape), *np.zeros((2, len(values))))
    cells = effects.cells(layer)
    for part in neuron_parts(cells.held.size, len(values)):
        here = Cells(cells.value[:, :, part], cells.held)
        tuning, by_year = year_means(here), values[part].T
        scores = (left_out(here) * by_year).sum(1)
        interval = jackknife((tuning * by_year).sum(0), scores)
        found.tuning[:, part], found.low[part], found.high[part] = tuning, interval.low, interval.high
    return found


def _direction_norm(
    effects: LogitEffects, centred: Float[np.ndarray, "Y N"], weighted: Float[np.ndarray, "Y 100"]
) -> Float[np.ndarray, " N"]:
    """Length of the residual direction that a neuron, tuned as it is, would have to write for contrast."""
    direction = centred.T @ weighted
    return np.sqrt(np.maximum(((direction @ effects.cache.gram) * direction).sum(1), 0))


def _order(effects: LogitEffects, start_year: int | None, columns: dict[str, np.ndarray]) -> Ranking:
    q = false_discovery_q(columns["p_value"])
    q_mirror = false_discovery_q(columns.pop("p_mirror"))
    specific = columns["year_specific"]
    size = RESOLUTION * np.abs(columns["score"]).max(initial=0.0)
    boosting = (columns["ci_low"] > size) & (specific > size) & (q < Q_BAR * (1 - MARGIN))
    suppressing = (columns["ci_high"] < -size) & (specific < -size) & (q_mirror < Q_BAR * (1 - MARGIN))
    columns |= {"q_value": q, "boosting": boosting, "suppressing": suppressing}
    by_neuron = np.lexsort((columns["index"], columns["layer"]))
    by_score = by_neuron[descending(columns["score"][by_neuron])]
    order = by_score[np.argsort(~boosting[by_score], kind="stable")]
    return Ranking(
        model=effects.cache.model,
        n_prompts=int(np.isin(effects.cache.start_year, effects.start_years).sum()),
        layers=effects.layers,
        start_years=effects.start_years,
        start_year=start_year,
        **{name: values[order] for name, values in columns.items()},
    )
