"""Load a checkpoint into a `Model`: raw weights, tokenizer, fingerprint. The only file that knows transformer_lens.

The weights are the checkpoint's own: nothing is folded, centred or transposed. LayerNorm's gain, centring
and scale are applied where they are used, so every number can be traced to a tensor of the file.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.model.config import ModelConfig
from neurons.model.files import Checkpoint, find_checkpoint
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.types import CheckpointError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, eq=False)
class LayerNorm:
    gain: Float[Tensor, " d"]
    bias: Float[Tensor, " d"]


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's weights, oriented as in the checkpoint: inputs are rows, outputs are columns.

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


@dataclass(frozen=True, eq=False)
class Model:
    """A GPT-2 in memory. `W_U` [V, d] has a row a token (the embedding itself when tied)."""

    checkpoint: Checkpoint
    W_E: Float[Tensor, "V d"]
    W_pos: Float[Tensor, "C d"]
    blocks: tuple[Block, ...]
    ln_final: LayerNorm
    W_U: Float[Tensor, "V d"]

    @property
    def name(self) -> str:
        return self.checkpoint.name

    @property
    def config(self) -> ModelConfig:
        return self.checkpoint.config

    @property
    def tokenizer(self) -> Gpt2Tokenizer:
        return self.checkpoint.tokenizer

    @property
    def fingerprint(self) -> str:
        return self.checkpoint.fingerprint

    @cached_property
    def bridge(self) -> "TransformerBridge":
        """The same checkpoint as a TransformerBridge (raw weights, eager attention, float32), for checks."""
        return boot_bridge(self.checkpoint)

    def year_readout(self, year_token_ids: Int[Tensor, "100"]) -> Float[Tensor, "d 100"]:
        """What a residual direction does to the year logits once the final scale is divided out.

        Columns are the year rows of the unembedding times the final gain, centred over the residual
        dimensions, because the final LayerNorm subtracts the mean.
        """
        direction = self.W_U[year_token_ids] * self.ln_final.gain
        return (direction - direction.mean(1, keepdim=True)).T

    def to(self, dtype: torch.dtype) -> "Model":
        """The same model with every weight in another floating-point type."""

        def cast(x: Tensor) -> Tensor:
            return x.to(dtype)

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


def load_model(name: str | os.PathLike[str] | Checkpoint = "mini") -> Model:
    """Load `mini`, a GPT-2 of the hub (gpt2, gpt2-medium, ...) or a checkpoint directory, in float32 on the CPU.

    Raises `InputError` for what is no GPT-2 checkpoint, `CheckpointError` for one that is damaged or out
    of reach. See `neurons.model.files.find_checkpoint`.
    """
    checkpoint = name if isinstance(name, Checkpoint) else find_checkpoint(name)
    checkpoint.tokenizer  # noqa: B018  a missing tokenizer is told before the weights are read
    return _from_bridge(checkpoint, boot_bridge(checkpoint))


def boot_bridge(checkpoint: Checkpoint) -> "TransformerBridge":
    """Load the checkpoint through TransformerBridge: safetensors only, no remote code, no network."""
    with _quiet():
        from transformer_lens.model_bridge import TransformerBridge
        from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

        try:
            hf_model = GPT2LMHeadModel.from_pretrained(
                checkpoint.folder,
                use_safetensors=True,
                local_files_only=True,
                attn_implementation="eager",
                dtype=torch.float32,
            )
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=checkpoint.tokenizer.backend,
                bos_token="<|endoftext|>",
                eos_token="<|endoftext|>",
                unk_token="<|endoftext|>",
                name_or_path=str(checkpoint.folder),
            )
            return TransformerBridge.boot_transformers(
                str(checkpoint.folder), hf_model=hf_model.eval(), tokenizer=tokenizer, device="cpu"
            )
        except Exception as error:  # the libraries read fields of the config that mean nothing to us
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{checkpoint.folder} cannot be loaded: {reason}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' notes and progress bars off standard error while a model loads."""
    import logging

    import transformers.utils.logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    disabled = logging.root.manager.disable
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def _from_bridge(checkpoint: Checkpoint, bridge: "TransformerBridge") -> Model:
    state = {
        name.replace("_original_component.", "").removeprefix("transformer."): tensor.detach()
        for name, tensor in bridge.original_model.state_dict().items()
    }

    def norm(name: str) -> LayerNorm:
        return LayerNorm(state[f"{name}.weight"], state[f"{name}.bias"])

    def block(layer: int) -> Block:
        h = f"h.{layer}"
        return Block(
            ln_1=norm(f"{h}.ln_1"),
            qkv=state[f"{h}.attn.c_attn.weight"],
            b_qkv=state[f"{h}.attn.c_attn.bias"],
            W_O=state[f"{h}.attn.c_proj.weight"],
            b_O=state[f"{h}.attn.c_proj.bias"],
            ln_2=norm(f"{h}.ln_2"),
            W_in=state[f"{h}.mlp.c_fc.weight"],
            b_in=state[f"{h}.mlp.c_fc.bias"],
            W_out=state[f"{h}.mlp.c_proj.weight"],
            b_out=state[f"{h}.mlp.c_proj.bias"],
        )

    W_E = state["wte.weight"]
    model = Model(
        checkpoint=checkpoint,
        W_E=W_E,
        W_pos=state["wpe.weight"],
        blocks=tuple(block(layer) for layer in range(checkpoint.config.n_layers)),
        ln_final=norm("ln_f"),
        W_U=W_E if checkpoint.config.tied else state["lm_head.weight"],
    )
    _check_finite(checkpoint, state)
    return model


def _check_finite(checkpoint: Checkpoint, state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(
                f"{checkpoint.folder}: tensor {name} holds numbers that are not finite: the file is damaged"
            )
