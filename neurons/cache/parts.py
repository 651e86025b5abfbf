"""Finished parts of a long computation, kept beside the cache file that it reads, so that it can be interrupted.

A folder `<cache file's stem>.<what>-<hash>` belongs to one cache key and one setting of everything that
changes the numbers. It holds npz files of plain arrays, each written under a temporary name and renamed
when whole. A part that cannot be read, or is not what its reader asks for, counts as not done.
"""

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurons.cache.format import Cache
from neurons.types import CacheError

PARTS_VERSION = 1


@dataclass(frozen=True)
class Parts:
    """The parts of one computation. `digest` stands for the cache key and the settings."""

    folder: Path
    digest: str

    def load(self, prefix: str) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of every readable part whose name begins so."""
        for path in sorted(self.folder.glob(f"{prefix}-*.npz")):
            arrays = _read(path)
            if arrays is not None and str(arrays.pop("digest", "")) == self.digest:
                yield arrays

    def save(self, prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a part; its name follows from its content, so that writing it twice makes one file.

        Raises `CacheError` when the folder cannot be written.
        """
        content = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values()))
        path = self.folder / f"{prefix}-{content.hexdigest()[:12]}.npz"
        temporary: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self.folder)
            temporary = Path(name)
            with os.fdopen(handle, "wb") as file:
                np.savez(file, digest=np.array(self.digest), **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise CacheError(f"{self.folder} cannot be written ({reason}): choose another with --cache-dir") from None
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


def parts_beside(cache: Cache, what: str, settings: Mapping[str, Any]) -> Parts:
    """Where the parts of this computation lie. `settings` are JSON values: all that changes the numbers."""
    whole = json.dumps([PARTS_VERSION, cache.key, settings], sort_keys=True)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    return Parts(cache.path.parent / f"{cache.path.stem}.{what}-{digest[:16]}", digest)


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays, or None for a file that is damaged: npz carries a checksum of every array."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None
