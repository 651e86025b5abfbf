"""The seal in front of a cache file: a magic word, the length, and the SHA-256 of everything behind it.

HDF5 leaves the first 512 bytes of a file to its user. What stands there is checked before the HDF5 library
sees the file, because a flipped bit in HDF5's own metadata can slip past every checksum inside, or crash
the library. All 512 bytes are determined by the rest of the file, so no flip among them goes unnoticed either.
"""

import hashlib
import os
from pathlib import Path

from neurons.cache.layout import FORMAT
from neurons.remembered import Remembered
from neurons.types import CacheError

SEAL_SIZE = 512
SEAL_VERSION = 1
CHECK_LIMIT = 1 << 30
"""Bytes up to which a file is hashed whenever it is opened (0.09 s for 100 MB); beyond, only by `verify`."""


def write_seal(path: Path) -> None:
    """Fill in the first 512 bytes from what is behind them. Raises `OSError`."""
    text = _seal(_digest(path), path.stat().st_size - SEAL_SIZE)
    with path.open("r+b") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def check_seal(path: Path, *, limit: int | None = None, remembered: Remembered | None = None) -> bool:
    """Whether the file's bytes were all checked: not those of a file larger than `limit` (default: of any size).

    remembered: digests known from earlier, of files that have not changed since.

    Raises `CacheError` for a file without a seal or with other bytes than were sealed.
    """
    found, size = _read_seal(path)
    if not found.startswith(FORMAT.encode() + b" "):
        raise CacheError(
            f"cache {path} cannot be read (it is no cache of this program): give a file that `neurons cache build`"
            " wrote, or delete it and run again"
        )
    if limit is not None and size > limit:
        if found == _seal(_digest_in(found), size - SEAL_SIZE):
            return False
        raise _damaged(path, "its seal does not fit its length")
    digest = remembered.digest("seal", [path], lambda: _digest(path)) if remembered else _digest(path)
    if found != _seal(digest, size - SEAL_SIZE):
        raise _damaged(path, "its bytes are not those that were written")
    return True


def _read_seal(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            return file.read(SEAL_SIZE), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise CacheError(f"cache {path} is not there: `neurons cache list` shows what is") from None
    except OSError as error:
        raise CacheError(
            f"cache {path} cannot be read ({error.strerror}): check the name and its permissions"
        ) from None


def _damaged(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"cache {path} cannot be read ({reason}): delete it and run again to rebuild it, or recompute what is bad"
        " with `neurons cache verify --repair`"
    )


def _digest(path: Path) -> str:
    """SHA-256 of what is behind the seal."""
    with path.open("rb") as file:
        file.seek(SEAL_SIZE)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(digest: str, length: int) -> bytes:
    return f"{FORMAT} {SEAL_VERSION}\nsha256 {digest}\nlength {length}\n".encode("ascii", "replace").ljust(
        SEAL_SIZE, b"\0"
    )


def _digest_in(seal: bytes) -> str:
    return seal.decode("ascii", "replace").partition("sha256 ")[2].partition("\n")[0]
