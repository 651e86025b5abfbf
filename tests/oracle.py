"""What our numbers are compared with: TransformerBridge and the Hugging Face model, and the measure of difference."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurons.model.hugging_face import boot_bridge
from neurons.model.model import Model
from neurons.task.prompt_set import PromptSet


def relative(found: Any, reference: Any) -> float:
    """Largest difference / largest reference value."""
    found, reference = np.asarray(found), np.asarray(reference)
    assert found.shape == reference.shape
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def some_tokens(prompts: PromptSet, count: int) -> np.ndarray:
    """Prompts spread over the set: several nouns, centuries and start years."""
    return prompts.tokens[np.linspace(0, len(prompts) - 1, count).astype(int)]


def double_bridge(model: Model) -> Any:
    """The checkpoint as a TransformerBridge in float64."""
    return boot_bridge(model.checkpoint).to(torch.float64)


@torch.inference_mode()
def bridge_cache(bridge: Any, tokens: np.ndarray) -> tuple[Tensor, Any]:
    """Logits at END [P, V] and TransformerLens's cache of every activation."""
    logits, kept = bridge.run_with_cache(torch.as_tensor(tokens, dtype=torch.long))
    return logits[:, -1], kept


@dataclass(frozen=True, eq=False)
class HookedRun:
    """What plain torch hooks on the Hugging Face model saw at END, for P prompts.

    post: layer -> [P, N] after the nonlinearity; residual [P, d] before the final LayerNorm; logits [P, V].
    """

    post: dict[int, Tensor]
    residual: Tensor
    logits: Tensor


@torch.inference_mode()
def hooked_run(model: Model, tokens: np.ndarray, dtype: torch.dtype) -> HookedRun:
    """The checkpoint's own Hugging Face model with eager attention."""
    from transformers import GPT2LMHeadModel

    hf = GPT2LMHeadModel.from_pretrained(model.checkpoint.folder, attn_implementation="eager", dtype=dtype).eval()
    post: dict[int, Tensor] = {}
    residual: list[Tensor] = []
    for layer, block in enumerate(hf.transformer.h):
        block.mlp.act.register_forward_hook(lambda _, __, out, layer=layer: post.update({layer: out[:, -1]}))
    hf.transformer.ln_f.register_forward_hook(lambda _, inputs, __: residual.append(inputs[0][:, -1]))
    logits = hf(torch.as_tensor(tokens, dtype=torch.long)).logits[:, -1]
    return HookedRun(post, residual[0], logits)
