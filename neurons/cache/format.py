"""The cache file: names, key, opening and checking. No torch, no model.

`docs/cache-format.md` is the format in words. A file is opened for each read and closed again, so a
`Cache` can be copied, pickled and used from several processes.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Int

from neurons.model.files import Checkpoint
from neurons.task.prompts import Missing, PromptSet
from neurons.task.years import N_YEARS
from neurons.types import CacheError, InputError, NeuronId

FORMAT = "neurons-cache"
FORMAT_VERSION = 1
HOOK = "mlp.hook_post at END"
DTYPE = "float32"
SUFFIX = ".h5"


def cache_key(checkpoint: Checkpoint, prompts: PromptSet, layers: Sequence[int]) -> str:
    """SHA-256 of everything that changes the numbers: weights, config, prompts, layers, hook, type, format."""
    parts = {
        "format_version": FORMAT_VERSION,
        "model": checkpoint.fingerprint,
        "config": asdict(checkpoint.config),
        "prompts": prompts.digest,
        "layers": sorted(layers),
        "hook": HOOK,
        "dtype": DTYPE,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cache_path(folder: Path, checkpoint: Checkpoint, key: str) -> Path:
    """Where the cache of this key lies: the model's name in front, for people."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", checkpoint.name).strip("._") or "model"
    return folder / f"{name[:60]}-{key[:16]}{SUFFIX}"


