"""The text study of a report's neurons: vocabulary, strongest and weakest prompts, control prompts."""

from collections.abc import Sequence

from neurons.cache.format import Cache
from neurons.model.model import Model
from neurons.task.controls import controls
from neurons.types import NeuronId, Progress
from neurons.weights.contexts import control_curves, extreme_prompts
from neurons.weights.results import NeuronText, TextStudy
from neurons.weights.vocabulary import check_neurons, vocabulary_readouts

CONTROL_NOUNS = 2
"""Number of the cache's nouns used for control prompts, in the century of the first."""


def study_text(
    model: Model, cache: Cache, neurons: Sequence[str | NeuronId], *, progress: Progress | None = None
) -> TextStudy:
    """Study some neurons on the vocabulary and on text. `progress` counts neurons.

    Raises `InputError` for a neuron outside the cache, `CacheError` for a cache of another model.
    """
    found = check_neurons(model, neurons)
    words = tuple(dict.fromkeys(cache.noun))[:CONTROL_NOUNS]
    made = controls(model.tokenizer, nouns=words, century=int(cache.century[0]))
    vocabulary = vocabulary_readouts(model, found)
    curves = control_curves(model, made.kinds, found)
    studied: list[NeuronText] = []
    for neuron, readout, of_kinds in zip(found, vocabulary, curves, strict=True):
        strongest, weakest = extreme_prompts(model, cache, neuron)
        studied.append(NeuronText(neuron, readout, strongest, weakest, of_kinds))
        if progress:
            progress(len(studied), len(found))
    return TextStudy(cache.model, tuple(studied), made.left_out)
