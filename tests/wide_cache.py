"""A cache file as wide as GPT-2 small's last layers, written as arrays: no model of that size is run."""

import json
from pathlib import Path

import h5py
import numpy as np
from sealed import written

from neurons.cache.format import cache_key, cache_path
from neurons.cache.layout import DTYPE, FORMAT, FORMAT_VERSION, MANIFEST, Sizes, shapes_of, type_of
from neurons.model.files import find_checkpoint
from neurons.task.prompt_set import PromptSet
from neurons.task.prompts import year_spans

LAYERS = (8, 9, 10, 11)
SIGMA = 20.0


def write_wide_cache(folder: Path, *, d_mlp: int = 3072, tuned: float = 0.3, seed: int = 0) -> Path:
    """Where the default request for `mini` looks for its cache: 4 x d_mlp neurons, 20 nouns.

    A share `tuned` of the neurons fires for a window of start years and steps up near its end, so that
    many are called boosting; the others have noise for tuning and a random readout.
    """
    checkpoint = find_checkpoint("mini")
    prompts = year_spans(checkpoint.tokenizer)
    key = cache_key(checkpoint, prompts, LAYERS)
    path = cache_path(folder, checkpoint, key)
    rng = np.random.default_rng(seed)
    with written(path) as file:
        for name, shape in _shapes(prompts, d_mlp).items():
            _create(file, name, shape)
        file["prompts/tokens"][...] = prompts.tokens
        file["prompts/start_year"][...] = prompts.start_year
        file["prompts/century"][...] = prompts.century
        words = file["prompts/noun"]
        words[...] = np.array([word.encode() for word in prompts.noun], dtype=words.dtype)
        file["prompts/counterfactual"][...] = prompts.counterfactual
        file["counterfactual/tokens"][...] = prompts.counterfactual_tokens
        file["years/token_ids"][...] = prompts.year_token_ids
        file["final/scale"][...] = SIGMA
        file["years/gram"][...] = np.eye(100)
        for layer in LAYERS:
            _write_layer(file, rng, layer, prompts, d_mlp, tuned)
        file.attrs.update(
            format=FORMAT, format_version=FORMAT_VERSION, key=key, model="wide", model_sha256="0" * 64,
            layers=np.array(LAYERS, np.int32), dtype=DTYPE, prompts_sha256=prompts.digest, bos=prompts.bos,
            template=prompts.template.text, year_position=prompts.year_position, d_gain=768,
            versions=json.dumps({}), complete=True,
        )  # fmt: skip
    return path


def _shapes(prompts: PromptSet, d_mlp: int) -> dict[str, tuple[int, ...]]:
    P, T = prompts.tokens.shape
    shapes = shapes_of(Sizes(P, T, len(prompts.counterfactual_tokens), d_mlp, LAYERS))
    return {name: tuple(n or 0 for n in shape) for name, shape in shapes.items() if name != MANIFEST}


def _create(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    dtype = h5py.string_dtype("utf-8", 20) if name == "prompts/noun" else type_of(name)
    chunks = tuple(max(1, min(n, most)) for n, most in zip(shape, (64, 512), strict=False))
    limits = {"maxshape": (None, 2)} if 0 in shape else {}
    file.create_dataset(name, data=np.zeros(shape, dtype), dtype=dtype, chunks=chunks, fletcher32=True, **limits)


def _write_layer(
    file: h5py.File, rng: np.random.Generator, layer: int, prompts: PromptSet, d_mlp: int, tuned: float
) -> None:
    year = np.arange(100)
    centre, width = rng.uniform(0, 100, d_mlp), rng.uniform(3, 20, d_mlp)
    window = np.exp(-(((year[:, None] - centre) / width) ** 2) / 2)
    is_tuned = rng.random(d_mlp) < tuned
    gain = 1 + 0.2 * rng.normal(size=(len(set(prompts.noun)), d_mlp))
    _, noun = np.unique(prompts.noun, return_inverse=True)
    post = np.where(is_tuned, 3 * window[prompts.start_year] * gain[noun.reshape(-1)], 0.5)
    post += 0.1 * rng.normal(size=post.shape)
    step = 1 / (1 + np.exp(-(year - centre[:, None] - width[:, None] / 2)))
    readout = np.where(is_tuned[:, None], step, rng.normal(size=(d_mlp, 100))) + 0.2 * rng.normal(size=(d_mlp, 100))
    file[f"mlp/{layer}/post"][...] = post
    file[f"readout/{layer}"][...] = readout
    file[f"readout/{layer}_norm"][...] = np.linalg.norm(readout - readout.mean(1, keepdims=True), axis=1)
