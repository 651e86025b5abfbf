"""Cache files sealed again after a change: what a foreign writer, or a mistake of ours, could produce."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from neurons.cache.integrity import SEAL_SIZE, write_manifest, write_seal
from neurons.cache.layout import MANIFEST


@contextmanager
def edited(path: Path) -> Iterator[h5py.File]:
    """Open the file for changes; the seal, not the manifest, is made anew after them."""
    with h5py.File(path, "r+") as file:
        yield file
    write_seal(path)


@contextmanager
def written(path: Path) -> Iterator[h5py.File]:
    """Create a file; manifest and seal are written after everything else."""
    with h5py.File(path, "w", userblock_size=SEAL_SIZE) as file:
        yield file
        if MANIFEST not in file:
            write_manifest(file)
    write_seal(path)
