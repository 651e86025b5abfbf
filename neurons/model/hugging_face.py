"""Hugging Face and TransformerLens: models of theirs as a checkpoint, and a checkpoint as a model of theirs.

The only module that knows transformers and transformer_lens. Both are imported inside functions, for start-up time
alone: loading a checkpoint and running it needs neither.

A model in memory: 1. Check its config as that of a directory. 2. Copy its weights, so that training may go on.
3. Take the fingerprint over the bytes that `save_pretrained` would write, so that both share one cache.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neurons.model.config import check_config
from neurons.model.files import Checkpoint
from neurons.model.tokenizer import END_OF_TEXT, Gpt2Tokenizer, without_settings
from neurons.model.weights import expected_shapes, gpt2_names
from neurons.types import CheckpointError, InputError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import GPT2LMHeadModel

WHERE = Path("model-in-memory")
"""Stands in messages where a directory would."""
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16"}
"""What safetensors calls the types that are read."""


@dataclass(frozen=True, eq=False)
class MemoryCheckpoint(Checkpoint):
    """A checkpoint without a directory. state: its weights in their own type, by GPT-2's names."""

    state: dict[str, torch.Tensor]
    hf_config: Any
    given_tokenizer: Gpt2Tokenizer

    @cached_property
    def tokenizer(self) -> Gpt2Tokenizer:
        return self.given_tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """As `Checkpoint.fingerprint` of the directory that `save_pretrained` would write."""
        h = hashlib.sha256()
        for name, tensor in sorted(self.state.items()):
            h.update(f"{name} {DTYPES[tensor.dtype]} {tuple(tensor.shape)}\n".encode())
            h.update(tensor.contiguous().view(torch.uint8).numpy().data)
        return h.hexdigest()

    def read_weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.float() for name, tensor in self.state.items()}

    @property
    def for_workers(self) -> str:
        raise InputError(
            "other processes cannot see a model that is in memory alone: save_pretrained() it with its tokenizer and"
            " load that directory, or leave out jobs and scheduler"
        )


def checkpoint_in_memory(source: Any, *, tokenizer: Any, name: str | None) -> MemoryCheckpoint:
    """The checkpoint of a Hugging Face model, or of a `TransformerBridge` around one.

    Raises `InputError` where the model is not a GPT-2, the weights of the bridge were folded or the tokenizer is
    missing; `CheckpointError` where the tensors do not match the config.
    """
    if getattr(source, "compatibility_mode", False):
        raise InputError(
            "this bridge was changed by enable_compatibility_mode(), which folds LayerNorm into the weights: give a"
            " fresh one, or the Hugging Face model"
        )
    hf_model = getattr(source, "original_model", source)
    if not isinstance(hf_model, torch.nn.Module) or not hasattr(hf_model, "config"):
        raise InputError(
            f"invalid model of type {type(source).__name__}: give mini, a name of the hub, a directory, a"
            " GPT2LMHeadModel or a TransformerBridge"
        )
    hf_config: Any = hf_model.config
    config = check_config(WHERE, hf_config.to_dict())
    state = _copy_weights(hf_model, expected_shapes(config))
    called = name or Path(getattr(hf_config, "name_or_path", "") or "model").name
    given = _tokenizer(tokenizer if tokenizer is not None else getattr(source, "tokenizer", None))
    return MemoryCheckpoint(called, WHERE, config, {}, state, hf_config, given)


def _state_of(hf_model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its tensors by GPT-2's names, also where a bridge wraps its parts. They share the memory of the model."""
    stored = {name.replace("_original_component.", ""): tensor for name, tensor in hf_model.state_dict().items()}
    names = gpt2_names(stored)
    return {names[name]: tensor.detach() for name, tensor in stored.items()}


def _copy_weights(hf_model: torch.nn.Module, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    found = _state_of(hf_model)
    for name, shape in shapes.items():
        if name not in found:
            raise CheckpointError(f"{WHERE} has no tensor {name}: give a GPT2LMHeadModel")
        if tuple(found[name].shape) != shape or found[name].dtype not in DTYPES:
            raise CheckpointError(
                f"{WHERE}: tensor {name} is {found[name].dtype} of shape {tuple(found[name].shape)}; its config asks"
                f" for floating-point numbers of shape {shape}"
            )
    return {name: found[name].to("cpu", copy=True).contiguous() for name in shapes}


def _tokenizer(given: Any) -> Gpt2Tokenizer:
    if isinstance(given, Gpt2Tokenizer):
        return given
    backend = getattr(given, "backend_tokenizer", None)
    if backend is None:
        raise InputError("a model in memory needs its tokenizer: load_model(model, tokenizer=GPT2TokenizerFast...)")
    return Gpt2Tokenizer(without_settings(backend))


def boot_bridge(checkpoint: Checkpoint) -> "TransformerBridge":
    """The checkpoint as a `TransformerBridge`: raw weights, eager attention, float32, no network.

    Raises `CheckpointError` where a library refuses the config: it reads fields that change no number here.
    """
    with _quiet(), _folder_with_config(checkpoint) as folder:
        from transformer_lens.model_bridge import TransformerBridge
        from transformers import PreTrainedTokenizerFast

        try:
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=checkpoint.tokenizer.backend,
                bos_token=END_OF_TEXT,
                eos_token=END_OF_TEXT,
                unk_token=END_OF_TEXT,
                name_or_path=folder,
            )
            return TransformerBridge.boot_transformers(
                folder, hf_model=_hf_model(checkpoint, folder), tokenizer=tokenizer, device="cpu"
            )
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{checkpoint.folder} cannot be loaded: {reason}") from None


def _hf_model(checkpoint: Checkpoint, folder: str) -> "GPT2LMHeadModel":
    from transformers import GPT2Config, GPT2LMHeadModel

    state = checkpoint.read_weights()
    named = {  # copies: a bridge folds its weights in place, and a checkpoint in memory shares them with its Model
        name if name.startswith("lm_head") else f"transformer.{name}": state.pop(name).clone() for name in list(state)
    }
    model: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(
        None,
        config=GPT2Config.from_pretrained(folder, local_files_only=True),
        state_dict=named,
        attn_implementation="eager",
        dtype=torch.float32,
    )
    return model.eval()


@contextmanager
def _folder_with_config(checkpoint: Checkpoint) -> Iterator[str]:
    """A directory with config.json, from which the bridge reads the config even when it is given the model."""
    if not isinstance(checkpoint, MemoryCheckpoint):
        yield str(checkpoint.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.hf_config.save_pretrained(folder)
        yield folder


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
