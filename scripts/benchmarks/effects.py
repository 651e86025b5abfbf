"""The contrast of every neuron at every start year, from cached activations: against two ways of multiplying out.

All three start from the same activations of one noun, 97 prompts: ours from its cache file, opened and read each
time; the peers from memory.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch

import neurons
from benchmarks.memory import peaks
from benchmarks.pairs import Row, Turns, alternate, difference, row
from benchmarks.setting import Setting
from neurons.task.years import contrast_weights

BATCH = 8
"""Prompts that `stack_neuron_results` gets at once: its stack of all layers' neurons is 15 MB a prompt."""
TOLERANCE = 1e-4
"""Of the largest contrast; both sides are float32."""


class OneNoun:
    """One noun's prompts in order of their start years, and what the peers read."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.model = setting, setting.model
        prompts = neurons.year_spans(self.model.tokenizer, nouns=1, centuries="draw")
        self.cache = neurons.cache_activations(self.model, prompts, cache_dir=setting.folder)
        self.years = [year for year in range(2, 99) if year in set(self.cache.start_year.tolist())]
        self.rows = np.array([int(np.flatnonzero(self.cache.start_year == year)[0]) for year in self.years])
        self.weights = torch.as_tensor(contrast_weights(self.years)).float()
        self.directions = self.model.W_U[torch.as_tensor(prompts.year_token_ids)] * self.model.ln_final.gain
        self.tokens = torch.as_tensor(prompts.tokens[self.rows], dtype=torch.long)

    @cached_property
    def stacked(self) -> Any:
        """TransformerLens's cache of the prompts, as small as `stack_neuron_results` can do with."""
        bridge = self.setting.bridge
        names = {f"blocks.{layer}.mlp.hook_post" for layer in range(self.model.config.n_layers)}
        return [
            bridge.run_with_cache(
                self.tokens[start : start + BATCH],
                names_filter=lambda name: name in names | {"ln_final.hook_scale"},
            )[1]
            for start in range(0, len(self.tokens), BATCH)
        ]


def rows(setting: Setting) -> list[Row]:
    on = OneNoun(setting)
    work = f"contrast [{len(on.cache.layers) * on.cache.d_mlp:,}, {len(on.years)}] from cached activations"
    stack, stack_apart = alternate(Turns(_ours(on), _stack(on), difference))
    einsum, einsum_apart = alternate(Turns(_ours(on), _einsum(on), difference))
    return [
        row(
            "effects",
            stack,
            work=work,
            peer_is=f"ActivationCache.stack_neuron_results, {BATCH} prompts a batch",
            found=stack_apart,
            tolerance=TOLERANCE,
            at_least=5,
            aim=50,
            memory_share=0.15,
            **peaks("effects", setting),
        ),
        row(
            "effects",
            einsum,
            work=work,
            peer_is="a plain einsum over the same layers",
            found=einsum_apart,
            tolerance=TOLERANCE,
            at_least=1,
            **peaks("effects", setting, peer="einsum"),
        ),
    ]


def ours(setting: Setting) -> Callable[[int], np.ndarray]:
    return _ours(OneNoun(setting))


def peer(setting: Setting) -> Callable[[int], np.ndarray]:
    on = OneNoun(setting)
    on.stacked  # noqa: B018  cached before the work begins
    return _stack(on)


def einsum(setting: Setting) -> Callable[[int], np.ndarray]:
    return _einsum(OneNoun(setting))


def _ours(on: OneNoun) -> Callable[[int], np.ndarray]:
    def work(_: int) -> np.ndarray:
        effects = neurons.logit_effects(neurons.open_cache(on.cache.path), years=on.years)
        return np.concatenate([effects.layer_contrast(layer) for layer in effects.layers], 1).T

    return work


def _stack(on: OneNoun) -> Callable[[int], np.ndarray]:
    """It stacks the layers 0 to the last; the later ones are taken out afterwards."""
    first = on.cache.layers[0] * on.cache.d_mlp

    @torch.inference_mode()
    def work(_: int) -> np.ndarray:
        contrasts = []
        for start, kept in zip(range(0, len(on.tokens), BATCH), on.stacked, strict=True):
            stack = kept.stack_neuron_results(
                layer=-1, pos_slice=-1, apply_ln=True, project_output_onto=on.directions.T
            )
            contrasts.append(torch.einsum("npy,py->np", stack[first:], on.weights[start : start + BATCH]))
        return torch.cat(contrasts, 1).numpy()

    return work


def _einsum(on: OneNoun) -> Callable[[int], np.ndarray]:
    readout = on.directions - on.directions.mean(1, keepdim=True)
    scaled = {
        layer: torch.as_tensor(on.cache.post(layer)[on.rows] / on.cache.scale[on.rows, None])
        for layer in on.cache.layers
    }

    @torch.inference_mode()
    def work(_: int) -> np.ndarray:
        contrasts = []
        for layer, activation in scaled.items():
            written = on.model.blocks[layer].W_out @ readout.T
            effect = torch.einsum("pn,ny->npy", activation, written)
            contrasts.append(torch.einsum("npy,py->np", effect, on.weights))
        return torch.cat(contrasts).numpy()

    return work
