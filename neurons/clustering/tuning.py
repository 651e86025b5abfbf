"""Tuning of each neuron to the start year, and its readout: one family of curves for each, by cross-validation.

1. A tuning curve that varies by less than 10 % of its mean (standard deviation over mean) is `constant`.
2. Every other family is fitted to the mean curve of half the centuries without every fifth start year, and
   predicts those years of the other half's mean curve; five folds, so that every year is predicted once.
   R^2 of these predictions is against a constant fitted in the same way.
3. If the best family reaches R^2 < 0.5 the answer is `none`. Otherwise the family with the fewest
   parameters that is only marginally worse is chosen: within one standard error of the best's squared
   error (paired, over the years), or within 0.01 of its R^2. AICc of the whole curve stands beside it.
4. The family chosen is refined on the whole curve. The readout over the 100 years is fitted in the same
   way, but for the centuries: a readout has none.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from neurons.clustering.descriptions import describe
from neurons.clustering.families import FAMILIES, Family, Refined, fit, n_parameters, refine
from neurons.clustering.heuristics import Match, matches
from neurons.clustering.results import CurveFit, NeuronTuning, Tuning
from neurons.decomposition.population import Population
from neurons.intervals import interval
from neurons.rounding import MARGIN, largest, reaches
from neurons.task.years import N_YEARS
from neurons.types import NeuronId, Progress, check_is, check_progress, check_whole

CONSTANT_BAR = 0.1
R2_BAR = 0.5
R2_MARGIN = 0.01
FOLDS = 5


def tune(population: Population, *, seed: int = 0, progress: Progress | None = None) -> Tuning:
    """Fit every neuron of the population (a few thousand at most: `Population.take` picks them)."""
    check_is("population", population, Population, "what neuron_population(effects) returns")
    check_whole("seed", seed, least=0)
    check_progress(progress)
    band = interval(population.cells, lambda mean: mean)
    tuning_fits = _fit_tuning(population, seed, progress)
    readout_fits = _fit_readouts(population.readout)
    follows = matches(population) if len(population) else ()
    neurons = tuple(
        _neuron(population, row, tuning_fits[row], readout_fits[row], follows[row]) for row in range(len(population))
    )
    return Tuning(population.start_years, neurons, population.curve, band.low, band.high, population.readout)


def tune_also(population: Population, tuning: Tuning, also: Sequence[NeuronId], *, seed: int = 0) -> Tuning:
    """These fits, and those of further neurons of the population; fitted again where there are any."""
    fitted = [fit.neuron for fit in tuning.neurons]
    new = [neuron for neuron in dict.fromkeys(also) if neuron not in fitted]
    return tune(population.take(population.rows([*fitted, *new])), seed=seed) if new else tuning


def families_of(population: Population, *, seed: int = 0) -> tuple[Family, ...]:
    """The family of every neuron's tuning curve, by the same cross-validation, without its parameters."""
    years, curves = population.start_years, population.curve
    train, test = _held_out_curves(population, seed)
    errors = _held_out_errors(years, train, test)
    r2 = _predicted(errors)
    constant = is_constant(curves)
    found: list[Family] = []
    for m in range(len(population)):
        of_one: dict[str, float] = {family: float(values[m]) for family, values in r2.items()}
        found.append("constant" if constant[m] else _choose(of_one, {f: e[:, m] for f, e in errors.items()}, years))
    return tuple(found)


def is_constant(curve: Float[np.ndarray, "Y M"]) -> Bool[np.ndarray, " M"]:
    """Return whether a curve's standard deviation is at most 10 % of its mean."""
    return curve.std(0) <= CONSTANT_BAR * (1 + MARGIN) * np.abs(curve.mean(0))


def _fit_tuning(population: Population, seed: int, progress: Progress | None) -> list[CurveFit]:
    train, test = _held_out_curves(population, seed)
    return _fit_curves(population.start_years, population.curve, train, test, progress)


