"""Build a cache file, once: prompts through the model, block by block, into a temporary file that is renamed.

What a reader needs later (readouts, Gram matrix, norms) is computed here too, so that every analysis of
direct effects runs from the file alone.
"""

import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from neurons.cache.format import (
    DTYPE,
    FORMAT,
    FORMAT_VERSION,
    SUFFIX,
    Cache,
    cache_key,
    cache_path,
    expected_shapes,
    open_cache,
)
from neurons.model.checkpoint import Model
from neurons.model.forward import EndRun, run_in_blocks
from neurons.task.prompts import PromptSet
from neurons.types import CacheError, Progress

PROMPT_CHUNK, NEURON_CHUNK = 64, 512


def cache_activations(
    model: Model,
    prompts: PromptSet,
    *,
    layers: Iterable[int] | None = None,
    cache_dir: str | os.PathLike[str] = "cache",
    progress: Progress | None = None,
) -> Cache:
    """The cache of these prompts and layers: opened where it exists, built where it does not.

    layers: default the last third of the model's. A file whose key is the same holds the same numbers,
    so it is reused by every analysis and process.

    Raises `InputError` for a layer outside the model, `CacheError` when the folder cannot be written or
    an existing file cannot be read.
    """
    chosen = model.config.check_layers(tuple(layers) if layers is not None else model.config.default_layers)
    folder = Path(cache_dir)
    key = cache_key(model.checkpoint, prompts, chosen)
    path = cache_path(folder, model.checkpoint, key)
    if not path.exists():
        with _replacing(path) as temporary:
            _write(temporary, model, prompts, chosen, key, progress)
    return open_cache(path)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that takes the name `path` only when everything was written."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=SUFFIX + ".tmp", dir=path.parent)
        temporary = Path(name)
        os.close(handle)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise CacheError(
            f"cache folder {path.parent} cannot be written ({reason}): choose another with --cache-dir"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _write(
    path: Path, model: Model, prompts: PromptSet, layers: tuple[int, ...], key: str, progress: Progress | None
) -> None:
    with h5py.File(path, "w", locking=False) as file:
        _create_datasets(file, model, prompts, layers)
        _write_prompts(file, prompts)
        _write_readouts(file, model, prompts, layers)
        _write_runs(file, model, prompts, layers, progress)
        file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            key=key,
            model=model.name,
            model_sha256=model.fingerprint,
            layers=np.array(layers, dtype=np.int32),
            dtype=DTYPE,
            prompts_sha256=prompts.digest,
            bos=prompts.bos,
            template=prompts.template.text,
            year_position=prompts.year_position,
            d_gain=int((model.ln_final.gain != 0).sum()),
            versions=json.dumps(_versions()),
            complete=True,
        )


def _versions() -> dict[str, str]:
    packages = ("neurons", "numpy", "torch", "transformers", "transformer_lens", "h5py")
    return {name: importlib.metadata.version(name) for name in packages}


def _create_datasets(file: h5py.File, model: Model, prompts: PromptSet, layers: tuple[int, ...]) -> None:
    P, T = prompts.tokens.shape
    Q = len(prompts.counterfactual_tokens)
    integers = {"start_year": "int16", "century": "int16", "tokens": "int32", "counterfactual": "int32",
                "token_ids": "int32"}  # fmt: skip
    longest = max(len(word.encode("utf-8")) for word in prompts.noun)
    shapes = expected_shapes(P, T, Q, model.config.d_model, model.config.d_mlp, layers)
    for name, shape in (shapes | {"prompts/missing": (len(prompts.missing), 2)}).items():
        dtype = integers.get(name.rsplit("/", 1)[-1], DTYPE)
        if name == "prompts/noun":
            dtype = h5py.string_dtype("utf-8", longest)
        elif name == "prompts/missing":
            dtype = "int16"
        chunks = tuple(max(1, min(n, c)) for n, c in zip(shape, (PROMPT_CHUNK, NEURON_CHUNK), strict=False))
        empty = {"maxshape": (None, 2)} if 0 in shape else {}
        file.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True, **empty)


def _write_prompts(file: h5py.File, prompts: PromptSet) -> None:
    file["prompts/tokens"][...] = prompts.tokens
    file["prompts/start_year"][...] = prompts.start_year
    file["prompts/century"][...] = prompts.century
    words = file["prompts/noun"]
    words[...] = np.array([word.encode("utf-8") for word in prompts.noun], dtype=words.dtype)
    file["prompts/counterfactual"][...] = prompts.counterfactual
    file["counterfactual/tokens"][...] = prompts.counterfactual_tokens
    file["years/token_ids"][...] = prompts.year_token_ids
    if prompts.missing:
        file["prompts/missing"][...] = [(cell.century, cell.year) for cell in prompts.missing]


@torch.inference_mode()
def _write_readouts(file: h5py.File, model: Model, prompts: PromptSet, layers: tuple[int, ...]) -> None:
    """What each neuron writes on the years for each unit of a/sigma, and what its significance needs.

    Computed in float64, kept in float32: the sums over the residual dimensions are done once.
    """
    ids = torch.as_tensor(prompts.year_token_ids, dtype=torch.long)
    readout = model.year_readout(ids).double()
    file["years/gram"][...] = (readout.T @ readout).numpy()
    visible = model.ln_final.gain != 0
    unembedding = model.W_U[ids].double()
    for layer in layers:
        block = model.blocks[layer]
        W_out = block.W_out.double()
        file[f"readout/{layer}"][...] = (W_out @ readout).numpy()
        file[f"readout/{layer}_bias"][...] = (block.b_out.double() @ readout).numpy()
        file[f"readout/{layer}_norm"][...] = visible_norm(W_out, visible).numpy()
        file[f"readout_plain/{layer}"][...] = (W_out @ unembedding.T).numpy()


def visible_norm(W_out: Float[Tensor, "N d"], visible: Tensor) -> Float[Tensor, " N"]:
    """Norm of each centred w_out, over the dimensions that the final gain lets through (all, in GPT-2)."""
    centred = W_out - W_out.mean(1, keepdim=True)
    return centred[:, visible].norm(dim=1)


def _write_runs(
    file: h5py.File, model: Model, prompts: PromptSet, layers: tuple[int, ...], progress: Progress | None
) -> None:
    run_all = partial(
        run_in_blocks, model, shared=prompts.year_position, layers=layers, year_token_ids=prompts.year_token_ids
    )
    P, Q = len(prompts), len(prompts.counterfactual_tokens)
    for part, run in run_all(tokens=prompts.tokens):
        _write_run(file, part, run, "final", "post")
        file["final/scale"][part] = run.scale.numpy()
        file["final/residual"][part] = run.residual.numpy()
        if progress:
            progress(part.stop, P + Q)
    for part, run in run_all(tokens=prompts.counterfactual_tokens):
        _write_run(file, part, run, "counterfactual", "post_01")
        if progress:
            progress(P + part.stop, P + Q)


def _write_run(file: h5py.File, part: slice, run: EndRun, group: str, post: str) -> None:
    for layer, activations in run.post.items():
        file[f"mlp/{layer}/{post}"][part] = activations.numpy()
    file[f"{group}/year_logits"][part] = run.year_logits.numpy()
    file[f"{group}/logsumexp"][part] = run.logsumexp.numpy()
