"""The ranking: every neuron by its share of the answer, with an interval, a verdict, and its other numbers beside it.

1. Boosting: among the first k by share that recover 90 % of the probability difference on centuries held out
   (`recovery`), and interval above zero. Suppressing: share and interval below zero, among the fewest that hold 90 % of
   the sum of negative shares.
2. At one start year no sets are run: boosting mirrors suppressing, the fewest that hold 90 % of the positive sum. So it
   does where the neurons together lower the measure.
3. Without attribution the same is said of the direct effect's year-specific part, and `order` is "direct".
4. Shares that differ by less than float32's resolution of the largest are equal, and stand by layer and index.

Attribution is of random-year values, so `total` is too: what the contrast loses when one neuron alone is at a random
other start year. Of that the direct effect is the year-specific part; `indirect` is the rest.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neurons.attribution.results import Attributed
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.pairing import fewest
from neurons.decomposition.scores import DirectScores, direct_scores
from neurons.ranking.results import Answer, Order, Ranking
from neurons.rounding import above, descending
from neurons.types import InputError, Measure, Progress, check_choice, check_is

HELD = 0.9
"""What boosting neurons recover of clean minus floor, and suppressing ones hold of the negative sum."""
LEVELS = {"50": 0.5, "80": 0.8, "90": HELD, "99": 0.99}
Scores = Mapping[Measure, Float[np.ndarray, " M"]]


def rank(
    effects: LogitEffects,
    *,
    attribution: Attributed | None = None,
    alone: Scores | None = None,
    start_year: int | None = None,
    order: Order | None = None,
    progress: Progress | None = None,
) -> Ranking:
    """Rank every neuron of the cached layers.

    attribution: shares of the same layers and start years; without them the ranking is by direct effect. alone: exact
    effects of every neuron alone at a random other start year, by measure, layer by layer. start_year: rank at one
    start year only. order: default attribution, or direct where there is none.

    Raises `InputError` for a start year that is not measured, effects of the plain lens, attribution of other layers or
    start years, or an order whose numbers are not given.
    """
    scores = direct_scores(effects, start_year=start_year, progress=progress)
    if attribution is not None:
        _check_same(attribution, effects)
    if alone is not None:
        _check_alone(alone, len(scores.score))
    columns = _columns(scores, attribution, alone, start_year)
    judged = columns["year_specific" if attribution is None else "share"]
    columns["boosting"] = _boosting(judged, columns["ci_low"], _enough(attribution) if start_year is None else None)
    columns["suppressing"] = _fewest_below(judged, columns["ci_high"])
    chosen: Order = check_choice("order", order or ("direct" if attribution is None else "attribution"), Order)
    place = _places(chosen, columns)
    return Ranking(
        **_about(effects),
        start_year=start_year,
        order=chosen,
        answer=None if attribution is None else _answer(attribution, alone, start_year),
        pairing=scores.pairing,
        **{name: values[place] for name, values in columns.items()},
    )


def _about(effects: LogitEffects) -> dict[str, Any]:
    prompts = int(np.isin(effects.cache.start_year, effects.start_years).sum())
    return {
        "model": effects.cache.model,
        "n_prompts": prompts,
        "layers": effects.layers,
        "start_years": effects.start_years,
    }


def _columns(
    scores: DirectScores, attribution: Attributed | None, alone: Scores | None, start_year: int | None
) -> dict[str, np.ndarray]:
    """Every column but the verdicts, layer by layer."""
    columns: dict[str, Any] = {name: value for name, value in vars(scores).items() if name != "pairing"}
    columns["ci_low"], columns["ci_high"] = columns.pop("low"), columns.pop("high")
    unknown = np.full(len(scores.score), np.nan)
    columns |= dict.fromkeys(("share", "written_share", "sharpness_share", "total"), unknown)
    if attribution is not None:
        main, sharp = attribution.share("probability_difference"), attribution.share("cutoff_sharpness")
        found = main.interval_at(start_year)
        rows = slice(None) if start_year is None else [main.place_of(start_year)]
        columns |= {
            "share": main.by_start_year[rows].mean(0),
            "ci_low": found.low,
            "ci_high": found.high,
            "written_share": main.written_by_start_year[rows].mean(0),
            "sharpness_share": sharp.by_start_year[rows].mean(0),
        }
    if alone is not None and start_year is None:
        columns["total"] = np.asarray(alone["contrast"], float)
    columns["indirect"] = columns["total"] - columns["year_specific"]
    return columns


def _places(order: Order, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rows in the order asked for, largest first."""
    column = {"attribution": "share", "direct": "year_specific", "sharpness": "sharpness_share", "total": "total"}
    values = columns[column[order]]
    if np.isnan(values).all() and len(values):
        raise InputError(f"order {order} needs numbers that are not there: {_MISSING[order]}")
    return descending(values)


_MISSING = {
    "attribution": "attribute neurons first, or order by direct",
    "sharpness": "attribute neurons first, or order by direct",
    "total": "ablate every neuron alone first (approximations), on all start years",
}


def _enough(attribution: Attributed | None) -> int | None:
    """The first k that recover 90 %, where neurons together raise the probability difference."""
    if attribution is None:
        return None
    main = attribution.share("probability_difference")
    return attribution.recovery(main.measure).fewest(HELD) if (main.clean - main.floor).mean() > 0 else None


def _boosting(value: Float[np.ndarray, " M"], low: Float[np.ndarray, " M"], k: int | None) -> Bool[np.ndarray, " M"]:
    if k is None:
        return _fewest_below(-value, -low)
    first = np.zeros(len(value), bool)
    first[descending(value)[:k]] = True
    return first & above(low, np.abs(value).max(initial=0.0))


def _fewest_below(value: Float[np.ndarray, " M"], high: Float[np.ndarray, " M"]) -> Bool[np.ndarray, " M"]:
    """The fewest that hold 90 % of the negative sum, whose interval lies below zero too."""
    held = np.zeros(len(value), bool)
    held[fewest(np.maximum(-value, 0), HELD)] = True
    return held & above(-high, np.abs(value).max(initial=0.0))


def _answer(attribution: Attributed, alone: Scores | None, start_year: int | None) -> Answer:
    shares = {one.measure: one for one in attribution.shares}
    rows = {m: slice(None) if start_year is None else [one.place_of(start_year)] for m, one in shares.items()}
    clean = {measure: float(one.clean[rows[measure]].mean()) for measure, one in shares.items()}
    floor = {measure: float(one.floor[rows[measure]].mean()) for measure, one in shares.items()}
    main: Measure = "probability_difference"
    part = None
    if alone is not None and clean[main] != floor[main] and start_year is None:
        part = float(np.sum(alone[main]) / (clean[main] - floor[main]))
    k = {one.measure: {name: one.fewest(level) for name, level in LEVELS.items()} for one in attribution.recoveries}
    return Answer(clean, floor, k, part)


def _check_same(attribution: Attributed, effects: LogitEffects) -> None:
    check_is("attribution", attribution, Attributed, "what study.attributed() returns")
    one = attribution.share("probability_difference")
    if (one.layers, one.start_years, one.model) != (effects.layers, effects.start_years, effects.cache.model):
        raise InputError("attribution is of other layers, start years or weights than the effects: use the same study")


def _check_alone(alone: Scores, neurons: int) -> None:
    needed: tuple[Measure, ...] = ("contrast", "probability_difference")
    check_is("alone", alone, Mapping, "effects by measure")
    if any(np.asarray(alone.get(name)).shape != (neurons,) for name in needed):
        raise InputError(f"alone must hold an effect of each of the {neurons} neurons on {' and '.join(needed)}")
