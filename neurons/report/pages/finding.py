"""The finding, first on the index: one paragraph that answers the question for this model, from results alone."""

from collections.abc import Iterator, Mapping
from typing import Any

from neurons.cache.format import format_layers
from neurons.ranking.results import Answer, Ranking
from neurons.regression.faithfulness_results import Faithfulness
from neurons.regression.tiling_results import Tiling
from neurons.report.blocks import number
from neurons.types import Measure

MAIN: Measure = "probability_difference"
SHARP: Measure = "cutoff_sharpness"
DESCRIPTION = "fitted family of each neuron"
"""The description whose recovered part the finding names: it is what a neuron's page calls the neuron."""


def in_words(
    ranking: Ranking, numbers: Mapping[str, Any], tiling: Tiling | None, faithfulness: Faithfulness | None
) -> str:
    """How many neurons carry how much, where they are tuned, how that matches what they write, what a description
    recovers; without attribution, what the boosting neurons add directly.
    """
    if ranking.answer is None:
        return _direct(ranking, numbers)
    return " ".join(_sentences(ranking, ranking.answer, numbers["called"], tiling, faithfulness))


def _sentences(
    ranking: Ranking,
    answer: Answer,
    called: Mapping[str, Any],
    tiling: Tiling | None,
    faithfulness: Faithfulness | None,
) -> Iterator[str]:
    k, all_neurons = answer.k[MAIN]["90"], f"{len(ranking):,} MLP neurons of layers {format_layers(ranking.layers)}"
    ends = {measure: f"{_three(answer.clean[measure])}, {_three(answer.floor[measure])}" for measure in (MAIN, SHARP)}
    at_random = "with all of them at a random other start year"
    if k is None:
        yield (
            f"No set of the {all_neurons} writes the answer: the probability difference is {ends[MAIN]} {at_random}."
        )
        return
    sharp = answer.k[SHARP]["90"]
    yield (
        f"{k:,} of the {all_neurons} are enough for 90 % of what these add to the probability difference"
        f" ({ends[MAIN]} {at_random}), {'none are' if sharp is None else f'{sharp:,}'} for 90 % of what they add to the"
        f" cutoff sharpness ({ends[SHARP]}), measured on centuries held out; {called['boosting']:,} boost"
        f" the later years, {called['suppressing']:,} suppress them."
    )
    if tiling is not None and tiling.law.correlation is not None and tiling.law.offset is not None:
        yield _law(tiling)
    if faithfulness is not None:
        described = faithfulness.of(DESCRIPTION)
        difference, sharpness = described.probability_difference.value, described.cutoff_sharpness.value
        yield (
            f"With every neuron held at its fitted tuning curve the model keeps {_percent(difference)} of the"
            f" difference and {_percent(sharpness)} of the sharpness."
        )


def _law(tiling: Tiling) -> str:
    centres, law = [one.centre for one in tiling.neurons], tiling.law
    side = "before" if (law.offset or 0) < 0 else "after"
    return (
        f"They are tuned to start years {centres[0]:02.0f} to {centres[-1]:02.0f}, and in the median they raise the"
        f" years from about {abs(law.offset or 0):.0f} years {side} their own on (rank correlation of centre and edge"
        f" {_two(law.correlation or 0)}, 95 % interval {_two(law.ci_low or 0)} to {_two(law.ci_high or 0)})."
    )


def _direct(ranking: Ranking, numbers: Mapping[str, Any]) -> str:
    difference, called = numbers["behaviour"]["model"][MAIN]["mean"], numbers["called"]
    side = "more probability on the later years than on the others" if difference >= 0 else "less on the later years"
    return (
        "Which MLP neurons raise the years after the start year? The model puts"
        f" {number(abs(difference))} {side}. Of {len(ranking):,} neurons in layers {format_layers(ranking.layers)},"
        f" {called['boosting']:,} boost and {called['suppressing']:,} suppress the later years: the boosting ones add"
        f" {number(called['boosting_contrast'])} of the {number(called['contrast'])} logits of direct contrast that all"
        " of these neurons add."
    )


def _two(value: float) -> str:
    return number(value, decimals=2)


def _three(value: float) -> str:
    return number(value, decimals=3)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"
