"""Shapley values by enumeration and Aumann-Shapley shares by plain autograd, in float64, on the Hugging Face model.

Nothing here is shared with the package. A mask m of a neuron mixes at END what it takes on another prompt, a', with
what it computes from the residual as it then is: h = a' + m (post - a').

1. Everything before END is run once and kept as keys and values; END runs again for each row of masks.
2. `enumerate_shapley`: all 2^n masks of zeros and ones of n neurons; every other neuron is left to compute. With
   "all others at a'" this agrees only where the others write nothing.
3. `path_shares`: all neurons of some layers, m = alpha for all, the derivative in each m integrated over alpha.
   held: h = a' + m (a - a') with a of the clean run, so that no neuron responds.

Measures: `probability_difference`, `cutoff_sharpness` (full softmax) and `contrast` (logits), of each prompt.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurons.task.prompt_set import PromptSet
from neurons.types import NeuronId

SETS = 64
"""Masks in one run of END."""


class EndRun:
    """A checkpoint in float64 with P prompts run up to END, where it runs again for S masks at once.

    The S runs of END are S queries at the same position that see what is before END and themselves.
    """

    def __init__(self, folder: Path, prompts: PromptSet, other_prompt_rows: Sequence[int]) -> None:
        from transformers import GPT2LMHeadModel

        self.hf: Any = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
        self.tokens = torch.as_tensor(prompts.tokens, dtype=torch.long)
        self.start_year = torch.as_tensor(prompts.start_year, dtype=torch.long)
        self.years = torch.as_tensor(prompts.year_token_ids, dtype=torch.long)
        with torch.no_grad():
            self.before = self.hf(self.tokens[:, :-1], use_cache=True).past_key_values
            self.post, self.clean_logits = self._whole_run()
        self.other = {layer: post[torch.as_tensor(other_prompt_rows)] for layer, post in self.post.items()}

    def _whole_run(self) -> tuple[dict[int, Tensor], Tensor]:
        """Activations at END, layer -> [P, N], and the logits there, of prompts run whole."""
        seen: dict[int, Tensor] = {}

        def keep(layer: int) -> Any:
            return lambda _, __, out: seen.update({layer: out[:, -1].clone()})

        acts = [block.mlp.act for block in self.hf.transformer.h]
        handles = [act.register_forward_hook(keep(layer)) for layer, act in enumerate(acts)]
        logits = self.hf(self.tokens).logits[:, -1]
        for handle in handles:
            handle.remove()
        return seen, logits

    def logits(self, masks: Mapping[int, Tensor], *, held: bool = False) -> Tensor:
        """[P, S, V] at END under masks, layer -> [S, N] or [P, S, N]."""
        S, before = next(iter(masks.values())).shape[-2], self.tokens.shape[1] - 1
        unseen = torch.full((S, before + S), torch.finfo(torch.float64).min, dtype=torch.float64)
        unseen[:, :before] = 0
        unseen[:, before:].fill_diagonal_(0)
        with self._masked(masks, held):
            return self.hf(
                self.tokens[:, -1:].expand(-1, S),
                past_key_values=copy.deepcopy(self.before),
                attention_mask=unseen.expand(len(self.tokens), 1, -1, -1),
                position_ids=torch.full((1, S), before),
                use_cache=True,
            ).logits

    @contextmanager
    def _masked(self, masks: Mapping[int, Tensor], held: bool) -> Iterator[None]:
        def mix(layer: int, mask: Tensor) -> Any:
            other, clean = self.other[layer][:, None], self.post[layer][:, None]
            return lambda _, __, out: other + mask * ((clean if held else out) - other)

        acts = [block.mlp.act for block in self.hf.transformer.h]
        handles = [acts[layer].register_forward_hook(mix(layer, mask)) for layer, mask in masks.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def measure(self, logits: Tensor, measure: str) -> Tensor:
        """[P, S] from [P, S, V]."""
        yy = self.start_year[:, None, None]
        later = (torch.arange(100) > yy).double()
        if measure == "contrast":
            sign = later / later.sum(-1, keepdim=True) - (1 - later) / (1 - later).sum(-1, keepdim=True)
            return (logits[..., self.years] * sign).sum(-1)
        p = logits.softmax(-1)[..., self.years]
        if measure == "cutoff_sharpness":
            return (p * ((torch.arange(100) == yy + 1).double() - (torch.arange(100) == yy - 1).double())).sum(-1)
        assert measure == "probability_difference"
        return (p * (2 * later - 1)).sum(-1)


@torch.no_grad()
def values_of_sets(
    run: EndRun, neurons: Sequence[NeuronId], kept: np.ndarray, measures: Sequence[str]
) -> dict[str, np.ndarray]:
    """Measure -> [S, P]: of each prompt with the neurons of each set [S, n] kept and the rest of them at a'."""
    found: dict[str, list[np.ndarray]] = {measure: [] for measure in measures}
    for start in range(0, len(kept), SETS):
        part = torch.as_tensor(kept[start : start + SETS], dtype=torch.float64)
        masks = {n.layer: torch.ones(len(part), run.other[n.layer].shape[1], dtype=torch.float64) for n in neurons}
        for at, neuron in enumerate(neurons):
            masks[neuron.layer][:, neuron.index] = part[:, at]
        logits = run.logits(masks)
        for measure in measures:
            found[measure].append(run.measure(logits, measure).T.numpy())
    return {measure: np.concatenate(parts) for measure, parts in found.items()}


def every_set(n: int) -> np.ndarray:
    """[2^n, n] bool, set number i holding neuron j where bit j of i is one."""
    return np.arange(2**n)[:, None] >> np.arange(n) & 1 == 1


def shapley_of_values(values: np.ndarray) -> np.ndarray:
    """[P, n] Shapley values from the values [2^n, P] of `every_set(n)`."""
    n = len(values).bit_length() - 1
    sets = every_set(n)
    size = sets.sum(1)
    weight = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)])
    shares = np.empty((values.shape[1], n))
    for j in range(n):
        without = np.flatnonzero(~sets[:, j])
        shares[:, j] = weight[size[without]] @ (values[without + 2**j] - values[without])
    return shares


def enumerate_shapley(
    model_folder: Path,
    prompts: PromptSet,
    other_prompt_rows: Sequence[int],
    neurons: Sequence[NeuronId],
    measure: str,
) -> np.ndarray:
    """[P, n]: each prompt's Shapley values of n neurons; prompt i takes a' from prompt other_prompt_rows[i]."""
    run = EndRun(model_folder, prompts, other_prompt_rows)
    return shapley_of_values(values_of_sets(run, neurons, every_set(len(neurons)), [measure])[measure])


def path_shares(
    run: EndRun, layers: Sequence[int], measure: str, *, held: bool = False, nodes: int = 64
) -> dict[NeuronId, np.ndarray]:
    """Neuron -> [P]: each prompt's Aumann-Shapley share (`held`: written share) of all neurons of `layers`."""
    alphas, weights = np.polynomial.legendre.leggauss(nodes)
    total = {layer: torch.zeros_like(run.other[layer]) for layer in layers}
    for alpha, weight in zip((alphas + 1) / 2, weights / 2, strict=True):
        masks = {layer: torch.full_like(run.other[layer], alpha)[:, None].requires_grad_() for layer in layers}
        value = run.measure(run.logits(masks, held=held), measure)
        slopes = torch.autograd.grad(value.sum(), list(masks.values()))
        for layer, slope in zip(layers, slopes, strict=True):
            total[layer] += weight * slope[:, 0]
    return {NeuronId(layer, i): total[layer][:, i].numpy() for layer in layers for i in range(total[layer].shape[1])}