def _held_out_curves(population: Population, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each fold, the curves of the centuries fitted to, and of the others."""
    halves = _halves(population.n_centuries, seed)
    train = [population.curve_over(half) for half in halves]
    return train, [population.curve_over(~half if population.n_centuries > 1 else half) for half in halves]


def _halves(n_centuries: int, seed: int) -> Bool[np.ndarray, "folds centuries"]:
    """The half of the centuries that each fold is fitted to; a single century is in every one."""
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(n_centuries) for _ in range(FOLDS)])
    return order < max(1, n_centuries // 2)


def _fit_readouts(readout: Float[np.ndarray, "M 100"]) -> list[CurveFit]:
    curves = [readout.T] * FOLDS
    return _fit_curves(tuple(range(N_YEARS)), readout.T, curves, curves, None)


def year_fold(years: tuple[int, ...]) -> Int[np.ndarray, " Y"]:
    """Every fifth year, moved on by one each decade, so that no last digit is left out altogether."""
    year = np.array(years)
    return (year + year // 10) % FOLDS


def _fit_curves(
    years: tuple[int, ...],
    curves: Float[np.ndarray, "Y M"],
    train: list[Float[np.ndarray, "Y M"]],
    test: list[Float[np.ndarray, "Y M"]],
    progress: Progress | None,
) -> list[CurveFit]:
    errors = _held_out_errors(years, train, test)
    aicc = {family: _aicc(family, years, curves) for family in errors}
    r2 = _predicted(errors)
    constant = is_constant(curves)
    fits = []
    for m in range(curves.shape[1]):
        of_one: dict[str, float] = {f: float(values[m]) for f, values in r2.items()}
        family = "constant" if constant[m] else _choose(of_one, {f: e[:, m] for f, e in errors.items()}, years)
        aicc_of_one: dict[str, float] = {f: float(values[m]) for f, values in aicc.items()}
        fits.append(_curve_fit(family, years, curves[:, m], of_one, aicc_of_one))
        if progress:
            progress(m + 1, curves.shape[1])
    return fits


def _held_out_errors(
    years: tuple[int, ...], train: list[np.ndarray], test: list[np.ndarray]
) -> dict[Family, Float[np.ndarray, "Y M"]]:
    """Squared errors at each year, in the fold that leaves it out, for the families that the years allow."""
    fold = year_fold(years)
    fewest = min(int((fold != f).sum()) for f in range(FOLDS))
    errors: dict[Family, np.ndarray] = {}
    for family in FAMILIES:
        if family != "constant" and fewest < n_parameters(family, years) + 4:
            continue
        error = np.zeros_like(train[0])
        for f in range(FOLDS):
            left_out = fold == f
            if left_out.any() and fewest:
                error[left_out] = (fit(family, years, train[f], ~left_out) - test[f])[left_out] ** 2
        errors[family] = error
    return errors


def _predicted(errors: Mapping[Family, Float[np.ndarray, "Y M"]]) -> dict[Family, Float[np.ndarray, " M"]]:
    """R^2 of each family's predictions, against a constant fitted in the same way."""
    base = errors["constant"].mean(0)
    return {
        family: 1 - np.divide(error.mean(0), base, out=np.ones_like(base), where=base > 0)
        for family, error in errors.items()
        if family != "constant"
    }


def _choose(r2: dict[str, float], errors: dict[Family, Float[np.ndarray, " Y"]], years: tuple[int, ...]) -> Family:
    """The simplest family marginally worse than the best at most; `none` where the best is below the bar."""
    good = [family for family in FAMILIES if family in r2 and reaches(r2[family], R2_BAR)]
    if not good:
        return "none"
    best = good[int(largest(np.array([r2[family] for family in good])))]
    within = [f for f in good if reaches(r2[f], r2[best] - R2_MARGIN) or _no_worse(errors[f], errors[best])]
    fewest = min(n_parameters(family, years) for family in within)
    simplest = [family for family in within if n_parameters(family, years) == fewest]
    return simplest[int(largest(np.array([r2[family] for family in simplest])))]


def _no_worse(error: Float[np.ndarray, " Y"], best: Float[np.ndarray, " Y"]) -> bool:
    difference = error - best
    return reaches(difference.std() / np.sqrt(len(difference)), difference.mean())


def _aicc(family: Family, years: tuple[int, ...], curves: Float[np.ndarray, "Y M"]) -> Float[np.ndarray, " M"]:
    """Akaike's criterion with the correction for few points; the noise's variance counts as a parameter."""
    Y, p = len(years), n_parameters(family, years) + 1
    residual = ((fit(family, years, curves, np.ones(Y, bool)) - curves) ** 2).sum(0)
    floor = 1e-14 * (curves**2).sum(0) + 1e-300
    correction = 2 * p * (p + 1) / (Y - p - 1) if p + 1 < Y else 0.0
    return Y * np.log(np.maximum(residual, floor) / Y) + 2 * p + correction


def _curve_fit(
    family: Family, years: tuple[int, ...], curve: np.ndarray, r2: dict[str, float], aicc: dict[str, float]
) -> CurveFit:
    if family == "none":
        fitted = Refined({}, np.full(len(years), curve.mean()))
        return CurveFit(family, {}, max(r2.values(), default=None), fitted.values, r2, aicc)
    fitted = refine(family, years, curve)
    return CurveFit(family, fitted.parameters, r2.get(family), fitted.values, r2, aicc)


def _neuron(
    population: Population, row: int, tuning: CurveFit, readout: CurveFit, follows: tuple[Match, ...]
) -> NeuronTuning:
    text = describe(
        family=tuning.family,
        parameters=tuning.parameters,
        start_years=population.start_years,
        fitted=tuning.values,
        curve=population.curve[:, row],
        readout_family=readout.family,
        readout=readout.values,
    )
    heuristics = () if tuning.family == "constant" else follows
    return NeuronTuning(population.neurons[row], float(population.score[row]), tuning, readout, heuristics, text)
