"""A GPT-2 in memory: its weights in float32, as the checkpoint has them, and what the pieces of a layer compute.

Nothing is folded or centred. The gain, centring and scale of LayerNorm are applied where they are used, so that
every number can be traced to a tensor of the file.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurons.model.config import ModelConfig
from neurons.model.files import Checkpoint
from neurons.model.hugging_face import boot_bridge
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.shown import Shown
from neurons.task.prompt_set import PAD

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh"), partial(F.gelu, approximate="tanh")), "gelu": F.gelu,
    **dict.fromkeys(("silu", "swish"), F.silu), "relu": F.relu, "tanh": torch.tanh,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """Gain and bias of a LayerNorm, as stored."""

    gain: Float[Tensor, " d"]
    bias: Float[Tensor, " d"]


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's weights, with inputs as rows and outputs as columns, as GPT-2's own files have them.

    `qkv` [d, 3d] holds query, key and value side by side; head h of each takes d_head columns.
    `W_O` [d, d] takes the heads' outputs side by side. `W_in` [d, N], `W_out` [N, d].
    """

    ln_1: LayerNorm
    qkv: Float[Tensor, "d d3"]
    b_qkv: Float[Tensor, " d3"]
    W_O: Float[Tensor, "d d"]
    b_O: Float[Tensor, " d"]
    ln_2: LayerNorm
    W_in: Float[Tensor, "d N"]
    b_in: Float[Tensor, " N"]
    W_out: Float[Tensor, "N d"]
    b_out: Float[Tensor, " d"]


@dataclass(frozen=True, eq=False, repr=False)
class Model(Shown):
    """A GPT-2 in memory: the checkpoint's own weights in float32 (units of the residual stream).

    `W_E` [V, d] has one row per token, `W_pos` [C, d] one per position, `W_U` [V, d] one per token (it is `W_E` where
    the head is tied).
    """

    checkpoint: Checkpoint
    W_E: Float[Tensor, "V d"]
    W_pos: Float[Tensor, "C d"]
    blocks: tuple[Block, ...]
    ln_final: LayerNorm
    W_U: Float[Tensor, "V d"]

    @property
    def name(self) -> str:
        """The name of the checkpoint, used for results and files."""
        return self.checkpoint.name

    def summary(self) -> dict[str, object]:
        config = self.config
        return {
            "name": self.name,
            "layers": config.n_layers,
            "heads": config.n_heads,
            "width": config.d_model,
            "neurons": f"{config.d_mlp} a layer",
            "vocabulary": config.d_vocab,
            "sha256": self.fingerprint[:12],
            **({"notes": "; ".join(self.checkpoint.notes)} if self.checkpoint.notes else {}),
        }

    @property
    def config(self) -> ModelConfig:
        """The part of the config that changes the numbers."""
        return self.checkpoint.config

    @property
    def tokenizer(self) -> Gpt2Tokenizer:
        """GPT-2's tokenizer, as the checkpoint has it."""
        return self.checkpoint.tokenizer

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights."""
        return self.checkpoint.fingerprint

    @cached_property
    def bridge(self) -> "TransformerBridge":
        """The same checkpoint as a TransformerBridge (raw weights, eager attention, float32), for checks."""
        return boot_bridge(self.checkpoint)

    def embed(self, tokens: Int[np.ndarray, "P T"], *, after: int = 0) -> Float[Tensor, "P R d"]:
        """Return token plus position: rows of W_E and W_pos, of the columns from `after` on.

        Positions are counted from the first token. A column without a token has token 0 at position 0, which nobody
        reads.
        """
        columns = np.arange(after, tokens.shape[1])
        place = np.maximum(columns - (tokens == PAD).sum(1, keepdims=True), 0)
        ids = torch.as_tensor(np.maximum(tokens[:, after:], 0), dtype=torch.long, device=self.device)
        return self.W_E[ids] + self.W_pos[torch.as_tensor(place, device=self.device)]

    def seen(self, tokens: Int[np.ndarray, "P T"]) -> Bool[Tensor, "P T"] | None:
        """Return where a token id stands and no `PAD`; None where every column holds one."""
        return torch.as_tensor(tokens != PAD, device=self.device) if (tokens == PAD).any() else None

    def year_readout(self, year_token_ids: Int[Tensor, "100"]) -> Float[Tensor, "d 100"]:
        """The year logits per unit of a residual direction over the final LayerNorm's scale, x / sigma.

        Columns are the year rows of the unembedding times the final gain, centred over the residual dimensions,
        because the final LayerNorm subtracts the mean.
        """
        direction = self.W_U[year_token_ids] * self.ln_final.gain
        return (direction - direction.mean(1, keepdim=True)).T

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which whatever runs the model makes its tensors."""
        return self.W_E.device

    def to(self, target: torch.dtype | torch.device) -> "Model":
        """The same model with every weight in another floating-point type, or on another device."""

        def cast(x: Tensor) -> Tensor:
            return x.to(target)

        def norm(ln: LayerNorm) -> LayerNorm:
            return LayerNorm(cast(ln.gain), cast(ln.bias))

        def block(b: Block) -> Block:
            tensors = {name: cast(part) for name, part in vars(b).items() if isinstance(part, Tensor)}
            return replace(b, ln_1=norm(b.ln_1), ln_2=norm(b.ln_2), **tensors)

        W_E = cast(self.W_E)
        return replace(
            self,
            W_E=W_E,
            W_pos=cast(self.W_pos),
            blocks=tuple(block(b) for b in self.blocks),
            ln_final=norm(self.ln_final),
            W_U=W_E if self.W_U is self.W_E else cast(self.W_U),
        )


