"""What pages show of the model's weights: kept beside the cache, else found with one load of the model and kept."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result
from neurons.cli.request import Request
from neurons.cli.statistics import kept_statistics, kept_text, load_on_cpu, run_statistics, run_text
from neurons.types import NeuronId
from neurons.weights.neighbours import Neighbours

if TYPE_CHECKING:
    from neurons.report.weight_numbers import FromWeights

NEIGHBOURS = "neighbours"


def find_weights(cache: Cache, asked: Request, neurons: Sequence[NeuronId]) -> "FromWeights":
    """Statistics, text and neighbours of these neurons; the model is loaded where one of them was not kept."""
    from neurons.report.weight_numbers import FromWeights

    statistics, text = kept_statistics(cache), kept_text(cache, neurons)
    near = kept_neighbours(cache, neurons)
    if statistics is not None and text is not None and near is not None:
        return FromWeights(statistics, text, near)
    _measure(cache, asked, neurons)
    return kept_weights(cache)


def kept_weights(cache: Cache) -> "FromWeights":
    """Whatever was kept of the weights, of whichever neurons; no model is loaded."""
    from neurons.report.weight_numbers import FromWeights

    return FromWeights(kept_statistics(cache), kept_text(cache, ()), kept_neighbours(cache, ()) or ())


def kept_neighbours(cache: Cache, neurons: Sequence[NeuronId]) -> tuple[Neighbours, ...] | None:
    """The neighbours by w_in and w_out, or None where those of one of the neurons were not kept."""
    near = kept_result(cache, NEIGHBOURS, {}, tuple[Neighbours, ...])
    return near if near is not None and set(neurons) <= {one.neuron for one in near} else None


def _measure(cache: Cache, asked: Request, neurons: Sequence[NeuronId]) -> None:
    """Whatever was not kept, with one load of the model."""
    from neurons.weights.neighbours import every_neuron, nearest, weight_features

    model = load_on_cpu(asked)
    if kept_statistics(cache) is None:
        run_statistics(cache, model)
    if kept_text(cache, neurons) is None:
        run_text(cache, model, neurons)
    if kept_neighbours(cache, neurons) is None:
        features = weight_features(model, cache.layers)
        keep_result(cache, NEIGHBOURS, {}, nearest(features, every_neuron(cache.layers, cache.d_mlp), neurons))