def expected_shapes(
    P: int, T: int, Q: int, d_model: int, d_mlp: int, layers: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Every dataset that a complete file holds, with its shape; `prompts/missing` alone has a free length."""
    shapes: dict[str, tuple[int, ...]] = {
        "prompts/tokens": (P, T),
        "prompts/start_year": (P,),
        "prompts/century": (P,),
        "prompts/noun": (P,),
        "prompts/counterfactual": (P,),
        "counterfactual/tokens": (Q, T),
        "counterfactual/year_logits": (Q, N_YEARS),
        "counterfactual/logsumexp": (Q,),
        "years/token_ids": (N_YEARS,),
        "years/gram": (N_YEARS, N_YEARS),
        "final/scale": (P,),
        "final/year_logits": (P, N_YEARS),
        "final/logsumexp": (P,),
        "final/residual": (P, d_model),
    }
    for layer in layers:
        shapes |= {
            f"mlp/{layer}/post": (P, d_mlp),
            f"mlp/{layer}/post_01": (Q, d_mlp),
            f"readout/{layer}": (d_mlp, N_YEARS),
            f"readout/{layer}_bias": (N_YEARS,),
            f"readout/{layer}_norm": (d_mlp,),
            f"readout_plain/{layer}": (d_mlp, N_YEARS),
        }
    return shapes


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """The file opened for reading; every way in which that fails is one `CacheError`."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except FileNotFoundError:
        raise CacheError(f"cache {path} is not there: `neurons cache list` shows what is") from None
    except (OSError, LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CacheError(f"cache {path} cannot be read ({reason}): delete it and run again to rebuild it") from None


@dataclass(frozen=True, eq=False)
class Cache:
    """One cache file, opened and checked. P prompts, N neurons a layer; arrays are read when asked for."""

    path: Path
    key: str
    model: str
    model_sha256: str
    layers: tuple[int, ...]
    d_mlp: int
    d_gain: int
    template: str
    versions: dict[str, str]
    start_year: Int[np.ndarray, " P"]
    century: Int[np.ndarray, " P"]
    noun: tuple[str, ...]
    counterfactual: Int[np.ndarray, " P"]
    missing: tuple[Missing, ...]

    def __len__(self) -> int:
        return len(self.start_year)

    def read(self, dataset: str, part: Any = ()) -> np.ndarray:
        """A dataset, or a slice of it."""
        with reading(self.path) as file:
            return np.asarray(file[dataset][part])

    @cached_property
    def scale(self) -> Float[np.ndarray, " P"]:
        """The final LayerNorm's sigma at END."""
        return self.read("final/scale")

    @cached_property
    def year_logits(self) -> Float[np.ndarray, "P 100"]:
        return self.read("final/year_logits")

    @cached_property
    def logsumexp(self) -> Float[np.ndarray, " P"]:
        """Over the full vocabulary."""
        return self.read("final/logsumexp")

    @cached_property
    def gram(self) -> Float[np.ndarray, "100 100"]:
        """G G^T, G the year rows of the unembedding times the final gain, centred."""
        return self.read("years/gram")

    def post(self, layer: int, neurons: slice = slice(None)) -> Float[np.ndarray, "P N"]:
        """Activations after the nonlinearity at END."""
        return self.read(f"mlp/{self.check_layer(layer)}/post", (slice(None), neurons))

    def post_01(self, layer: int, neurons: slice = slice(None)) -> Float[np.ndarray, "Q N"]:
        """The same on the 01-counterfactuals; `counterfactual` [P] says which row is a prompt's own."""
        return self.read(f"mlp/{self.check_layer(layer)}/post_01", (slice(None), neurons))

    def readout(self, layer: int, neurons: slice = slice(None), *, plain: bool = False) -> Float[np.ndarray, "N 100"]:
        """Logits of the years for each unit of a/sigma; `plain`: W_out times the raw W_U, for each unit of a."""
        group = "readout_plain" if plain else "readout"
        return self.read(f"{group}/{self.check_layer(layer)}", (neurons,))

    def check_layer(self, layer: int) -> int:
        if layer not in self.layers:
            raise InputError(f"layer {layer} is not in this cache: it holds layers {format_layers(self.layers)}")
        return layer

    def check_neuron(self, neuron: str | NeuronId) -> NeuronId:
        """The neuron, or `InputError` when it is none or lies outside the cached layers."""
        found = NeuronId.parse(neuron)
        if found.layer not in self.layers:
            raise InputError(
                f"{found} is outside the cached layers {format_layers(self.layers)}: choose a neuron there or"
                " name its layer with --layers"
            )
        if found.index >= self.d_mlp:
            raise InputError(f"{found} does not exist: layer {found.layer} has neurons 0-{self.d_mlp - 1}")
        return found


def format_layers(layers: Sequence[int]) -> str:
    """`8-11` for consecutive layers, `3, 8` otherwise."""
    layers = sorted(layers)
    if len(layers) > 1 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}-{layers[-1]}"
    return ", ".join(map(str, layers))


def open_cache(path: str | os.PathLike[str]) -> Cache:
    """Open a cache file without a model and without torch.

    Raises `CacheError` for a file that is no cache, of another version, incomplete, or with datasets
    missing or of another shape than its attributes say.
    """
    path = Path(path)
    with reading(path) as file:
        attributes = dict(file.attrs)
        _check_version(path, attributes)
        layers = tuple(int(layer) for layer in attributes["layers"])
        _check_datasets(path, file, layers)
        noun = tuple(word.decode("utf-8") for word in file["prompts/noun"][()])
        return Cache(
            path=path,
            key=str(attributes["key"]),
            model=str(attributes["model"]),
            model_sha256=str(attributes["model_sha256"]),
            layers=layers,
            d_mlp=file[f"mlp/{layers[0]}/post"].shape[1],
            d_gain=int(attributes["d_gain"]),
            template=str(attributes["template"]),
            versions=json.loads(attributes["versions"]),
            start_year=file["prompts/start_year"][()],
            century=file["prompts/century"][()],
            noun=noun,
            counterfactual=file["prompts/counterfactual"][()],
            missing=tuple(Missing(int(c), int(y)) for c, y in file["prompts/missing"][()]),
        )


def _check_version(path: Path, attributes: dict[str, Any]) -> None:
    if attributes.get("format") != FORMAT:
        raise CacheError(f"{path} is not a neurons cache: give a file that `neurons cache build` wrote")
    if attributes.get("format_version") != FORMAT_VERSION:
        raise CacheError(
            f"cache {path} has format version {attributes.get('format_version')}, this program reads version"
            f" {FORMAT_VERSION}: delete it and run again to rebuild it"
        )
    if not attributes.get("complete", False):
        raise CacheError(f"cache {path} is not complete: delete it and run again to rebuild it")


def _check_datasets(path: Path, file: h5py.File, layers: Sequence[int]) -> None:
    P, T = file["prompts/tokens"].shape
    Q, d_model = file["counterfactual/tokens"].shape[0], file["final/residual"].shape[1]
    d_mlp = file[f"mlp/{layers[0]}/post"].shape[1]
    for name, shape in expected_shapes(P, T, Q, d_model, d_mlp, layers).items():
        if name not in file or file[name].shape != shape:
            raise CacheError(f"cache {path}: dataset {name} is missing or not {shape}: delete it and run again")
