"""The oracle of the ablation tests: the whole Hugging Face model, an activation replaced at END by a plain hook.

A row of the batch is one neuron ablated on one prompt, so that many neurons go through the model at once.
Nothing here is shared with the code under test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurons.model.model import Model
from neurons.types import NeuronId


@dataclass(frozen=True, eq=False)
class HookedModel:
    hf: Any

    @torch.inference_mode()
    def post(self, tokens: np.ndarray) -> dict[int, Tensor]:
        """Activations at END, layer -> [P, N]."""
        found: dict[int, Tensor] = {}
        handles = [
            block.mlp.act.register_forward_hook(lambda _, __, out, at=at: found.update({at: out[:, -1].clone()}))
            for at, block in enumerate(self.hf.transformer.h)
        ]
        self.logits(tokens)
        for handle in handles:
            handle.remove()
        return found

    @torch.inference_mode()
    def logits(self, tokens: np.ndarray) -> Tensor:
        return self.hf(torch.as_tensor(tokens, dtype=torch.long)).logits[:, -1]

    @torch.inference_mode()
    def final_residual(self, tokens: np.ndarray) -> Tensor:
        seen: list[Tensor] = []
        handle = self.hf.transformer.ln_f.register_forward_hook(lambda _, x, __: seen.append(x[0][:, -1].clone()))
        self.logits(tokens)
        handle.remove()
        return seen[0]

    @torch.inference_mode()
    def with_values(self, tokens: np.ndarray, rows: Sequence[dict[NeuronId, float]]) -> Tensor:
        """Logits at END [P, V], row i with its neurons held at the given values at END."""
        handles = []
        for at, block in enumerate(self.hf.transformer.h):
            edits = [(i, n.index, v) for i, held in enumerate(rows) for n, v in held.items() if n.layer == at]
            if edits:
                handles.append(block.mlp.act.register_forward_hook(_replace(edits)))
        logits = self.logits(tokens)
        for handle in handles:
            handle.remove()
        return logits

    @torch.inference_mode()
    def read(self, residual: Tensor) -> Tensor:
        """Logits from a final residual, through the model's own final LayerNorm and unembedding."""
        return self.hf.lm_head(self.hf.transformer.ln_f(residual))

    def w_out(self, neuron: NeuronId) -> Tensor:
        return self.hf.transformer.h[neuron.layer].mlp.c_proj.weight[neuron.index].detach()


def _replace(edits: list[tuple[int, int, float]]) -> Any:
    def hook(_: Any, __: Any, out: Tensor) -> Tensor:
        out = out.clone()
        for row, index, value in edits:
            out[row, -1, index] = value
        return out

    return hook


def hooked_model(model: Model, dtype: torch.dtype) -> HookedModel:
    from transformers import GPT2LMHeadModel

    folder = model.checkpoint.folder
    return HookedModel(GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager", dtype=dtype).eval())
