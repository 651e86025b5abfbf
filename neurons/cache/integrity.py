"""Integrity of a cache file: the seal in front of it and the manifest inside.

1. The seal: HDF5 leaves the first 512 bytes of a file to its user. They hold a magic word, the length and the SHA-256
   of everything behind them, and are checked before the HDF5 library sees the file, because a flipped bit in HDF5's
   own metadata can slip past every checksum inside, or crash the library. All 512 bytes are determined by the rest of
   the file, so a flip among them does not go unnoticed either.
2. The manifest: the SHA-256 of each dataset and of the attributes, behind its own. It names what was changed by a
   program that sealed the file again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurons.cache.layout import FORMAT, MANIFEST
from neurons.remembered import Remembered
from neurons.types import CacheError

SEAL_SIZE = 512
SEAL_VERSION = 1
CHECK_LIMIT = 1 << 30
"""Bytes up to which a file is hashed whenever it is opened (0.09 s for 100 MB); beyond, only by `verify`."""
ROWS = 1024
"""Rows of a dataset in memory at once."""


def unreadable(path: object, reason: str) -> CacheError:
    """Return the refusal of a damaged file: its name, the reason, and how to rebuild it."""
    return CacheError(f"cache {path} cannot be read ({reason}): delete it and run again to rebuild it")


# --- the seal ---------------------------------------------------------------------------------------


def write_seal(path: Path) -> None:
    """Fill in the first 512 bytes from what is behind them. Raises `OSError`."""
    text = _seal(_digest(path), path.stat().st_size - SEAL_SIZE)
    with path.open("r+b") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def check_seal(path: Path, *, limit: int | None = None, remembered: Remembered | None = None) -> bool:
    """Check the seal; returns whether all bytes were hashed, which those of a file larger than `limit` are not.

    limit: default none. remembered: digests known from earlier, of files that have not changed since.

    Raises `CacheError` for a file without a seal or with other bytes than were sealed.
    """
    found, size = _read_seal(path)
    if not found.startswith(FORMAT.encode() + b" "):
        raise CacheError(
            f"cache {path} cannot be read (not a cache of this program): give a file that `neurons cache build`"
            " wrote, or delete it and run again"
        )
    if limit is not None and size > limit:
        if found == _seal(_digest_in(found), size - SEAL_SIZE):
            return False
        raise unreadable(path, "its seal does not fit its length")
    digest = remembered.digest("seal", [path], lambda: _digest(path)) if remembered else _digest(path)
    if found != _seal(digest, size - SEAL_SIZE):
        raise unreadable(path, "it is damaged: its bytes are not those that were written")
    return True


def _read_seal(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            return file.read(SEAL_SIZE), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise CacheError(f"cache {path} does not exist: `neurons cache list` shows those that do") from None
    except OSError as error:
        raise CacheError(
            f"cache {path} cannot be read ({error.strerror}): check the name and its permissions"
        ) from None


def _digest(path: Path) -> str:
    """Return the SHA-256 of what is behind the seal."""
    with path.open("rb") as file:
        file.seek(SEAL_SIZE)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(digest: str, length: int) -> bytes:
    return f"{FORMAT} {SEAL_VERSION}\nsha256 {digest}\nlength {length}\n".encode("ascii", "replace").ljust(
        SEAL_SIZE, b"\0"
    )


def _digest_in(seal: bytes) -> str:
    return seal.decode("ascii", "replace").partition("sha256 ")[2].partition("\n")[0]


# --- the manifest -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Manifest:
    """datasets: name -> SHA-256 of type, shape and numbers. attributes: their SHA-256."""

    datasets: Mapping[str, str]
    attributes: str

    def encode(self) -> bytes:
        text = json.dumps({"datasets": dict(self.datasets), "attributes": self.attributes}).encode()
        return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def decode(raw: bytes) -> Manifest:
    """Read what `Manifest.encode` wrote, in any version of the format; raises `ValueError` for anything else."""
    own, _, text = raw.partition(b"\n")
    if own != hashlib.sha256(text).hexdigest().encode():
        raise ValueError("the manifest is damaged")
    found = json.loads(text)
    return Manifest(found["datasets"], found["attributes"])


def read_manifest(file: h5py.File) -> Manifest:
    return decode(file[MANIFEST][()].tobytes())


def write_manifest(file: h5py.File) -> None:
    """Add the digests of everything in the file, as it will be read back."""
    digests: dict[str, str] = {}

    def add(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            digests[name] = _dataset_digest(node)

    file.visititems(add)
    raw = np.frombuffer(Manifest(digests, _attributes_digest(file)).encode(), np.uint8)
    file.create_dataset(MANIFEST, data=raw, chunks=(min(len(raw), 1 << 16),), fletcher32=True)


def bad_parts(file: h5py.File, names: Iterable[str] | None = None) -> Iterator[str]:
    """Yield what cannot be read to the end or is not what was written: datasets (default all), `attributes`."""
    manifest = read_manifest(file)
    for name in sorted(manifest.datasets) if names is None else names:
        if _or_none(lambda name: _dataset_digest(file[name]), name) != manifest.datasets.get(name, ""):
            yield name
    if _or_none(_attributes_digest, file) != manifest.attributes:
        yield "attributes"


def _dataset_digest(dataset: h5py.Dataset) -> str:
    """Return the SHA-256 of a dataset's type, shape and numbers, read a part at a time."""
    h = hashlib.sha256(f"{dataset.dtype.str} {dataset.shape}".encode())
    for start in range(0, len(dataset), ROWS):
        h.update(np.ascontiguousarray(dataset[start : start + ROWS]).tobytes())
    return h.hexdigest()


def _attributes_digest(file: h5py.File) -> str:
    plain = {name: np.asarray(value).tolist() for name, value in file.attrs.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _or_none(digest: Callable[[Any], str], of: Any) -> str | None:
    try:
        return digest(of)
    except Exception:  # whatever HDF5 raises on damaged bytes
        return None