# --- the pieces of a layer -------------------------------------------------------------------------


def normalise(x: Float[Tensor, "... d"], ln: LayerNorm, eps: float) -> Float[Tensor, "... d"]:
    return F.layer_norm(x, x.shape[-1:], ln.gain, ln.bias, eps)


def activate(model: Model, pre: Float[Tensor, "... N"]) -> Float[Tensor, "... N"]:
    """The MLP's nonlinearity."""
    return _NONLINEARITIES[model.config.activation](pre)


def post_activation(model: Model, layer: int, mid: Float[Tensor, "... d"]) -> Float[Tensor, "... N"]:
    """The MLP's neurons, after the nonlinearity, from the residual before it."""
    block = model.blocks[layer]
    normed = normalise(mid, block.ln_2, model.config.layer_norm_eps)
    return activate(model, affine(normed, block.W_in, block.b_in))


def mlp(model: Model, layer: int, mid: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
    """The residual after the MLP, from the residual before it."""
    block = model.blocks[layer]
    return mid + affine(post_activation(model, layer, mid), block.W_out, block.b_out)


def final_scale(model: Model, residual: Float[Tensor, "... d"]) -> Float[Tensor, " ..."]:
    """sqrt(var + eps) of a residual, for every LayerNorm: of the final one TransformerLens's `ln_final.hook_scale`."""
    centred = residual - residual.mean(-1, keepdim=True)  # torch's var takes several times as long
    return (centred.square().mean(-1) + model.config.layer_norm_eps).sqrt()


def softmax(scores: Float[Tensor, "... T"]) -> Float[Tensor, "... T"]:
    """Over a last dimension as short as a prompt: torch's takes several times as long there."""
    weights = (scores - scores.detach().amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


def attention_pattern(
    model: Model,
    layer: int,
    queries: Float[Tensor, "P H R dh"],
    keys: Float[Tensor, "P H T dh"],
    *,
    seen: Bool[Tensor, "P T"] | None = None,
) -> Float[Tensor, "P H R T"]:
    """The attention of each of the last R positions over all T; seen: where a token stands, None for everywhere."""
    R, T = queries.shape[2], keys.shape[2]
    mask = torch.ones(R, T, dtype=torch.bool, device=keys.device).tril(T - R)
    if seen is not None:  # a position without a token attends to itself, which nobody reads
        mask = mask & seen[:, None, None] | torch.eye(T, dtype=torch.bool, device=keys.device)[T - R :]
    scores = (queries * attention_scale(model, layer)) @ keys.mT
    return softmax(scores.masked_fill(~mask, -math.inf))


def affine(x: Float[Tensor, "... a"], W: Float[Tensor, "a b"], b: Float[Tensor, " b"]) -> Float[Tensor, "... b"]:
    return torch.addmm(b, x.reshape(-1, x.shape[-1]), W).view(*x.shape[:-1], W.shape[1])


def attention_scale(model: Model, layer: int) -> float:
    scale = 1 / math.sqrt(model.config.d_head)
    return scale / (layer + 1) if model.config.scale_attn_by_inverse_layer_idx else scale


def query_key_value(model: Model, block: Block, x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... H dh"], ...]:
    config = model.config
    normed = normalise(x, block.ln_1, config.layer_norm_eps)
    joint = affine(normed, block.qkv, block.b_qkv)
    return tuple(part.unflatten(-1, (config.n_heads, config.d_head)) for part in joint.split(config.d_model, -1))
