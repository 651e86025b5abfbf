"""The text study of a report's neurons: vocabulary, strongest and weakest prompts, control prompts."""

from collections.abc import Sequence

import numpy as np

from neurons.cache.format import Cache
from neurons.model.model import Model
from neurons.task.controls import Controls, controls
from neurons.task.prompts import choose_nouns, replicates
from neurons.types import InputError, NeuronId, Progress
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
    made = _controls(model, cache)
    vocabulary = vocabulary_readouts(model, found)
    curves = control_curves(model, made.kinds, found)
    studied: list[NeuronText] = []
    for neuron, readout, of_kinds in zip(found, vocabulary, curves, strict=True):
        strongest, weakest = extreme_prompts(model, cache, neuron)
        studied.append(NeuronText(neuron, readout, strongest, weakest, of_kinds))
        if progress:
            progress(len(studied), len(found))
    return TextStudy(cache.model, tuple(studied), made.left_out)


def _controls(model: Model, cache: Cache) -> Controls:
    """Control prompts of the cache's nouns and first century; of nouns of ours, where prompts of one's own have none
    that a control can hold.
    """
    words, century = tuple(dict.fromkeys(cache.noun))[:CONTROL_NOUNS], int(cache.century[0])
    try:
        return controls(model.tokenizer, nouns=words, century=century)
    except InputError:
        century = replicates(model.tokenizer)[-1]
        words = choose_nouns(model.tokenizer, CONTROL_NOUNS, np.random.default_rng(0))
        return controls(model.tokenizer, nouns=words, century=century)
