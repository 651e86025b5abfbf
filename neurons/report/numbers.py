"""Every number of the report, as plain dicts and lists: what the pages show and `report.json` holds.

The pages are made from these and from nothing else, so the two cannot differ. Everything comes from the
cache file. Arrays are rounded to `DIGITS` significant digits; scores and p values are not.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from neurons.cache.format import Cache
from neurons.clustering.results import NeuronTuning, Tuning
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.measured import mean_probability, mean_year_logits, measured_behaviour, measured_rows
from neurons.decomposition.ranking import Ranking
from neurons.decomposition.significance import RESAMPLES, interval, noun_resamples
from neurons.report.weight_numbers import DIGITS, FromWeights
from neurons.rounding import MARGIN, is_nothing, largest, sign_of_largest
from neurons.task.years import N_YEARS, contrast_weights
from neurons.types import NeuronId
from neurons.weights.neighbours import curve_features, every_neuron, nearest

NOTHING_KEPT = FromWeights()
NO_CLUSTERS: Mapping[NeuronId, str] = MappingProxyType({})
ACTIVE_SHARE = 0.75
"""A neuron's active range is the shortest run of start years with this share of its total activation."""


def rounded(values: np.ndarray) -> Any:
    """The array as (nested) lists; what is not a number becomes None."""
    if values.ndim > 1:
        return [rounded(row) for row in values]
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values.tolist()]


def behaviour_numbers(effects: LogitEffects) -> dict[str, Any]:
    """The published measures of the model and of its two references, and the mean probability of each year.

    counterfactual: the run with YY replaced by 01, scored against the true YY. average_distribution: the
    mean distribution over all prompts, the same for every YY.
    """
    cache, years = effects.cache, effects.start_years
    return {
        "n_prompts": len(measured_rows(cache, years)),
        **{name: found.means() for name, found in measured_behaviour(cache, years).items()},
        "mean_probability": rounded(mean_probability(cache, years)),
    }


def layer_numbers(effects: LogitEffects) -> dict[str, Any]:
    """The contrast of each cached MLP (its neurons, its output bias), of the rest and of the model, in logits.

    By start year, and averaged. The rest is the model's contrast minus the cached MLPs': embeddings,
    heads, other MLPs, and the final LayerNorm's bias.
    """
    weights = contrast_weights(effects.start_years)
    total = (mean_year_logits(effects.cache, effects.start_years) * weights).sum(1)
    parts = []
    for layer in effects.layers:
        maps = effects.layer_map_array(layer), effects.bias_map_array(layer)
        neurons, bias = ((values * weights).sum(1) for values in maps)
        parts.append(_part(f"MLP {layer}", neurons, bias))
    cached = sum((part["neurons_by_start_year"] + part["bias_by_start_year"] for part in parts), np.zeros(len(total)))
    parts.append(_part("rest of the model", total - cached, np.zeros(len(total))))
    parts.append(_part("whole model", total, np.zeros(len(total))))
    return {
        "parts": [
            {key: rounded(value) if isinstance(value, np.ndarray) else value for key, value in part.items()}
            for part in parts
        ]
    }


def _part(name: str, neurons: Float[np.ndarray, " Y"], bias: Float[np.ndarray, " Y"]) -> dict[str, Any]:
    return {
        "name": name,
        "contrast": float((neurons + bias).mean()),
        "neurons": float(neurons.mean()),
        "bias": float(bias.mean()),
        "neurons_by_start_year": neurons,
        "bias_by_start_year": bias,
    }


def called_numbers(ranking: Ranking) -> dict[str, Any]:
    """How many neurons were called, and what the boosting ones add to the contrast beside all neurons, in logits."""
    return {
        "boosting": int(ranking.boosting.sum()),
        "suppressing": int(ranking.suppressing.sum()),
        "boosting_contrast": float(ranking.score[ranking.boosting].sum()),
        "contrast": float(ranking.score.sum()),
    }


