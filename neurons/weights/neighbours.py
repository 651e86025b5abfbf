"""Nearest neurons by cosine similarity of input weights, output weights, tuning curve and readout.

1. `weight_features` gives each neuron's input and output weights as they act; `curve_features` its tuning curve
   and its readout over the years, each less its mean.
2. `nearest` finds, for some neurons, the others with the largest cosine in each of these.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from neurons.decomposition.effects import LogitEffects
from neurons.rounding import centred_rows, descending
from neurons.types import NeuronId
from neurons.weights.results import Neighbours

if TYPE_CHECKING:
    from neurons.model.model import Model

COUNT = 5
"""Neighbours kept of each neuron."""

Features = Mapping[str, Float[np.ndarray, "M _"]]


def nearest(
    features: Features, names: Sequence[NeuronId], neurons: Sequence[NeuronId], *, count: int = COUNT
) -> tuple[Neighbours, ...]:
    """Find for each of `neurons` the `count` others with the largest cosine. features: a row for each of `names`.

    A row of zeros has cosine 0 with every other.
    """
    place = {name: row for row, name in enumerate(names)}
    unit = {kind: _unit(rows) for kind, rows in features.items()}
    found: list[Neighbours] = []
    for neuron in neurons:
        closest, cosines = {}, {}
        for kind, rows in unit.items():
            cosine = rows @ rows[place[neuron]]
            cosine[place[neuron]] = -np.inf
            order = descending(cosine)[: min(count, len(cosine) - 1)]
            closest[kind] = tuple(names[row] for row in order.tolist())
            cosines[kind] = cosine[order].astype(float)
        found.append(Neighbours(neuron, closest, cosines))
    return tuple(found)


def weight_features(model: "Model", layers: Sequence[int]) -> Features:
    """Return `w_in` with its LayerNorm's gain, and `w_out`, for every neuron of the layers in order.

    Both are centred over the residual dimensions, whose mean a LayerNorm removes.
    """
    blocks = [model.blocks[layer] for layer in layers]
    w_in = np.concatenate([(b.W_in * b.ln_2.gain[:, None]).T.detach().cpu().numpy() for b in blocks])
    w_out = np.concatenate([b.W_out.detach().cpu().numpy() for b in blocks])
    return {"w_in": centred_rows(w_in), "w_out": centred_rows(w_out)}


def curve_features(effects: LogitEffects) -> Features:
    """Return the centred tuning curve and readout of every neuron of the cached layers."""
    tuning = np.concatenate([effects.tuning(layer).T for layer in effects.layers])
    readout = np.concatenate([effects.readout(layer) for layer in effects.layers])
    return {"tuning": centred_rows(tuning), "readout": centred_rows(readout)}


def every_neuron(layers: Sequence[int], d_mlp: int) -> tuple[NeuronId, ...]:
    """Return the neurons in the order of the rows of `weight_features` and `curve_features`."""
    return tuple(NeuronId(layer, index) for layer in layers for index in range(d_mlp))


def _unit(rows: Float[np.ndarray, "M X"]) -> Float[np.ndarray, "M X"]:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norm, where=norm > 0, out=np.zeros_like(rows))
