"""GPT-2's config: the fields that change the numbers, and the refusal of those that are not honoured."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from neurons.task.prompt_set import PAD
from neurons.types import CheckpointError, InputError, NeuronId, check_wholes

ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu", "swish", "quick_gelu", "tanh")
REFUSED_FIELDS: dict[str, Any] = {
    "scale_attn_weights": True,
    "add_cross_attention": False,
    "quantization_config": None,
    "rope_scaling": None,
}
"""Config fields that would change the numbers and are not honoured, with the only value accepted."""


@dataclass(frozen=True)
class ModelConfig:
    """The part of a GPT-2 config that changes the numbers."""

    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    activation: str
    layer_norm_eps: float
    scale_attn_by_inverse_layer_idx: bool
    tied: bool

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def default_layers(self) -> tuple[int, ...]:
        """The last third of the layers: 8-11 of GPT-2 small."""
        return tuple(range(self.n_layers - max(1, self.n_layers // 3), self.n_layers))

    def check_layers(self, layers: Iterable[int]) -> tuple[int, ...]:
        """Return the layers; raises `InputError` for one outside the model."""
        layers = check_wholes("layers", layers, "[8, 9]")
        outside = [layer for layer in layers if not 0 <= layer < self.n_layers]
        if outside:
            raise InputError(f"layer {outside[0]} is not in this model: it has layers 0-{self.n_layers - 1}")
        if not layers:
            raise InputError("no layers chosen: name some, for instance 8-11")
        return tuple(sorted(set(layers)))

    def check_neuron(self, neuron: NeuronId, layers: tuple[int, ...]) -> NeuronId:
        """Return the neuron; raises `InputError` for one outside the model or the chosen layers."""
        self.check_layers((neuron.layer,))
        if neuron.index >= self.d_mlp:
            raise InputError(f"{neuron} does not exist: layer {neuron.layer} has neurons 0-{self.d_mlp - 1}")
        if neuron.layer not in layers:
            chosen = ", ".join(map(str, layers))
            raise InputError(f"{neuron} is outside the chosen layers {chosen}: choose layers with it")
        return neuron

    def check_tokens(self, tokens: Int[np.ndarray, "P T"], *, shared: int) -> None:
        """Raise `InputError` for tokens that do not fit the model, or where `shared` leaves no position."""
        if tokens.size == 0:
            raise InputError("no prompts to run")
        if tokens.shape[1] > self.n_ctx:
            raise InputError(f"prompts of {tokens.shape[1]} tokens do not fit the model's context of {self.n_ctx}")
        if not 0 <= shared < tokens.shape[1]:
            raise InputError(f"{shared} shared positions do not leave a last one of {tokens.shape[1]}")
        padded = np.logical_and.accumulate(tokens == PAD, axis=1)
        outside = tokens[~padded & (tokens < 0) | (tokens >= self.d_vocab)]
        if outside.size:
            raise InputError(
                f"token {int(outside[0])} is outside the model's vocabulary of {self.d_vocab}: the tokenizer beside the"
                " checkpoint belongs to another model"
            )


def read_config(folder: Path) -> ModelConfig:
    """Read `config.json`, refusing what GPT-2's forward here would not honour."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} holds no checkpoint: config.json is missing (save_pretrained writes it)")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}): fetch or save it again") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is not a JSON object: fetch or save it again")
    return check_config(path, raw)


def check_config(path: Path, raw: dict[str, Any]) -> ModelConfig:
    """A config as a dictionary, read from `path`: checked as `read_config` does."""
    if raw.get("model_type") != "gpt2":
        raise InputError(f"{path} describes a {raw.get('model_type')!r} model: only GPT-2's architecture is supported")
    for field, accepted in REFUSED_FIELDS.items():
        if field in raw and raw[field] not in (accepted, None):
            raise InputError(f"{path} sets {field} = {raw[field]!r}, which is not supported: only {accepted!r} is")
    return _parse_config(path, raw)


def _parse_config(path: Path, raw: dict[str, Any]) -> ModelConfig:
    defaults = {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50257, "n_positions": 1024}
    aliases = {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads", "n_embd": "hidden_size",
               "n_positions": "max_position_embeddings"}  # fmt: skip
    sizes: dict[str, int] = {}
    for field, default in defaults.items():
        sizes[field] = _positive(path, field, raw.get(field, raw.get(aliases.get(field, field), default)))
    d_mlp = raw.get("n_inner")
    activation = raw.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise InputError(
            f"{path} sets activation_function = {activation!r}, which is not supported: use one of"
            f" {', '.join(ACTIVATIONS)}"
        )
    eps = raw.get("layer_norm_epsilon", 1e-5)
    if not isinstance(eps, float | int) or isinstance(eps, bool) or not 0 <= eps < 1:
        raise CheckpointError(f"{path} sets layer_norm_epsilon = {eps!r}: it must be a small number")
    if sizes["n_embd"] % sizes["n_head"]:
        raise CheckpointError(f"{path}: n_embd {sizes['n_embd']} is not divisible by n_head {sizes['n_head']}")
    return ModelConfig(
        n_layers=sizes["n_layer"],
        n_heads=sizes["n_head"],
        d_model=sizes["n_embd"],
        d_mlp=4 * sizes["n_embd"] if d_mlp is None else _positive(path, "n_inner", d_mlp),
        d_vocab=sizes["vocab_size"],
        n_ctx=sizes["n_positions"],
        activation=activation,
        layer_norm_eps=float(eps),
        scale_attn_by_inverse_layer_idx=_flag(path, raw, "scale_attn_by_inverse_layer_idx", False),
        tied=_flag(path, raw, "tie_word_embeddings", True),
    )


def _positive(path: Path, field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**24:
        raise CheckpointError(f"{path} sets {field} = {value!r}: it must be a positive whole number")
    return value


def _flag(path: Path, raw: dict[str, Any], field: str, default: bool) -> bool:
    value = raw.get(field, default)
    if not isinstance(value, bool):
        raise CheckpointError(f"{path} sets {field} = {value!r}: it must be true or false")
    return value
