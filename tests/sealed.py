"""Cache files changed behind the seal's back: what a foreign writer, or a mistake of ours, could produce."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from neurons.cache.assemble import write_manifest
from neurons.cache.layout import MANIFEST
from neurons.cache.seal import SEAL_SIZE, write_seal


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    """The file opened for changes; the seal, not the manifest, is made anew after them."""
    with h5py.File(path, "r+") as file:
        yield file
    write_seal(path)


@contextmanager
def written(path: Path) -> Iterator[h5py.File]:
    """A new file; manifest and seal are written after everything else."""
    with h5py.File(path, "w", userblock_size=SEAL_SIZE) as file:
        yield file
        if MANIFEST not in file:
            write_manifest(file, {})
    write_seal(path)
