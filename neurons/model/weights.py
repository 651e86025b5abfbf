"""Safetensors files of a checkpoint: find every tensor, check it against the config, read its numbers.

Torch is imported inside `read_weights`, for start-up time alone: a report opens a checkpoint without it.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from neurons.model.config import ModelConfig
from neurons.types import CheckpointError, InputError

if TYPE_CHECKING:
    import torch

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What torch calls the types of safetensors that are read."""
LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""Ends of the names of matrices that are [in, out] in GPT-2's own files, and [out, in] as an nn.Linear."""


NANOGPT = (
    "import json, pathlib, torch; from safetensors.torch import save_file;"
    " saved = torch.load('ckpt.pt', map_location='cpu', weights_only=True); sizes = saved['model_args'];"
    " save_file({name: x.clone() for name, x in saved['model'].items()}, 'model.safetensors');"
    " config = {'model_type': 'gpt2', 'activation_function': 'gelu', 'n_positions': sizes['block_size']};"
    " config |= {name: sizes[name] for name in ('n_layer', 'n_head', 'n_embd', 'vocab_size')};"
    " pathlib.Path('config.json').write_text(json.dumps(config))"
)
"""Converts nanoGPT's ckpt.pt in its directory, running no code of it (`weights_only`). Its GELU is the exact one."""
HEADS = {
    "score.": "GPT2ForSequenceClassification",
    "classifier.": "GPT2ForTokenClassification",
    "qa_outputs.": "GPT2ForQuestionAnswering",
    "multiple_choice_head.": "GPT2DoubleHeadsModel",
}
"""Tensors of other heads, and the class of Hugging Face that writes them."""


@dataclass(frozen=True)
class Tensor:
    """The place of one tensor's bytes: `file[start:stop]`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int
    is_transposed: bool = False
    """Stored as nn.Linear has it, [out, in]; GPT-2's own files have [in, out]."""


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name, without `transformer.`, and shape of every tensor that GPT-2 uses."""
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


def refuse_nanogpt(folder: Path) -> None:
    """Raise `InputError`, with the lines that convert it, where the folder holds nanoGPT's ckpt.pt alone."""
    if (folder / "ckpt.pt").is_file() and not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} holds nanoGPT's ckpt.pt, a pickle, which can run code and is never opened: convert it there with"
            f" `{NANOGPT}` and put GPT-2's vocab.json and merges.txt beside it"
        )


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors files, by GPT-2's name."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        files = _indexed_files(folder, index)
    else:
        raise InputError(f"{folder} holds no checkpoint: {_weights_found(folder)}")
    stored = {name: tensor for file in files for name, tensor in read_header(file)}
    names = gpt2_names(stored)
    return {names[name]: tensor for name, tensor in stored.items()}


def gpt2_names(stored: Iterable[str]) -> dict[str, str]:
    """GPT-2's name of each tensor: without `transformer.`, and without a wrapper's prefix where all tensors have it.

    Wrappers are DistributedDataParallel (`module.`), torch.compile (`_orig_mod.`) and modules of the user's own.
    """
    names = list(stored)
    embeddings = [name for name in names if name.endswith(".wte.weight")]
    prefix = embeddings[0].removesuffix("wte.weight").removesuffix("transformer.") if len(embeddings) == 1 else ""
    if not all(name.startswith(prefix) for name in names):
        prefix = ""
    return {name: name.removeprefix(prefix).removeprefix("transformer.") for name in names}


def _weights_found(folder: Path) -> str:
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


def read_bytes(tensor: Tensor, size: int = 1 << 24) -> Iterator[bytes]:
    """A tensor's bytes, in pieces."""
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        left = tensor.stop - tensor.start
        while left:
            chunk = stream.read(min(size, left))
            if not chunk:
                raise CheckpointError(f"{tensor.file} became shorter while it was read: run again")
            left -= len(chunk)
            yield chunk


