"""The numbers of a neuron's page that come from the model's weights: vocabulary, prompts, controls, neighbours.

They are computed once with the model and kept beside the cache (`neurons.cache.results`), so that pages are written
without it. A neuron for which they were not computed has None for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurons.types import NeuronId
from neurons.weights.results import (
    ControlCurve,
    Neighbours,
    NeuronStatistics,
    NeuronText,
    PromptActivation,
    TextStudy,
    Tokens,
)

DIGITS = 6


@dataclass(frozen=True, eq=False)
class FromWeights:
    """Results from the weights of some neurons; each part where it was kept."""

    statistics: NeuronStatistics | None = None
    text: TextStudy | None = None
    neighbours: Sequence[Neighbours] = ()

    def numbers(self, neuron: NeuronId) -> dict[str, Any]:
        """weights: moments and classes. vocabulary, prompts, controls: on text. similar: by w_in and w_out."""
        text = next((one for one in self.text.neurons if one.neuron == neuron), None) if self.text else None
        near = next((one for one in self.neighbours if one.neuron == neuron), None)
        return {
            "weights": {**self.statistics.record(neuron), "n_tokens": self.statistics.n_tokens}
            if self.statistics
            else None,
            "vocabulary": _vocabulary(text) if text else None,
            "prompts": _prompts(text) if text else None,
            "controls": [_control(curve) for curve in text.controls] if text else None,
            "controls_left_out": dict(self.text.left_out) if self.text and text else {},
            "similar": near.to_json() if near else {},
        }


def _vocabulary(text: NeuronText) -> dict[str, Any]:
    """promoted, suppressed: tokens with their logit for each unit of a/sigma, and the cosine. counts: tokens in each
    bin of the cosine between consecutive `edges`; year_counts: the 100 years among them."""
    readout = text.vocabulary
    return {
        "promoted": _tokens(readout.promoted),
        "suppressed": _tokens(readout.suppressed),
        "edges": _floats(readout.edges),
        "counts": readout.counts.tolist(),
        "year_counts": readout.year_counts.tolist(),
    }


def _tokens(tokens: Tokens) -> list[dict[str, Any]]:
    columns = (tokens.ids.tolist(), tokens.texts, _floats(tokens.logit), _floats(tokens.cosine))
    return [
        {"id": number, "token": text, "logit": logit, "cosine": cosine}
        for number, text, logit, cosine in zip(*columns, strict=True)
    ]


def _prompts(text: NeuronText) -> dict[str, Any]:
    return {
        "strongest": [_prompt(prompt) for prompt in text.strongest],
        "weakest": [_prompt(prompt) for prompt in text.weakest],
    }


def _prompt(prompt: PromptActivation) -> dict[str, Any]:
    """strength: a/sigma at END; activation: of each token, before the division by sigma."""
    return {
        "row": prompt.row,
        "start_year": prompt.start_year,
        "strength": float(f"{prompt.strength:.{DIGITS}g}"),
        "tokens": list(prompt.texts),
        "activation": _floats(prompt.activation),
    }


def _control(curve: ControlCurve) -> dict[str, Any]:
    """a/sigma at END by label, over the nouns; summary over all prompts."""
    return {
        "kind": curve.kind,
        "about": curve.about,
        "example": curve.example,
        "labels": list(curve.labels),
        **{name: _floats(getattr(curve, name)) for name in ("mean", "low", "high")},
        "summary": curve.summary(),
    }


def _floats(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
