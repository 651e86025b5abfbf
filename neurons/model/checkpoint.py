"""Load a checkpoint into a `Model`.

1. Find it: a directory, a name of the hub, or a model in memory. 2. Read its tensors into float32, each from its
place in the file. 3. Refuse weights that are not finite. 4. Move it to the device asked for.
"""

import os
from typing import TYPE_CHECKING, Any

from torch import Tensor

from neurons.model.device import find_device, moved
from neurons.model.files import Checkpoint, find_checkpoint
from neurons.model.hugging_face import checkpoint_in_memory
from neurons.model.model import Block, LayerNorm, Model
from neurons.types import CheckpointError, Device, InputError, check_is

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import GPT2LMHeadModel

__all__ = ["Model", "load_model"]


def load_model(
    source: "str | os.PathLike[str] | Checkpoint | GPT2LMHeadModel | TransformerBridge" = "mini",
    *,
    tokenizer: Any = None,
    name: str | None = None,
    revision: str | None = None,
    device: Device = "cpu",
) -> Model:
    """Load `mini`, a GPT-2 of the hub (gpt2, gpt2-medium, ...) or a checkpoint directory, in float32.

    source: also a Hugging Face `GPT2LMHeadModel` or a `TransformerBridge` in memory, whose weights are copied.
    tokenizer: a fast tokenizer of Hugging Face, needed where the model in memory brings none. name: what results and
    files of a model in memory are called. revision: a branch, tag or commit of a hub model; also NAME@REVISION.
    device: where the model runs; results come back to the CPU. `mps` is compared with the CPU on a few prompts first.

    Raises `InputError` where the source is not a GPT-2 checkpoint, `CheckpointError` where it is damaged or out of
    reach, `DeviceError` for a device that is absent or wrong. See `neurons.model.files.find_checkpoint`.
    """
    place = find_device(device)
    checkpoint = _checkpoint(source, tokenizer=tokenizer, name=name, revision=revision)
    checkpoint.tokenizer  # noqa: B018  a missing tokenizer is reported before the weights are read
    model = _model_of(checkpoint)
    return model if device == "cpu" else moved(model, place, is_tried=device == "mps")


def _checkpoint(source: Any, *, tokenizer: Any, name: str | None, revision: str | None) -> Checkpoint:
    if revision is not None and not isinstance(source, str):
        raise InputError("revision goes with a name of the hub: a model in memory or a directory has none")
    if isinstance(source, Checkpoint):
        return source
    if not isinstance(source, str | os.PathLike):
        check_is("name", name, str | None, "what results are called by")
        return checkpoint_in_memory(source, tokenizer=tokenizer, name=name)
    if tokenizer is not None or name is not None:
        raise InputError("tokenizer and name go with a model in memory: a directory or a hub name has its own")
    return find_checkpoint(source, revision=revision)


def _model_of(checkpoint: Checkpoint) -> Model:
    state = checkpoint.read_weights()
    _check_finite(checkpoint, state)
    W_E = state["wte.weight"]
    return Model(
        checkpoint=checkpoint,
        W_E=W_E,
        W_pos=state["wpe.weight"],
        blocks=tuple(_block(state, f"h.{layer}") for layer in range(checkpoint.config.n_layers)),
        ln_final=_layer_norm(state, "ln_f"),
        W_U=W_E if checkpoint.config.tied else state["lm_head.weight"],
    )


def _block(state: dict[str, Tensor], h: str) -> Block:
    return Block(
        ln_1=_layer_norm(state, f"{h}.ln_1"),
        qkv=state[f"{h}.attn.c_attn.weight"],
        b_qkv=state[f"{h}.attn.c_attn.bias"],
        W_O=state[f"{h}.attn.c_proj.weight"],
        b_O=state[f"{h}.attn.c_proj.bias"],
        ln_2=_layer_norm(state, f"{h}.ln_2"),
        W_in=state[f"{h}.mlp.c_fc.weight"],
        b_in=state[f"{h}.mlp.c_fc.bias"],
        W_out=state[f"{h}.mlp.c_proj.weight"],
        b_out=state[f"{h}.mlp.c_proj.bias"],
    )


def _layer_norm(state: dict[str, Tensor], name: str) -> LayerNorm:
    return LayerNorm(state[f"{name}.weight"], state[f"{name}.bias"])


def _check_finite(checkpoint: Checkpoint, state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if not all(extreme.isfinite() for extreme in tensor.aminmax()):  # NaN is both; no copy, as isfinite() makes
            raise CheckpointError(
                f"{checkpoint.folder}: tensor {name} holds numbers that are not finite: the file is damaged"
            )
