"""Exact decomposition of a neuron's pre-activation into heads, MLPs, biases and the embedding, by start year.

A neuron reads the residual at END through its layer's LayerNorm. With the scale of that LayerNorm frozen at its
value in the run, reading is linear, so each component's output, centred, times the gain, over the scale, times the
neuron's input weights is its part; with the LayerNorm's bias and the neuron's own the parts sum to the
pre-activation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.circuit.paths import Patching
from neurons.circuit.results import PreActivation
from neurons.model.model import final_scale, normalise
from neurons.model.rerun import head_write, mlp_output
from neurons.types import InputError, NeuronId

BIAS = "bias"
"""The attention's output biases, the LayerNorm's bias and the neuron's own: the same for every prompt but for the
scale."""


@torch.inference_mode()
def parts_of_neurons(paths: Patching, layer: int, indices: Sequence[int]) -> Float[Tensor, "C P n"]:
    """Return each component's part of some neurons' pre-activations, for every prompt of `on.base`."""
    model, block = paths.model, paths.model.blocks[layer]
    chosen = torch.tensor(list(indices)).to(model.device)
    reading = block.W_in[:, chosen] * block.ln_2.gain[:, None]
    reading = reading - reading.mean(0)
    mid = paths.base.mid[layer][:, -1]
    scale = final_scale(model, mid)
    parts = [(write @ reading) / scale[:, None] for write in _writes(paths, layer)]
    constant = sum((model.blocks[below].b_O for below in range(layer + 1)), start=torch.zeros_like(mid[0]))
    own = block.ln_2.bias @ block.W_in[:, chosen] + block.b_in[chosen]
    return torch.stack([*parts, (constant @ reading) / scale[:, None] + own])


@torch.inference_mode()
def pre_activation(paths: Patching, layer: int, indices: Sequence[int]) -> Float[Tensor, "P n"]:
    """Return the pre-activations by the layer's own arithmetic: what the parts must sum to."""
    block = paths.model.blocks[layer]
    normed = normalise(paths.base.mid[layer][:, -1], block.ln_2, paths.model.config.layer_norm_eps)
    chosen = torch.tensor(list(indices)).to(paths.model.device)
    return normed @ block.W_in[:, chosen] + block.b_in[chosen]


def explain_neurons(paths: Patching, neurons: Sequence[str | NeuronId]) -> tuple[PreActivation, ...]:
    """Decompose each neuron's pre-activation at END by start year.

    Raises `InputError` for a neuron outside the model.
    """
    found = [_checked(paths, neuron) for neuron in neurons]
    start_years, member = np.unique(paths.start_year, return_inverse=True)
    averaging = np.eye(len(start_years))[member].T
    averaging /= averaging.sum(1, keepdims=True)
    return tuple(
        PreActivation(
            neuron,
            tuple(start_years.tolist()),
            component_names(paths, neuron.layer),
            parts_of_neurons(paths, neuron.layer, [neuron.index])[..., 0].numpy(force=True).astype(float) @ averaging.T,
        )
        for neuron in found
    )


def component_names(paths: Patching, layer: int) -> tuple[str, ...]:
    """Name the components that write to the residual that a layer's MLP reads, then the biases."""
    names = ["embed"]
    for below in range(layer + 1):
        names += [f"a{below}.h{head}" for head in range(paths.layout.n_heads)]
        names += [f"m{below}"] if below < layer else []
    return (*names, BIAS)


def _writes(paths: Patching, layer: int) -> list[Float[Tensor, "P d"]]:
    """The writes at END, in the order of `component_names`."""
    writes = [paths.base.pre[0][:, -1]]
    for below in range(layer + 1):
        z = paths.base.z[below][:, -1]
        writes += [head_write(paths.model, below, head, z[:, head]) for head in range(paths.layout.n_heads)]
        writes += [mlp_output(paths.base, below, -1)] if below < layer else []
    return writes


def _checked(paths: Patching, neuron: str | NeuronId) -> NeuronId:
    found, config = NeuronId.parse(neuron), paths.model.config
    config.check_layers((found.layer,))
    if found.index >= config.d_mlp:
        raise InputError(f"{found} does not exist: layer {found.layer} has neurons 0-{config.d_mlp - 1}")
    return found
