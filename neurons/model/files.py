"""Find a checkpoint on disk and say what it is, without torch: config, weight files, tokenizer, fingerprint.

Three kinds of name: `mini` (bundled), a directory, a name of the hub. The last is looked up in the hub's
local cache first, so a second run needs no network. Everything is safetensors; no code is ever loaded.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neurons.model.tokenizer import Gpt2Tokenizer, load_tokenizer
from neurons.types import CheckpointError, InputError, NeuronId

BUNDLED = {"mini": Path(__file__).parent / "mini"}
HUB_MODELS = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2")
HUB_ALIASES = {name: f"{owner}/{name}" for owner, names in {
    "openai-community": ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
    "distilbert": ("distilgpt2",),
}.items() for name in names}  # fmt: skip
HUB_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "vocab.json", "merges.txt", "tokenizer*.json"]

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

    def check_layers(self, layers: tuple[int, ...]) -> tuple[int, ...]:
        """The layers, or `InputError` where one is not in the model."""
        outside = [layer for layer in layers if not 0 <= layer < self.n_layers]
        if outside:
            raise InputError(f"layer {outside[0]} is not in this model: it has layers 0-{self.n_layers - 1}")
        if not layers:
            raise InputError("no layers chosen: name some, for instance 8-11")
        return tuple(sorted(set(layers)))

    def check_neuron(self, neuron: NeuronId, layers: tuple[int, ...]) -> NeuronId:
        """The neuron, or `InputError` where the model has none such in the chosen layers."""
        self.check_layers((neuron.layer,))
        if neuron.index >= self.d_mlp:
            raise InputError(f"{neuron} does not exist: layer {neuron.layer} has neurons 0-{self.d_mlp - 1}")
        if neuron.layer not in layers:
            chosen = ", ".join(map(str, layers))
            raise InputError(f"{neuron} is outside the chosen layers {chosen}: name its layer with --layers")
        return neuron


@dataclass(frozen=True)
class Tensor:
    """Where one tensor's bytes lie: `file[start:stop]`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A GPT-2 checkpoint on disk, checked but not loaded."""

    name: str
    folder: Path
    config: ModelConfig
    tensors: dict[str, Tensor]

    @cached_property
    def tokenizer(self) -> Gpt2Tokenizer:
        return load_tokenizer(self.folder)

    @cached_property
    def weight_files(self) -> tuple[Path, ...]:
        return tuple(sorted({tensor.file for tensor in self.tensors.values()}))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the name, type, shape and bytes of every tensor that GPT-2 uses."""
        h = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            h.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
            for chunk in _read(tensor):
                h.update(chunk)
        return h.hexdigest()


def find_checkpoint(name: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint that `name` means: `mini`, a directory, or a name of the hub.

    Raises `InputError` for an unknown name, a directory without a checkpoint or another architecture;
    `CheckpointError` for damaged files, or a hub model that is not on disk and cannot be fetched.
    """
    folder = _locate(os.fspath(name))
    config = read_config(folder)
    tensors = read_tensors(folder)
    _check_tensors(folder, config, tensors)
    used = {name: tensor for name, tensor in tensors.items() if name in expected_shapes(config)}
    return Checkpoint(_display_name(os.fspath(name), folder), folder, config, used)


def _display_name(name: str, folder: Path) -> str:
    is_directory = name not in BUNDLED and Path(name).expanduser().is_dir()
    return folder.resolve().name if is_directory else name.split("/")[-1]


def _locate(name: str) -> Path:
    if name in BUNDLED:
        return BUNDLED[name]
    wanted = f"{name!r} is no directory: give mini, a GPT-2 name of the hub, or a checkpoint directory"
    try:
        path = Path(name).expanduser()
        is_directory, exists = path.is_dir(), path.exists()
    except (OSError, RuntimeError):  # a name too long, a home that is not there
        raise InputError(wanted) from None
    if is_directory and name.strip():
        return path
    if exists and name.strip():
        raise InputError(f"{name!r} is a file: give the directory that holds config.json and model.safetensors")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise InputError(wanted)
    return _hub_snapshot(name)


