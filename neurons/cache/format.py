"""The cache file: key, name, opening, reading and verification. No torch, no model.

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

from neurons.cache import integrity
from neurons.cache.checks import check_file
from neurons.cache.folder import find_file
from neurons.cache.integrity import ROWS, bad_parts, check_seal, unreadable
from neurons.cache.layout import DTYPE, HOOK, NEURON_CHUNK, PROMPT_CHUNK, SUFFIX, Dtype
from neurons.model.files import Checkpoint
from neurons.remembered import beside
from neurons.shown import Shown
from neurons.task.prompt_set import Missing, PromptSet
from neurons.task.years import N_YEARS
from neurons.types import CacheError, InputError, NeuronId, check_is, check_whole, quoted

READ_AT_ONCE = ("prompts/start_year", "prompts/century", "prompts/noun", "prompts/counterfactual", "prompts/missing")
"""Datasets of which every opening checks the digest; of the others `verify` does, and fletcher32 when they are read."""

BLOCK_NUMBERS = 1 << 21
"""Numbers of one dataset that an analysis has in memory at once: 8 MB."""

KEY_VERSION = 1
"""Raised when the same request gives other numbers. A new layout of the file alone leaves it as it is."""


def cache_key(checkpoint: Checkpoint, prompts: PromptSet, layers: Sequence[int], dtype: Dtype = DTYPE) -> str:
    """Return the SHA-256 of everything that changes the numbers: weights, config, prompts, layers, hook, type."""
    return key_of(checkpoint, prompts.digest, layers, dtype)


def key_of(checkpoint: Checkpoint, prompts_sha256: str, layers: Sequence[int], dtype: Dtype) -> str:
    """Return the `cache_key` of prompts that are known by their digest."""
    parts = {
        "format_version": KEY_VERSION,
        "model": checkpoint.fingerprint,
        "config": asdict(checkpoint.config),
        "prompts": prompts_sha256,
        "layers": sorted(layers),
        "hook": HOOK,
        "dtype": dtype,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cache_path(folder: Path, checkpoint: Checkpoint, key: str) -> Path:
    """Return where the cache of this key lies: the model's name in front, for people."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", checkpoint.name).strip("._") or "model"
    return folder / f"{name[:60]}-{key[:16]}{SUFFIX}"


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Open the file for reading; every way in which that fails is one `CacheError`."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except FileNotFoundError:
        raise CacheError(f"cache {path} does not exist: `neurons cache list` shows those that do") from None
    except (OSError, LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise unreadable(path, reason) from None


@dataclass(frozen=True, eq=False, repr=False)
class Cache(Shown):
    """One cache file, opened and checked. P prompts, N neurons a layer; arrays are read when asked for.

    start_year [P], 0..99; century [P], 16 for 1600-1699; counterfactual [P]: the row of each prompt's
    01-counterfactual; missing: cells of the century x year table without a prompt. bytes_checked: False for
    files above 1 GiB, of which only `verify` checks every byte.
    """

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
    prompts_sha256: str = ""
    dtype: Dtype = DTYPE
    bytes_checked: bool = True

    def __len__(self) -> int:
        return len(self.start_year)

    def summary(self) -> dict[str, object]:
        return {
            "model": self.model,
            "prompts": len(self),
            "layers": format_layers(self.layers),
            "neurons": f"{self.d_mlp} a layer",
            "path": self.path,
        }

    def read(self, dataset: str, part: Any = ()) -> np.ndarray:
        """Read a dataset as stored, or a slice of it, never less than float32; units in `docs/cache-format.md`."""
        check_is("dataset", dataset, str, "the name of a dataset")
        with reading(self.path) as file:
            if not isinstance(file.get(dataset), h5py.Dataset):
                raise InputError(
                    f"invalid dataset {quoted(dataset)}: docs/cache-format.md lists the datasets of a cache"
                )
            values = np.asarray(file[dataset][part])
            return values.astype(np.float32) if values.dtype == np.float16 else values

    def _of_each_prompt(self, dataset: str) -> Float[np.ndarray, " P"]:
        with reading(self.path) as file:
            return _whole(file[dataset])

    def row_blocks(self, width: int) -> Iterator[slice]:
        """Yield slices of the prompts, so many at a time that `width` numbers of each fit in a bounded memory."""
        size = max(1, BLOCK_NUMBERS // max(width, NEURON_CHUNK) // PROMPT_CHUNK) * PROMPT_CHUNK
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    @cached_property
    def scale(self) -> Float[np.ndarray, " P"]:
        """The final LayerNorm's sigma at END."""
        return self._of_each_prompt("final/scale")

    @property
    def year_logits(self) -> Float[np.ndarray, "P 100"]:
        """Logits of the 100 two-digit years at END, of all prompts: `row_blocks` and `read` give a part at a time."""
        return self.read("final/year_logits")

    @cached_property
    def logsumexp(self) -> Float[np.ndarray, " P"]:
        """Log-sum-exp of the logits at END, over the full vocabulary."""
        return self._of_each_prompt("final/logsumexp")

    @cached_property
    def gram(self) -> Float[np.ndarray, "100 100"]:
        """G G^T, G the year rows of the unembedding times the final gain, centred."""
        return self.read("years/gram")

    def post(self, layer: int, neurons: slice = slice(None), rows: slice = slice(None)) -> Float[np.ndarray, "P N"]:
        """Read activations after the nonlinearity (`hook_post`) at END."""
        return self.read(f"mlp/{self.check_layer(layer)}/post", (rows, neurons))

    def readout(self, layer: int, neurons: slice = slice(None), *, plain: bool = False) -> Float[np.ndarray, "N 100"]:
        """Read the years' logits for each unit of a/sigma; `plain`: W_out times the raw W_U, for each unit of a."""
        group = "readout_plain" if plain else "readout"
        return self.read(f"{group}/{self.check_layer(layer)}", (neurons,))

    def check_layer(self, layer: int) -> int:
        """Return the layer; raises `InputError` when it is not cached."""
        if check_whole("layer", layer) not in self.layers:
            raise InputError(f"layer {layer} is not in this cache: it holds layers {format_layers(self.layers)}")
        return int(layer)

    def check_neuron(self, neuron: str | NeuronId) -> NeuronId:
        """Return the neuron; raises `InputError` when it is none or lies outside the cached layers."""
        found = NeuronId.parse(neuron)
        if found.layer not in self.layers:
            raise InputError(
                f"{found} is outside the cached layers {format_layers(self.layers)}: choose a neuron there,"
                " or layers with it"
            )
        if found.index >= self.d_mlp:
            raise InputError(f"{found} does not exist: layer {found.layer} has neurons 0-{self.d_mlp - 1}")
        return found


def format_layers(layers: Sequence[int]) -> str:
    """Write `8-11` for consecutive layers, `3, 8` otherwise."""
    layers = sorted(layers)
    if len(layers) > 1 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}-{layers[-1]}"
    return ", ".join(map(str, layers))


def open_cache(path: str | os.PathLike[str]) -> Cache:
    """Open a cache file without a model and without torch: by path, or by name within NEURONS_CACHE_DIR, else `cache`.

    The seal is checked before HDF5 sees the file (`bytes_checked` is False where it is so large that only
    `verify` does), unless it was today and the file has not changed; then that it is exactly what the format says.

    Raises `CacheError` for a file that is no cache, damaged, of another version, incomplete, or with datasets
    missing or of another shape than its attributes say.
    """
    check_is("path", path, str | os.PathLike, "the path of a cache file")
    path = find_file(path)
    bytes_checked = check_seal(path, limit=integrity.CHECK_LIMIT, remembered=beside(path.parent))
    with reading(path) as file:
        attributes, sizes = check_file(file)
        cache = Cache(
            path=path,
            key=attributes["key"],
            model=attributes["model"],
            model_sha256=attributes["model_sha256"],
            prompts_sha256=attributes["prompts_sha256"],
            dtype=attributes["dtype"],
            layers=sizes.layers,
            d_mlp=sizes.N,
            d_gain=attributes["d_gain"],
            template=attributes["template"],
            versions=json.loads(attributes["versions"]),
            start_year=_within(file, "prompts/start_year", 0, N_YEARS),
            century=_whole(file["prompts/century"]),
            noun=_words(file["prompts/noun"]),
            counterfactual=_within(file, "prompts/counterfactual", 0, sizes.Q),
            missing=tuple(Missing(int(c), int(y)) for c, y in file["prompts/missing"][()]),
            bytes_checked=bytes_checked,
        )
        for name in bad_parts(file, READ_AT_ONCE):
            raise ValueError(f"{name}: not what was written")
        return cache


def verify_cache(path: str | os.PathLike[str]) -> None:
    """Check the seal over all bytes, whatever the file's size, then its structure and each dataset's digest.

    Raises `CacheError`, which names the datasets that are bad where the seal is whole.
    """
    path = find_file(path)
    check_seal(path)
    open_cache(path)
    with reading(path) as file:
        bad = tuple(bad_parts(file))
    if bad:
        raise unreadable(path, f"it is damaged: {', '.join(bad)}")


def _parts(dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    """Yield the rows of a dataset, not all at once: HDF5 keeps some kilobytes for each chunk of a selection."""
    for start in range(0, len(dataset), ROWS):
        yield dataset[start : start + ROWS]


def _whole(dataset: h5py.Dataset) -> np.ndarray:
    return np.concatenate(list(_parts(dataset)))


def _words(dataset: h5py.Dataset) -> tuple[str, ...]:
    """Return the words, with one string for each distinct one, however many prompts share it."""
    known: dict[bytes, str] = {}
    return tuple(
        known.get(word) or known.setdefault(word, word.decode("utf-8"))
        for part in _parts(dataset)
        for word in part.tolist()
    )


def _within(file: h5py.File, name: str, low: int, high: int) -> Int[np.ndarray, " P"]:
    values = _whole(file[name])
    if ((values < low) | (values >= high)).any():
        raise ValueError(f"dataset {name} holds numbers outside {low}-{high - 1}")
    return values
