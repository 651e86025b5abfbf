"""A text file of the user's as bytes, a piece at a time, and its digest. No torch."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from neurons.types import InputError

PIECE = 1 << 16
"""Bytes read at once."""


def bytes_of(path: Path) -> Iterator[bytes]:
    """The file's bytes in pieces; raises `InputError` for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            while part := file.read(PIECE):
                yield part
    except OSError as error:
        raise InputError(f"text file {str(path)!r} cannot be read: {error.strerror or error}") from None


def digest_of(path: Path) -> str:
    """SHA-256 of the file's bytes; raises `InputError` for a file that cannot be read."""
    found = hashlib.sha256()
    for part in bytes_of(path):
        found.update(part)
    return found.hexdigest()
