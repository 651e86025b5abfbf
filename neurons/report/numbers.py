"""Every number of the report, as plain dicts and lists: what the pages show and `report.json` holds.

The pages are made from these and from nothing else, so the two cannot differ. Everything comes from the
cache file. Arrays are rounded to `DIGITS` significant digits; scores and shares are not.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from neurons.cache.format import Cache
from neurons.clustering.descriptions import describe_unfitted
from neurons.clustering.results import NeuronTuning, Tuning
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.measured import mean_probability, measured_behaviour, measured_rows
from neurons.decomposition.profiles import PartContrast, by_distance, contrast_by_part
from neurons.ranking.results import Ranking
from neurons.regression.faithfulness_results import FaithfulnessOfEach
from neurons.regression.tiling_results import Tiling
from neurons.report.weight_numbers import DIGITS, FromWeights
from neurons.routes.results import Routes
from neurons.task.years import contrast_weights
from neurons.types import NeuronId
from neurons.weights.neighbours import curve_features, every_neuron, nearest
from neurons.weights.results import Neighbours
from neurons.weights.specificity_results import Specificity

NOTHING_KEPT = FromWeights()
NO_CLUSTERS: Mapping[NeuronId, str] = MappingProxyType({})


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
    """The contrast of each cached MLP, of the rest and of the model, in logits: by start year, and averaged."""
    return {"parts": [_part(part) for part in contrast_by_part(effects)]}


def _part(part: PartContrast) -> dict[str, Any]:
    return {
        "name": part.name,
        "contrast": part.mean,
        "neurons": float(part.neurons.mean()),
        "bias": float(part.bias.mean()),
        "neurons_by_start_year": rounded(part.neurons),
        "bias_by_start_year": rounded(part.bias),
    }


def called_numbers(ranking: Ranking) -> dict[str, Any]:
    """Numbers of boosting and suppressing neurons; contrast of the boosting ones and of all neurons, in logits."""
    return {
        "boosting": int(ranking.boosting.sum()),
        "suppressing": int(ranking.suppressing.sum()),
        "boosting_contrast": float(ranking.score[ranking.boosting].sum()),
        "contrast": float(ranking.score.sum()),
        "boosting_share": None if ranking.answer is None else float(ranking.share[ranking.boosting].sum()),
    }


def prompt_numbers(cache: Cache) -> dict[str, Any]:
    """Template, nouns with their centuries, and the missing cells of XX x YY."""
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

    tuning: mean a/sigma with its interval over centuries; readout: logits per unit of a/sigma; the effect map is
    their outer product. contrast: by start year, logits. by_distance: mean effect over the cells with the same y - YY,
    logits. similar: the neurons of closest tuning and readout, by cosine, and where they are known those of closest
    w_in and w_out. fit: the families of tuning and readout, None where `tuning` has not fitted the neuron. cluster: its
    cluster's id or None. The rest is as in `FromWeights.numbers`.
    """
    fits = {one.neuron: one for one in tuning.neurons} if tuning else {}
    curves = {layer: effects.tuning(layer) for layer in effects.layers}
    similar = _similar_curves(effects, neurons)
    numbers = {}
    for neuron in neurons:
        curve = curves[neuron.layer][:, neuron.index].astype(float)
        readout = effects.readout(neuron.layer, slice(neuron.index, neuron.index + 1))[0].astype(float)
        record = ranking.record(ranking.row_of(neuron))
        band = effects.tuning_interval(neuron)
        low, high = (band.low, band.high) if band.centuries > 1 else (None, None)
        fit, known = fits.get(neuron), weights.numbers(neuron)
        text = fit.description if fit else describe_unfitted(curve, readout, effects.start_years)
        numbers[str(neuron)] = {
            **record,
            "description": f"{call_of(record).capitalize()}: {text}.",
            **_curves(curve, low, high, readout, effects.start_years),
            "fit": _fit_numbers(fit) if fit else None,
            "cluster": clusters.get(neuron),
            **known,
            "similar": known["similar"] | similar[neuron].to_json(),
        }
    return numbers


def with_followed(
    numbers: Mapping[str, dict[str, Any]],
    routes: Routes | None,
    specificity: Specificity | None,
    tiling: Tiling | None,
    of_each: FaithfulnessOfEach | None,
) -> dict[str, dict[str, Any]]:
    """Each neuron's numbers with the `routes` of its share and total effect, its `specificity` on a text, its `place`
    in the tiling and what its `own_description` keeps; None where they are not known.
    """
    return {
        name: {
            **one,
            "routes": None if routes is None else routes.of_neuron(NeuronId.parse(name)),
            "specificity": None if specificity is None else specificity.of_neuron(NeuronId.parse(name)),
            "place": None if tiling is None else tiling.place_of(NeuronId.parse(name)),
            "own_description": _own_description(of_each, NeuronId.parse(name)),
        }
        for name, one in numbers.items()
    }


def _own_description(of_each: FaithfulnessOfEach | None, neuron: NeuronId) -> dict[str, Any] | None:
    found = None if of_each is None else of_each.of(neuron)
    return None if found is None else found.record()


def _similar_curves(effects: LogitEffects, neurons: Sequence[NeuronId]) -> dict[NeuronId, Neighbours]:
    every = every_neuron(effects.layers, effects.cache.d_mlp)
    return {near.neuron: near for near in nearest(curve_features(effects), every, neurons)}


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


def _curves(
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
        "tuning": rounded(tuning),
        "tuning_low": None if low is None else rounded(low),
        "tuning_high": None if high is None else rounded(high),
        "readout": rounded(readout),
        "contrast": rounded(tuning * value),
        "contrast_low": None if ends is None else rounded(ends[0]),
        "contrast_high": None if ends is None else rounded(ends[1]),
        "by_distance": {"distance": distances, "mean": rounded(mean), "sd": rounded(sd)},
    }
