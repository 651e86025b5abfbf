"""Activations of neurons on given text: at every position, and at END on control prompts.

1. Prompts run once with every position kept (`rerun.trace_from`); the wanted neurons are read from each layer.
2. The strongest and weakest prompts of a neuron are known from the cache, by a/sigma at END; only those are run.
3. Control prompts run like the prompts of a cache, their common prefix once, and are read at END.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from neurons.cache.format import Cache
from neurons.model.forward import run_in_blocks
from neurons.model.model import Model, post_activation
from neurons.model.rerun import PROMPTS, trace_from
from neurons.rounding import ascending, descending
from neurons.task.controls import Control
from neurons.task.prompt_set import PAD
from neurons.task.prompts import year_tokens
from neurons.types import CacheError, InputError, NeuronId
from neurons.weights.results import ControlCurve, PromptActivation
from neurons.weights.vocabulary import check_neurons

SHOWN = 4
"""Prompts shown at each end."""


@torch.inference_mode()
def activations_on(
    model: Model, tokens: Int[np.ndarray, "P T"], neurons: Sequence[str | NeuronId]
) -> Float[np.ndarray, "n P T"]:
    """Return each neuron's activation, after the nonlinearity, at every position of the prompts.

    Raises `InputError` for a neuron outside the model, or tokens that do not fit the model.
    """
    found = check_neurons(model, neurons)
    _check_tokens(model, tokens)
    values = np.empty((len(found), *tokens.shape), dtype=model.W_E.cpu().numpy().dtype)
    layers = {neuron.layer for neuron in found}
    for start in range(0, len(tokens), PROMPTS):
        part = slice(start, start + PROMPTS)
        kept = trace_from(model, tokens[part], first=0)
        for layer in layers:
            rows = [row for row, neuron in enumerate(found) if neuron.layer == layer]
            post = post_activation(model, layer, kept.mid[layer])
            values[rows, part] = post[..., [found[row].index for row in rows]].permute(2, 0, 1).cpu().numpy()
    return values


def extreme_prompts(
    model: Model, cache: Cache, neuron: str | NeuronId, *, shown: int = SHOWN
) -> tuple[tuple[PromptActivation, ...], tuple[PromptActivation, ...]]:
    """Find the prompts of the cache with the largest and the smallest a/sigma at END, with every token's activation.

    Raises `InputError` for a neuron outside the cache, `CacheError` for a cache of another model.
    """
    found = cache.check_neuron(neuron)
    if model.fingerprint != cache.model_sha256:
        raise CacheError(
            f"cache {cache.path} was made with other weights than {model.name}'s: give the model it was made with"
        )
    strength = cache.post(found.layer, slice(found.index, found.index + 1))[:, 0] / cache.scale
    rows = [*descending(strength)[:shown].tolist(), *ascending(strength)[:shown].tolist()]
    tokens = cache.read("prompts/tokens")[rows]
    (activation,) = activations_on(model, tokens, [found])
    prompts = [
        PromptActivation(
            row=row,
            start_year=int(cache.start_year[row]),
            strength=float(strength[row]),
            texts=tuple(model.tokenizer.decode(int(token)) for token in ids[ids != PAD]),
            activation=values[ids != PAD],
        )
        for row, ids, values in zip(rows, tokens, activation, strict=True)
    ]
    half = len(rows) // 2
    return tuple(prompts[:half]), tuple(prompts[half:])


def control_curves(
    model: Model, kinds: Sequence[Control], neurons: Sequence[str | NeuronId]
) -> tuple[tuple[ControlCurve, ...], ...]:
    """Return each neuron's a/sigma at END on each type of control prompt: mean, minimum and maximum over the nouns."""
    found = check_neurons(model, neurons)
    curves = [_curves_of_kind(model, kind, found) for kind in kinds]
    return tuple(tuple(of_kind[row] for of_kind in curves) for row in range(len(found)))


def strength_at_end(model: Model, kind: Control, neurons: Sequence[NeuronId]) -> Float[np.ndarray, "n P"]:
    """a/sigma at END of each prompt."""
    layers = sorted({neuron.layer for neuron in neurons})
    ids = year_tokens(model.tokenizer)
    values = np.empty((len(neurons), len(kind.tokens)))
    for part, end in run_in_blocks(model, kind.tokens, shared=kind.shared, layers=layers, year_token_ids=ids):
        scale = end.scale.double().cpu().numpy()
        for row, neuron in enumerate(neurons):
            values[row, part] = end.post[neuron.layer][:, neuron.index].double().cpu().numpy() / scale
    return values


def _curves_of_kind(model: Model, kind: Control, neurons: Sequence[NeuronId]) -> list[ControlCurve]:
    values = strength_at_end(model, kind, neurons)
    groups = [values[:, kind.label == label] for label in range(len(kind.labels))]
    mean, low, high = (np.stack([how(group, 1) for group in groups], 1) for how in (np.mean, np.min, np.max))
    return [
        ControlCurve(kind.name, kind.about, kind.example, kind.labels, mean[row], low[row], high[row])
        for row in range(len(neurons))
    ]


def _check_tokens(model: Model, tokens: Int[np.ndarray, "P T"]) -> None:
    config = model.config
    if tokens.size == 0 or tokens.shape[1] > config.n_ctx:
        raise InputError(f"{len(tokens)} prompts of {tokens.shape[1]} tokens: give some, of 1-{config.n_ctx} tokens")
    config.check_tokens(tokens, shared=0)
