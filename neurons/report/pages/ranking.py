"""The neurons of the index: how their scores are spread, how their maps add up, and the ranked table."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.ranking import Ranking
from neurons.report.blocks import Block, Column, FileLink, Gallery, Picture, Span, Table, Text
from neurons.report.figures import model_plots, plots
from neurons.report.numbers import call_of
from neurons.report.pages.neuron import neuron_link
from neurons.types import NeuronId

GROWTH = (1, 4, 16, 64, 256, 1024)


def neurons_section(effects: LogitEffects, ranking: Ranking, paged: frozenset[str]) -> tuple[Block, ...]:
    distribution = Picture(
        "scores",
        partial(model_plots.score_distribution, ranking.score, ranking.boosting, ranking.suppressing),
        f"Distribution of the boosting scores of {len(ranking)} neurons.",
        "Histogram of the boosting scores. A neuron is called boosting or suppressing when its interval excludes"
        " zero, its year-specific part has the same sign, and q < 0.05.",
    )
    volcano = Picture(
        "significance",
        partial(model_plots.significance, ranking.score, ranking.q_value, ranking.boosting, ranking.suppressing),
        "Boosting score of each neuron against the q value of its year-specific part, with a line at q = 0.05.",
        "q value of the year-specific part against boosting score, one dot for each neuron. The test is one-sided"
        " (boosting), so suppressing neurons lie low; the dashed line is q = 0.05.",
    )
    return (
        Gallery((distribution, volcano)),
        *_growth(effects, ranking),
        _ranked_table(ranking, paged),
        Text(("All neurons with all columns: ", FileLink("ranking.csv", "ranking.csv"), ".")),
    )


def _growth(effects: LogitEffects, ranking: Ranking) -> tuple[Gallery, ...]:
    boosting = ranking.boosting_neurons()
    if not boosting:
        return ()
    counts = [*[count for count in GROWTH if count < len(boosting)][:3], len(boosting)]
    picture = Picture(
        "growth",
        lambda: plots.part_maps(_summed_maps(effects, boosting, counts), effects.start_years),
        f"Summed effect maps of the first {', '.join(map(str, counts))} boosting neurons.",
        "Sum of the effect maps of the first boosting neurons in rank order, centred over the years, on one colour"
        " scale.",
        wide=True,
    )
    return (Gallery((picture,)),)


def _summed_maps(effects: LogitEffects, neurons: Sequence[NeuronId], counts: Sequence[int]) -> dict[str, np.ndarray]:
    curves = {layer: (effects.tuning(layer), effects.readout(layer)) for layer in effects.layers}
    maps = {}
    for count in counts:
        total = np.zeros((len(effects.start_years), 100))
        for neuron in neurons[:count]:
            tuning, readout = curves[neuron.layer]
            total += np.outer(tuning[:, neuron.index], readout[neuron.index])
        maps[f"{count} neuron{'s' * (count > 1)}"] = centred(total)
    return maps


def centred(effect: np.ndarray) -> np.ndarray:
    """Without what is common to all years: it changes no contrast."""
    return effect - effect.mean(1, keepdims=True)


def _ranked_table(ranking: Ranking, paged: frozenset[str]) -> Table:
    records = [ranking.record(row) for row in range(len(ranking))]
    rows = tuple(
        (
            record["rank"],
            neuron_link(record["neuron"], paged),
            record["layer"],
            call_of(record),
            record["score"],
            Span(record["ci_low"], record["ci_high"]),
            record["static"],
            record["year_specific"],
            record["p_value"],
            record["q_value"],
        )
        for record in records
    )
    columns = (
        Column("rank", "count"),
        Column("neuron"),
        Column("layer", "count"),
        Column("call"),
        Column("score", "number", "mean contrast over start years, logits"),
        Column("95 % interval", "number", "jackknife over centuries"),
        Column("static", "number", "mean activation times mean contrast"),
        Column("year-specific", "number", "covariance over start years of activation and contrast"),
        Column("p", "scientific", "one-sided; null: the neuron, tuned as it is, writes in a random direction"),
        Column("q", "scientific", "Benjamini-Hochberg"),
    )
    caption = f"All {len(ranking):,} neurons of the cached layers in rank order, scores in logits"
    return Table(caption, columns, rows, interactive=True, filters=("layer", "call"))