def local_hub_folder(name: str) -> Path | None:
    """The snapshot of a hub model in the local hub cache, under its short or its full name; no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    candidates = [name, *(full for short, full in HUB_ALIASES.items() if short == name)]
    candidates += [short for short, full in HUB_ALIASES.items() if full == name]
    for repo in candidates:
        try:
            folder = Path(snapshot_download(repo, allow_patterns=HUB_FILES, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, OSError):
            continue
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
    return None


def _hub_snapshot(name: str) -> Path:
    """The folder of a hub model: from the local hub cache, else fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    local = local_hub_folder(name)
    if local is not None:
        return local
    try:
        return Path(snapshot_download(HUB_ALIASES.get(name, name), allow_patterns=HUB_FILES))
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(_unknown(name)) from None
    except Exception as error:
        if name not in HUB_ALIASES and name not in HUB_ALIASES.values():
            raise InputError(_unknown(name)) from None
        raise CheckpointError(
            f"{name} is not in the local hub cache and cannot be fetched now ({type(error).__name__}): where"
            f" there is a network run `hf download {HUB_ALIASES.get(name, name)}`, or give a checkpoint"
            " directory with --model DIR; --model mini works now"
        ) from None


def _unknown(name: str) -> str:
    return (
        f"unknown model {name!r}: give mini, a GPT-2 name of the hub ({', '.join(HUB_MODELS)}), or a"
        " directory with config.json and model.safetensors"
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
        raise CheckpointError(f"{path} is no JSON object: fetch or save it again")
    if raw.get("model_type") != "gpt2":
        raise InputError(f"{folder} is a {raw.get('model_type')!r} model: only GPT-2's architecture is understood")
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


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that GPT-2 uses, without the `transformer.` prefix."""
    d, m = config.d_model, config.d_mlp
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (config.d_vocab, d), "wpe.weight": (config.n_ctx, d)}
    for layer in range(config.n_layers):
        block = {
            "ln_1.weight": (d,), "ln_1.bias": (d,), "ln_2.weight": (d,), "ln_2.bias": (d,),
            "attn.c_attn.weight": (d, 3 * d), "attn.c_attn.bias": (3 * d,),
            "attn.c_proj.weight": (d, d), "attn.c_proj.bias": (d,),
            "mlp.c_fc.weight": (d, m), "mlp.c_fc.bias": (m,),
            "mlp.c_proj.weight": (m, d), "mlp.c_proj.bias": (d,),
        }  # fmt: skip
        shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    if not config.tied:
        shapes["lm_head.weight"] = (config.d_vocab, d)
    return shapes


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors files, by name without the `transformer.` prefix."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        files = _indexed_files(folder, index)
    else:
        raise InputError(f"{folder} holds no checkpoint: {_what_weights(folder)}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in read_header(file):
            tensors[name.removeprefix("transformer.")] = tensor
    return tensors


def _what_weights(folder: Path) -> str:
    pickles = [p.name for p in sorted(folder.iterdir()) if p.suffix in {".bin", ".pt", ".pth"}]
    if pickles:
        return (
            f"{pickles[0]} is a pickle, which can run code and is never opened; load it where you trust it and"
            " save_pretrained() it again, which writes model.safetensors"
        )
    return "model.safetensors is missing (save_pretrained writes it)"


def _indexed_files(folder: Path, index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} cannot be read ({error!r}): fetch or save it again") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{index} names {name!r}, which is not a file beside it: fetch it again")
    return [folder / name for name in names]


def read_header(file: Path) -> list[tuple[str, Tensor]]:
    """Name, type, shape and place of every tensor; `CheckpointError` for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass  # the library checks the header, the offsets and the file's length
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged ({error}): fetch or save it again") from None
    header.pop("__metadata__", None)
    return [
        (name, Tensor(file, t["dtype"], tuple(t["shape"]), *(8 + length + o for o in t["data_offsets"])))
        for name, t in header.items()
    ]


def _read(tensor: Tensor, size: int = 1 << 24) -> Iterator[bytes]:
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        left = tensor.stop - tensor.start
        while left:
            chunk = stream.read(min(size, left))
            if not chunk:
                raise CheckpointError(f"{tensor.file} became shorter while it was read: run again")
            left -= len(chunk)
            yield chunk


def _check_tensors(folder: Path, config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    for name, shape in expected_shapes(config).items():
        if name not in tensors:
            raise CheckpointError(f"{folder}: tensor {name} is missing, though config.json asks for it")
        found = tensors[name]
        if found.shape != shape:
            raise CheckpointError(f"{folder}: tensor {name} has shape {found.shape}, config.json asks for {shape}")
        if found.dtype not in {"F64", "F32", "F16", "BF16"}:
            raise CheckpointError(f"{folder}: tensor {name} holds {found.dtype}, not floating-point numbers")
    size = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if size == 0:
        raise CheckpointError(f"{folder}: the weight file holds no numbers")