def prompt_numbers(cache: Cache) -> dict[str, Any]:
    """What was asked: template, nouns with their centuries, and the cells of XX x YY that are missing."""
    pairs = sorted({(noun, int(century)) for noun, century in zip(cache.noun, cache.century, strict=True)})
    centuries = sorted({century for _, century in pairs})
    missing = [cell for cell in cache.missing if cell.century in centuries]
    return {
        "n_prompts": len(cache),
        "template": cache.template.strip(),
        "nouns": [{"noun": noun, "century": century} for noun, century in pairs],
        "centuries": [
            {
                "century": century,
                "start_years": len(set(cache.start_year[cache.century == century].tolist())),
                "missing": [cell.year for cell in missing if cell.century == century],
                "reason": next((cell.reason for cell in missing if cell.century == century), None),
            }
            for century in centuries
        ],
    }


# --- one neuron -----------------------------------------------------------------------------------


def neuron_numbers(
    effects: LogitEffects,
    ranking: Ranking,
    neurons: Sequence[NeuronId],
    *,
    tuning: Tuning | None = None,
    weights: FromWeights = NOTHING_KEPT,
    clusters: Mapping[NeuronId, str] = NO_CLUSTERS,
) -> dict[str, dict[str, Any]]:
    """For each neuron its record in the ranking and what its page shows, in the units of the figures.

    tuning: mean a/sigma with the bootstrap interval over nouns; readout: logits per unit of a/sigma; the
    effect map is their outer product. contrast: by start year, logits. by_distance: mean effect over the
    cells with the same y - YY, logits. similar: the neurons of closest tuning and readout, by cosine, and where
    they are known those of closest w_in and w_out. fit: the families of tuning and readout where `tuning` has
    fitted the neuron, else None. cluster: its cluster's id, None where it has none. The rest is as in
    `FromWeights.numbers`.
    """
    fits = {one.neuron: one for one in tuning.neurons} if tuning else {}
    curves = {layer: effects.tuning(layer) for layer in effects.layers}
    every = every_neuron(effects.layers, effects.cache.d_mlp)
    similar = {near.neuron: near for near in nearest(curve_features(effects), every, neurons)}
    bands = _tuning_bands(effects, neurons)
    numbers = {}
    for neuron in neurons:
        curve = curves[neuron.layer][:, neuron.index].astype(float)
        readout = effects.readout(neuron.layer, slice(neuron.index, neuron.index + 1))[0].astype(float)
        record = ranking.record(ranking.row_of(neuron))
        low, high = bands[neuron] if bands else (None, None)
        fit = fits.get(neuron)
        known = weights.numbers(neuron)
        said = fit.description if fit else describe(curve, readout, effects.start_years)
        numbers[str(neuron)] = {
            **record,
            "description": f"{call_of(record).capitalize()}: {said}.",
            "tuning": rounded(curve),
            "tuning_low": None if low is None else rounded(low),
            "tuning_high": None if high is None else rounded(high),
            "readout": rounded(readout),
            **_derived(curve, low, high, readout, effects.start_years),
            "fit": _fit_numbers(fit) if fit else None,
            "cluster": clusters.get(neuron),
            **known,
            "similar": known["similar"] | similar[neuron].to_json(),
        }
    return numbers


def call_of(record: Mapping[str, Any]) -> str:
    return "boosting" if record["boosting"] else "suppressing" if record["suppressing"] else "neither"


def _fit_numbers(fit: NeuronTuning) -> dict[str, Any]:
    """Family, parameters and held-out R^2 of both curves; values: the tuning family's curve, a/sigma."""
    return {
        "family": fit.tuning.family,
        "parameters": fit.tuning.parameters,
        "r2_cv": fit.tuning.r2_cv,
        "values": rounded(fit.tuning.values),
        "readout_family": fit.readout.family,
        "readout_parameters": fit.readout.parameters,
        "readout_r2_cv": fit.readout.r2_cv,
    }


