"""Finished parts of a long computation, kept beside the cache file so that it can be interrupted at any moment.

A folder `<cache file's stem>.<what>-<hash>` (`.parts` for the file's own) belongs to one cache key and one
setting of everything that changes the numbers. It holds npz files of plain arrays, each written under a
temporary name, flushed to disk and renamed when whole. A part that cannot be read, or is not what its reader
asks for, counts as not done.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurons.cache.folder import not_written, replacing
from neurons.cache.format import Cache
from neurons.cache.layout import FORMAT_VERSION
from neurons.types import CacheError

PARTS_VERSION = 1


@dataclass(frozen=True)
class Parts:
    """The parts of one computation. `digest` stands for the cache key and the settings."""

    folder: Path
    digest: str

    def tidy(self) -> None:
        """Clear away what a process that died was writing. Raises `CacheError`."""
        try:
            for path in self.folder.glob(".*.tmp"):
                if not _is_held(path):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise not_written(self.folder, error) from None

    def names(self) -> set[str]:
        """Return the names of all parts, readable or not."""
        return {path.stem for path in self.folder.glob("*.npz")}

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays of a part, or None where it is missing, damaged or another computation's."""
        arrays = _read(self.folder / f"{name}.npz")
        if arrays is None or str(arrays.pop("digest", "")) != self.digest:
            return None
        return arrays

    def plan(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of the part that workers start from; raises `CacheError` where it cannot be seen."""
        arrays = self.get(name)
        if arrays is None:
            raise CacheError(
                f"a worker cannot see {self.folder}: the cache folder must be shared by all machines, under one path"
            )
        return arrays

    def put(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a part, whole or not at all. Raises `CacheError` when the folder cannot be made or written."""
        temporary = self.folder / f".{name}.{_host()}-{os.getpid()}.tmp"
        self._make_folder()
        try:
            with replacing(self.folder / f"{name}.npz", temporary), temporary.open("wb") as file:
                np.savez(file, digest=np.array(self.digest), **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            self._remove_empty()
            raise

    def discard(self, name: str) -> None:
        """Forget a part, and the folder with the last one."""
        with suppress(OSError):
            (self.folder / f"{name}.npz").unlink()
        self._remove_empty()

    def load(self, prefix: str) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of every readable part whose name begins so."""
        for name in sorted(self.names()):
            if name.startswith(f"{prefix}-") and (arrays := self.get(name)) is not None:
                yield arrays

    def save(self, prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a part; its name follows from its content, so that writing it twice makes one file.

        Raises `CacheError` when the folder cannot be written.
        """
        content = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values()))
        self.tidy()
        self.put(f"{prefix}-{content.hexdigest()[:12]}", arrays)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise not_written(self.folder, error) from None

    def _remove_empty(self) -> None:
        with suppress(OSError):  # it holds parts, or was never made
            self.folder.rmdir()


def parts_of(path: Path, key: str) -> Parts:
    """Return where the finished blocks of a cache file lie until it is whole."""
    return Parts(path.with_suffix(".parts"), hashlib.sha256(json.dumps([FORMAT_VERSION, key]).encode()).hexdigest())


def parts_beside(cache: Cache, what: str, settings: Mapping[str, Any]) -> Parts:
    """Return where the parts of this computation lie. `settings` are JSON values: all that changes the numbers."""
    whole = json.dumps([PARTS_VERSION, cache.key, settings], sort_keys=True)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    return Parts(cache.path.parent / f"{cache.path.stem}.{what}-{digest[:16]}", digest)


def folders_beside(path: Path) -> list[Path]:
    """Return every folder of parts that belongs to a cache file."""
    return sorted(found for found in path.parent.glob(f"{path.stem}.*") if found.is_dir())


def count_blocks(path: Path) -> int:
    """Count the finished blocks of a cache file that is not built yet."""
    return len(list(path.with_suffix(".parts").glob("block-*.npz")))


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", socket.gethostname())[:40]


def _is_held(path: Path) -> bool:
    """Report whether the process that the temporary file is named after lives; one on another machine might."""
    host, _, number = path.name.removesuffix(".tmp").rpartition(".")[2].rpartition("-")
    if host != _host() or not number.isdigit():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays, or None for a file that is damaged: npz carries a checksum of every array."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None