def gpt2_tensors(folder: Path, config: ModelConfig, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that GPT-2 uses, and which of them are stored transposed.

    Biases may be absent from all layers (nanoGPT's `bias=False`): they are zero.
    Raises `CheckpointError` where a tensor is missing or has another shape or type than config.json asks for.
    """
    shapes = _stored_shapes(config, stored)
    for name in shapes:
        if name not in stored:
            head = other_head(stored) if name == "lm_head.weight" else None
            lost = f": {head} was saved without the language head" if head else ""
            raise CheckpointError(f"{folder}: tensor {name} is missing, though config.json asks for it{lost}")
    is_linear = _is_linear(folder, shapes, stored)
    used = {}
    for name, shape in shapes.items():
        found, is_transposed = stored[name], is_linear and name.endswith(LINEAR)
        if found.shape != (shape[::-1] if is_transposed else shape):
            raise CheckpointError(f"{folder}: tensor {name} has shape {found.shape}, config.json asks for {shape}")
        if found.dtype not in DTYPES:
            raise CheckpointError(f"{folder}: tensor {name} holds {found.dtype}, not floating-point numbers")
        used[name] = replace(found, is_transposed=is_transposed)
    return used


def other_head(stored: Iterable[str]) -> str | None:
    """The class of Hugging Face whose head is stored beside GPT-2, if one is."""
    return next((head for name in stored for start, head in HEADS.items() if name.startswith(start)), None)


def layout_notes(config: ModelConfig, stored: Iterable[str], used: dict[str, Tensor]) -> tuple[str, ...]:
    """What a reader of results must know of how the checkpoint is stored."""
    notes = []
    if any(tensor.is_transposed for tensor in used.values()):
        notes.append("matrices are stored as nn.Linear has them and were transposed")
    if len(used) < len(expected_shapes(config)):
        notes.append("no bias is stored: all are zero")
    if head := other_head(stored):
        notes.append(f"saved by {head}: the language head is {'the embedding' if config.tied else 'its own'}")
    return tuple(notes)


def _stored_shapes(config: ModelConfig, stored: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that must be stored: all but the biases where there is none."""
    shapes = expected_shapes(config)
    if any(name.endswith(".bias") for name in shapes.keys() & set(stored)):
        return shapes
    return {name: shape for name, shape in shapes.items() if not name.endswith(".bias")}


def _is_linear(folder: Path, shapes: dict[str, tuple[int, ...]], stored: dict[str, Tensor]) -> bool:
    """Return whether the weights are [out, in], from those that are not square, which must agree."""
    oblong = [name for name, shape in shapes.items() if name.endswith(LINEAR) and shape[0] != shape[1]]
    linear = [name for name in oblong if stored[name].shape == shapes[name][::-1]]
    own = [name for name in oblong if stored[name].shape == shapes[name]]
    if linear and own:
        raise CheckpointError(
            f"{folder}: tensor {linear[0]} is stored as [out, in] and {own[0]} as [in, out], so that the orientation of"
            " the square attn.c_proj.weight is ambiguous: save all in one orientation"
        )
    return bool(linear)


def read_weights(config: ModelConfig, tensors: dict[str, Tensor]) -> "dict[str, torch.Tensor]":
    """Every tensor of GPT-2 in float32 and as [in, out], each read from its place in its file; absent biases are zero.

    Read and not mapped: a checkpoint that training overwrites later changes nothing here, and cannot end the process.
    Memory is one copy of the weights, and a second one of one tensor at a time where it is converted or transposed.
    """
    import torch

    shapes = expected_shapes(config)
    return {name: _read(tensors[name]) if name in tensors else torch.zeros(shape) for name, shape in shapes.items()}


def _read(tensor: Tensor) -> "torch.Tensor":
    import torch

    found = torch.empty(tensor.shape, dtype=getattr(torch, DTYPES[tensor.dtype]))
    into = found.view(-1).view(torch.uint8).numpy().data
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start)
        if stream.readinto(into) != tensor.stop - tensor.start:
            raise CheckpointError(f"{tensor.file} became shorter while it was read: run again")
    return (found.T if tensor.is_transposed else found).float().contiguous()