def _derived(
    tuning: Float[np.ndarray, " Y"],
    low: Float[np.ndarray, " Y"] | None,
    high: Float[np.ndarray, " Y"] | None,
    readout: Float[np.ndarray, "100"],
    start_years: Sequence[int],
) -> dict[str, Any]:
    value = contrast_weights(start_years) @ readout
    ends = None if low is None or high is None else np.sort([low * value, high * value], axis=0)
    distances, mean, sd = by_distance(np.outer(tuning, readout), start_years)
    return {
        "contrast": rounded(tuning * value),
        "contrast_low": None if ends is None else rounded(ends[0]),
        "contrast_high": None if ends is None else rounded(ends[1]),
        "by_distance": {"distance": distances, "mean": rounded(mean), "sd": rounded(sd)},
    }


def by_distance(
    effect: Float[np.ndarray, "Y 100"], start_years: Sequence[int]
) -> tuple[list[int], Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """y - YY, ascending, with the mean and standard deviation of the effect over the cells of each."""
    distance = np.arange(N_YEARS)[None, :] - np.asarray(start_years)[:, None]
    found, place, count = np.unique(distance, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    mean = np.bincount(place, effect.reshape(-1)) / count
    spread = np.bincount(place, (effect.reshape(-1) - mean[place]) ** 2) / count
    return found.tolist(), mean, np.sqrt(spread)


def _tuning_bands(
    effects: LogitEffects, neurons: Sequence[NeuronId]
) -> dict[NeuronId, tuple[Float[np.ndarray, " Y"], Float[np.ndarray, " Y"]]]:
    """The 95 % bootstrap interval of each tuning curve over nouns; none with a single noun."""
    cache = effects.cache
    words, noun = np.unique(cache.noun, return_inverse=True)
    if len(words) < 2:
        return {}
    weights, counts = noun_resamples(len(words), RESAMPLES, seed=0), effects.counts(noun.reshape(-1))
    bands = {}
    for neuron in neurons:
        sums = effects.sums(neuron.layer, np.array([neuron.index]), noun.reshape(-1))
        prompts = weights @ counts
        mean = sums[:, :, 0].sum(0) / counts.sum(0)
        # A resample without any prompt of a start year says nothing about it: the mean stands in.
        samples = np.where(prompts > 0, weights @ sums[:, :, 0] / np.maximum(prompts, 1), mean)
        low, high = interval(samples)
        bands[neuron] = (low, high)
    return bands


def describe(tuning: Float[np.ndarray, " Y"], readout: Float[np.ndarray, "100"], start_years: Sequence[int]) -> str:
    """When the neuron writes, and what it raises then: said of a neuron that no family was fitted to."""
    if not np.any(tuning) or is_nothing(np.ptp(readout), np.abs(readout).max()):
        return "writes nothing on the years"
    first, last = active_range(tuning)
    years = f"{start_years[first]:02d}–{start_years[last]:02d}"
    whole = last - first + 1 > ACTIVE_SHARE * len(tuning)
    when = "at all start years" if whole else f"mostly at start years {years}"
    split, gap = best_split(sign_of_largest(tuning) * readout)
    verb = "raises" if gap > 0 else "lowers"
    return f"active {when}, where it {verb} the years after {split:02d} against those up to {split:02d}"


def active_range(tuning: Float[np.ndarray, " Y"]) -> tuple[int, int]:
    """First and last place of the shortest run that holds `ACTIVE_SHARE` of the summed |tuning|."""
    total = np.concatenate([[0.0], np.cumsum(np.abs(tuning))])
    wanted = total[:-1] + ACTIVE_SHARE * total[-1]
    ends = np.searchsorted(total, wanted * (1 - MARGIN))
    possible = np.flatnonzero(ends < len(total))
    first = int(possible[np.argmin(ends[possible] - possible)])
    return first, int(ends[first]) - 1


def best_split(effect: Float[np.ndarray, "100"]) -> tuple[int, float]:
    """The year z that best parts y > z from y <= z (least squares), and the gap between the two means."""
    gap = contrast_weights(range(N_YEARS - 1)) @ effect
    after = np.arange(N_YEARS - 1, 0, -1)
    z = int(largest(gap**2 * after * (N_YEARS - after)))
    return z, float(gap[z])
