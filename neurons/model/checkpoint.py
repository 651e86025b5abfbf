"""Load a checkpoint into a `Model`: raw weights, tokenizer, fingerprint. The only file that knows transformer_lens.

The weights are the checkpoint's own: nothing is folded, centred or transposed. LayerNorm's gain, centring
and scale are applied where they are used, so every number can be traced to a tensor of the file.
"""

import copy
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurons.model.config import ModelConfig
from neurons.model.device import find_device
from neurons.model.files import Checkpoint, find_checkpoint
from neurons.model.in_memory import MemoryCheckpoint, checkpoint_in_memory, state_of
from neurons.model.tokenizer import Gpt2Tokenizer
from neurons.shown import Shown
from neurons.types import CheckpointError, Device, InputError, check_is

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import GPT2LMHeadModel


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


@dataclass(frozen=True, eq=False, repr=False)
class Model(Shown):
    """A GPT-2 in memory: the checkpoint's own weights in float32 (units of the residual stream).

    `W_E` [V, d] and `W_pos` [C, d] have a row a token and a position; `W_U` [V, d] a row a token (the embedding
    itself when tied).
    """

    checkpoint: Checkpoint
    W_E: Float[Tensor, "V d"]
    W_pos: Float[Tensor, "C d"]
    blocks: tuple[Block, ...]
    ln_final: LayerNorm
    W_U: Float[Tensor, "V d"]

    @property
    def name(self) -> str:
        """What results and files are called by."""
        return self.checkpoint.name

    def facts(self) -> dict[str, object]:
        config = self.config
        return {
            "name": self.name,
            "layers": config.n_layers,
            "heads": config.n_heads,
            "width": config.d_model,
            "neurons": f"{config.d_mlp} a layer",
            "vocabulary": config.d_vocab,
            "sha256": self.fingerprint[:12],
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

    def year_readout(self, year_token_ids: Int[Tensor, "100"]) -> Float[Tensor, "d 100"]:
        """What a residual direction does to the year logits once the final scale is divided out.

        In logits for each unit of x / sigma. Columns are the year rows of the unembedding times the final
        gain, centred over the residual dimensions, because the final LayerNorm subtracts the mean.
        """
        direction = self.W_U[year_token_ids] * self.ln_final.gain
        return (direction - direction.mean(1, keepdim=True)).T

    @property
    def device(self) -> torch.device:
        """Where the weights are: what runs the model makes its tensors there."""
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


def load_model(
    source: "str | os.PathLike[str] | Checkpoint | GPT2LMHeadModel | TransformerBridge" = "mini",
    *,
    tokenizer: Any = None,
    name: str | None = None,
    device: Device = "cpu",
) -> Model:
    """Load `mini`, a GPT-2 of the hub (gpt2, gpt2-medium, ...) or a checkpoint directory, in float32.

    A Hugging Face `GPT2LMHeadModel` or a `TransformerBridge` that is in memory already is taken as well: its
    weights are copied. `tokenizer` (a fast one of Hugging Face) is then needed where the model brings none,
    and `name` is what results and files are called by; for other sources both are known. device: where the
    model runs; results come back to the CPU. `mps` is compared with the CPU on a few prompts first.

    Raises `InputError` for what is no GPT-2 checkpoint, `CheckpointError` for one that is damaged or out
    of reach, `DeviceError` for a device that is not there or wrong. See `neurons.model.files.find_checkpoint`.
    """
    place = find_device(device)
    if isinstance(source, Checkpoint):
        checkpoint = source
    elif isinstance(source, str | os.PathLike):
        if tokenizer is not None or name is not None:
            raise InputError("tokenizer and name go with a model in memory: a directory or a hub name has its own")
        checkpoint = find_checkpoint(source)
    else:
        check_is("name", name, str | None, "what results are called by")
        checkpoint = checkpoint_in_memory(source, tokenizer=tokenizer, name=name)
    checkpoint.tokenizer  # noqa: B018  a missing tokenizer is told before the weights are read
    if isinstance(checkpoint, MemoryCheckpoint):
        model = _from_state(checkpoint, {name: tensor.float() for name, tensor in checkpoint.state.items()})
    else:
        model = _from_state(checkpoint, state_of(boot_bridge(checkpoint).original_model))
    if device == "cpu":
        return model
    from neurons.model.trust import moved  # it runs the model, so it cannot be imported above

    return moved(model, place, is_tried=device == "mps")


def boot_bridge(checkpoint: Checkpoint) -> "TransformerBridge":
    """Load the checkpoint through TransformerBridge: safetensors only, no remote code, no network."""
    with _quiet(), _folder_with_config(checkpoint) as folder:
        from transformer_lens.model_bridge import TransformerBridge
        from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

        try:
            hf_model = _hf_model(checkpoint, GPT2LMHeadModel)
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=checkpoint.tokenizer.backend,
                bos_token="<|endoftext|>",
                eos_token="<|endoftext|>",
                unk_token="<|endoftext|>",
                name_or_path=folder,
            )
            return TransformerBridge.boot_transformers(
                folder, hf_model=hf_model.eval(), tokenizer=tokenizer, device="cpu"
            )
        except Exception as error:  # the libraries read fields of the config that mean nothing to us
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{checkpoint.folder} cannot be loaded: {reason}") from None


@contextmanager
def _folder_with_config(checkpoint: Checkpoint) -> Iterator[str]:
    """A directory with config.json, from which the bridge reads the config even when it is given the model."""
    if not isinstance(checkpoint, MemoryCheckpoint):
        yield str(checkpoint.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.hf_config.save_pretrained(folder)
        yield folder


def _hf_model(checkpoint: Checkpoint, kind: "type[GPT2LMHeadModel]") -> "GPT2LMHeadModel":
    if isinstance(checkpoint, MemoryCheckpoint):
        config = copy.deepcopy(checkpoint.hf_config)
        config._attn_implementation = "eager"
        made = kind(config)
        names = {
            ("" if name.startswith("lm_head") else "transformer.") + name: t for name, t in checkpoint.state.items()
        }
        made.load_state_dict(names, strict=False)
        return made
    return kind.from_pretrained(
        checkpoint.folder,
        use_safetensors=True,
        local_files_only=True,
        attn_implementation="eager",
        dtype=torch.float32,
    )


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


def _from_state(checkpoint: Checkpoint, state: dict[str, Tensor]) -> Model:
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
