"""Check every byte of a cache file, and say what is bad by name."""

import os
from pathlib import Path

from neurons.cache.format import open_cache, reading
from neurons.cache.manifest import bad_parts, read_manifest
from neurons.cache.salvage import STRUCTURE, damage
from neurons.cache.seal import check_seal
from neurons.types import CacheError


def verify_cache(path: str | os.PathLike[str]) -> None:
    """Check the seal over all bytes, whatever the file's size, then its structure and each dataset's digest.

    Raises `CacheError`, which names the datasets that are bad.
    """
    path = Path(path)
    try:
        check_seal(path)
    except CacheError:
        bad = damage(path) if path.is_file() else (STRUCTURE,)
        if bad == (STRUCTURE,):
            raise
    else:
        open_cache(path)
        with reading(path) as file:
            bad = tuple(bad_parts(file, read_manifest(file)))
    if bad:
        raise CacheError(
            f"cache {path} is damaged ({', '.join(bad)}): `neurons cache verify --repair` recomputes what is bad, or"
            " delete it and run again"
        )
