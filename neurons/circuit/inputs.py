"""What makes a neuron's pre-activation what it is: every head, MLP, bias and embedding, by start year. Exact.

A neuron reads the residual at END through its layer's LayerNorm. With that LayerNorm's scale as it was in the run,
reading is linear, so each component's write, centred, times the gain, over the scale, times the neuron's input
weights is its part; with the LayerNorm's bias and the neuron's own the parts sum to the pre-activation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.circuit.paths import Patching
from neurons.circuit.results import PreActivation
from neurons.model.forward import normalise
from neurons.model.rerun import head_write, mlp_output
from neurons.types import InputError, NeuronId

BIAS = "bias"
"""The attention's output biases, the LayerNorm's bias and the neuron's own: the same for every prompt but for the
scale."""


@torch.inference_mode()
def parts_of_neurons(on: Patching, layer: int, indices: Sequence[int]) -> Float[Tensor, "C P n"]:
    """Each component's part of the pre-activations of some of a layer's neurons, for every prompt of `on.base`."""
    model, block = on.model, on.model.blocks[layer]
    chosen = torch.tensor(list(indices)).to(model.device)
    reading = block.W_in[:, chosen] * block.ln_2.gain[:, None]
    reading = reading - reading.mean(0)
    mid = on.base.mid[layer][:, -1]
    scale = (mid.var(-1, unbiased=False) + model.config.layer_norm_eps).sqrt()
    parts = [(write @ reading) / scale[:, None] for write in _writes(on, layer)]
    constant = sum((model.blocks[below].b_O for below in range(layer + 1)), start=torch.zeros_like(mid[0]))
    own = block.ln_2.bias @ block.W_in[:, chosen] + block.b_in[chosen]
    return torch.stack([*parts, (constant @ reading) / scale[:, None] + own])


@torch.inference_mode()
def pre_activation(on: Patching, layer: int, indices: Sequence[int]) -> Float[Tensor, "P n"]:
    """What the neurons' parts must sum to, by the layer's own arithmetic."""
    block = on.model.blocks[layer]
    normed = normalise(on.base.mid[layer][:, -1], block.ln_2, on.model.config.layer_norm_eps)
    chosen = torch.tensor(list(indices)).to(on.model.device)
    return normed @ block.W_in[:, chosen] + block.b_in[chosen]


def explain_neurons(on: Patching, neurons: Sequence[str | NeuronId]) -> tuple[PreActivation, ...]:
    """The parts of each neuron's pre-activation at END by start year.

    Raises `InputError` for a neuron that the model has not.
    """
    found = [_checked(on, neuron) for neuron in neurons]
    start_years, member = np.unique(on.start_year, return_inverse=True)
    averaging = np.eye(len(start_years))[member].T
    averaging /= averaging.sum(1, keepdims=True)
    return tuple(
        PreActivation(
            neuron,
            tuple(start_years.tolist()),
            component_names(on, neuron.layer),
            parts_of_neurons(on, neuron.layer, [neuron.index])[..., 0].numpy(force=True).astype(float) @ averaging.T,
        )
        for neuron in found
    )


def component_names(on: Patching, layer: int) -> tuple[str, ...]:
    """What writes to the residual that a layer's MLP reads, then the biases."""
    names = ["embed"]
    for below in range(layer + 1):
        names += [f"a{below}.h{head}" for head in range(on.layout.n_heads)]
        names += [f"m{below}"] if below < layer else []
    return (*names, BIAS)


def _writes(on: Patching, layer: int) -> list[Float[Tensor, "P d"]]:
    """The writes at END, in the order of `component_names`."""
    writes = [on.base.pre[0][:, -1]]
    for below in range(layer + 1):
        z = on.base.z[below][:, -1]
        writes += [head_write(on.model, below, head, z[:, head]) for head in range(on.layout.n_heads)]
        writes += [mlp_output(on.base, below, -1)] if below < layer else []
    return writes


def _checked(on: Patching, neuron: str | NeuronId) -> NeuronId:
    found, config = NeuronId.parse(neuron), on.model.config
    config.check_layers((found.layer,))
    if found.index >= config.d_mlp:
        raise InputError(f"{found} does not exist: layer {found.layer} has neurons 0-{config.d_mlp - 1}")
    return found
