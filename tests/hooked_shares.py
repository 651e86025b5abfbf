"""The oracle of the attribution tests: the whole Hugging Face model, masks on neurons by plain hooks, and autograd.

h = other + mask (now - other), with `now` the activation as the model computes it then (share) or its clean value
(written share). A share is the mean over nodes of the gradient with respect to its own mask, which no chain rule of
ours takes part in. Nothing here is shared with the code under test.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurons.model.model import Model


@dataclass(frozen=True, eq=False)
class HookedShares:
    hf: Any
    layers: tuple[int, ...]
    year_ids: np.ndarray

    def post(self, tokens: np.ndarray) -> dict[int, Tensor]:
        """Activations at END."""
        found: dict[int, Tensor] = {}
        handles = [
            self._act(at).register_forward_hook(lambda _, __, out, at=at: found.update({at: out[:, -1].detach()}))
            for at in self.layers
        ]
        self._logits(tokens)
        for handle in handles:
            handle.remove()
        return found

    def values(
        self, measure: str, tokens: np.ndarray, year: np.ndarray, masks: dict[int, Tensor], other: dict[int, Tensor],
        held: dict[int, Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """The measure of each prompt with masks [P, N] on the neurons of each layer."""
        return self._measure(measure, self.logits(tokens, masks, other, held), year)

    def logits(
        self, tokens: np.ndarray, masks: dict[int, Tensor], other: dict[int, Tensor],
        held: dict[int, Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """The logits [P, V] at END with masks."""
        handles = []
        for layer in self.layers:

            def mask(_: Any, __: Any, out: Tensor, at: int = layer) -> Tensor:
                now = out[:, -1] if held is None else held[at]
                last = other[at] + masks[at] * (now - other[at])
                return torch.cat([out[:, :-1], last[:, None]], 1)

            handles.append(self._act(layer).register_forward_hook(mask))
        logits = self._logits(tokens)
        for handle in handles:
            handle.remove()
        return logits

    def shares(
        self, measure: str, tokens: np.ndarray, year: np.ndarray, others: np.ndarray, nodes: list[tuple[float, float]],
        *, is_held: bool,
    ) -> Tensor:  # fmt: skip
        """The share of every neuron [P, L N], for one other prompt each; nodes: (alpha, weight)."""
        clean, other = self.post(tokens), self.post(others)
        total = {layer: torch.zeros_like(other[layer]) for layer in self.layers}
        for alpha, weight in nodes:
            masks = {at: torch.full_like(other[at], alpha, requires_grad=True) for at in self.layers}
            value = self.values(measure, tokens, year, masks, other, clean if is_held else None).sum()
            for layer, gradient in zip(self.layers, torch.autograd.grad(value, list(masks.values())), strict=True):
                total[layer] += weight * gradient
        return torch.cat([total[layer] for layer in self.layers], -1)

    def _act(self, layer: int) -> Any:
        return self.hf.transformer.h[layer].mlp.act

    def _logits(self, tokens: np.ndarray) -> Tensor:
        return self.hf(torch.as_tensor(tokens, dtype=torch.long)).logits[:, -1]

    def _measure(self, measure: str, logits: Tensor, year: np.ndarray) -> Tensor:
        rows, years, at = torch.arange(len(year)), torch.arange(100), torch.as_tensor(year).long()
        is_later = years > at[:, None]
        is_of_logits = measure in ("contrast", "logit_step")
        scores = logits[:, self.year_ids] if is_of_logits else logits.softmax(-1)[:, self.year_ids]
        if measure in ("cutoff_sharpness", "logit_step"):
            return scores[rows, at + 1] - scores[rows, at - 1]
        late, early = (scores * is_later).sum(-1), (scores * ~is_later).sum(-1)
        if measure == "contrast":
            return late / is_later.sum(-1) - early / (~is_later).sum(-1)
        return late - early


def hooked_shares(model: Model, layers: tuple[int, ...], year_ids: np.ndarray) -> HookedShares:
    from transformers import GPT2LMHeadModel

    hf = GPT2LMHeadModel.from_pretrained(model.checkpoint.folder, attn_implementation="eager", dtype=torch.float64)
    return HookedShares(hf.eval().requires_grad_(False), layers, year_ids.astype(np.int64))
