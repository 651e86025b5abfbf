"""Neurons by their weights and on text, for the commands: as kept beside the cache, or made with the model and kept."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result
from neurons.cli.common import progress_bar
from neurons.cli.request import Request
from neurons.types import NeuronId
from neurons.weights.results import NeuronStatistics, TextStudy

if TYPE_CHECKING:
    from neurons.model.checkpoint import Model

STATISTICS, TEXT = "statistics", "text"


def find_statistics(cache: Cache, asked: Request) -> NeuronStatistics:
    """The statistics kept beside the cache, else computed."""
    kept = kept_statistics(cache)
    return kept if kept is not None else run_statistics(cache, load_on_cpu(asked))


def load_on_cpu(asked: Request) -> "Model":
    """The model where statistics are taken, whatever --device says: their moments are float64, which MPS has not."""
    from neurons.model.checkpoint import load_model

    with progress_bar("loading the model"):
        return load_model(asked.checkpoint)


def kept_statistics(cache: Cache) -> NeuronStatistics | None:
    """The statistics of every neuron of the cached layers, or None. They depend on nothing else that is asked."""
    return kept_result(cache, STATISTICS, {}, NeuronStatistics)


def run_statistics(cache: Cache, model: "Model") -> NeuronStatistics:
    """Every neuron of the cached layers, from the model's weights; kept for later reports."""
    from neurons.weights.statistics import neuron_statistics

    with progress_bar("reading the vocabulary") as progress:
        found = neuron_statistics(model, cache.layers, progress=progress)
    keep_result(cache, STATISTICS, {}, found)
    return found


def kept_text(cache: Cache, neurons: Sequence[NeuronId]) -> TextStudy | None:
    """What these neurons do on text, or None where one of them was not looked at."""
    study = kept_result(cache, TEXT, {}, TextStudy)
    if study is None or not set(neurons) <= {text.neuron for text in study.neurons}:
        return None
    return study


def run_text(cache: Cache, model: "Model", neurons: Sequence[NeuronId]) -> TextStudy:
    """What these neurons do on text, with the model; kept for later reports, in the place of the last one."""
    from neurons.weights.text import study_text

    with progress_bar("reading prompts") as progress:
        study = study_text(model, cache, neurons, progress=progress)
    keep_result(cache, TEXT, {}, study)
    return study
