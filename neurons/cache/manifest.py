"""The manifest inside a cache file: the SHA-256 of each dataset, of each block of prompts, of the attributes.

It says which dataset is bad where the seal only says that something is, and which blocks of prompts can be
kept in a repair. It begins with its own SHA-256, so that it can be trusted in a damaged file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from neurons.cache.layout import MANIFEST

ROWS = 1024
"""Rows of a dataset in memory at once."""


@dataclass(frozen=True)
class Manifest:
    """datasets: name -> SHA-256 of type, shape and numbers. blocks: name of a block of prompts -> its SHA-256."""

    datasets: Mapping[str, str]
    blocks: Mapping[str, str]
    attributes: str

    def encode(self) -> bytes:
        text = json.dumps({name: dict(v) if isinstance(v, Mapping) else v for name, v in vars(self).items()}).encode()
        return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def decode(raw: bytes) -> Manifest:
    """Raises `ValueError` for anything that `Manifest.encode` did not write."""
    own, _, text = raw.partition(b"\n")
    if own != hashlib.sha256(text).hexdigest().encode():
        raise ValueError("the manifest is damaged")
    return Manifest(**json.loads(text))


def read_manifest(file: h5py.File) -> Manifest:
    return decode(file[MANIFEST][()].tobytes())


def dataset_digest(dataset: h5py.Dataset) -> str:
    """SHA-256 of a dataset's type, shape and numbers, read a part at a time."""
    h = hashlib.sha256(f"{dataset.dtype.str} {dataset.shape}".encode())
    for start in range(0, len(dataset), ROWS):
        h.update(np.ascontiguousarray(dataset[start : start + ROWS]).tobytes())
    return h.hexdigest()


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays."""
    h = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        h.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def attributes_digest(file: h5py.File) -> str:
    """SHA-256 of the file's attributes."""
    plain = {name: np.asarray(value).tolist() for name, value in file.attrs.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def bad_parts(file: h5py.File, manifest: Manifest, names: Iterable[str] | None = None) -> Iterator[str]:
    """What cannot be read to the end or is not what was written: names of datasets (default all), `attributes`."""
    for name in sorted(manifest.datasets) if names is None else names:
        digest = manifest.datasets.get(name, "")
        if _or_none(lambda name: _bounded_digest(file[name]), name) != digest:
            yield name
    if _or_none(attributes_digest, file) != manifest.attributes:
        yield "attributes"


def _bounded_digest(dataset: h5py.Dataset) -> str:
    """Of a dataset that may be damaged: its shape is not believed beyond the length of the file."""
    if dataset.nbytes > dataset.file.id.get_filesize():
        raise ValueError("larger than the file")
    return dataset_digest(dataset)


def _or_none(digest: Callable[[Any], str], of: Any) -> str | None:
    try:
        return digest(of)
    except Exception:  # whatever HDF5 raises on damaged bytes
        return None


def as_array(manifest: Manifest) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(manifest.encode(), np.uint8)
