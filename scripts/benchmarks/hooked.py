"""The peer of whatever changes neurons at END: hooks on the MLPs' nonlinearities of the whole Hugging Face model."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neurons.intervention.context import AblationContext


class Hooked:
    """The Hugging Face model of an ablation context, its logits read at END alone."""

    def __init__(self, ctx: AblationContext) -> None:
        self.ctx = ctx

    @cached_property
    def hf(self) -> Any:
        from transformers import GPT2LMHeadModel

        folder = self.ctx.model.checkpoint.folder
        return GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval().requires_grad_(False)

    @torch.no_grad()
    def activations(self, rows: np.ndarray) -> dict[int, torch.Tensor]:
        """At END, layer by layer; prompts by their rows of the cache."""
        found: dict[int, torch.Tensor] = {}
        self.end_logits(rows, {at: lambda _, __, out, at=at: found.update({at: out[:, -1].clone()}) for at in
                               self.ctx.cache.layers})  # fmt: skip
        return found

    def end_logits(self, rows: np.ndarray, hooks: Mapping[int, Callable[..., Any]]) -> torch.Tensor:
        """With a forward hook on the nonlinearity of each of these layers."""
        acts = [self.hf.transformer.h[layer].mlp.act for layer in hooks]
        handles = [act.register_forward_hook(hook) for act, hook in zip(acts, hooks.values(), strict=True)]
        tokens = torch.as_tensor(self.ctx.tokens[rows], dtype=torch.long)
        logits = self.hf.lm_head(self.hf.transformer(tokens, use_cache=False).last_hidden_state[:, -1])
        for handle in handles:
            handle.remove()
        return logits
