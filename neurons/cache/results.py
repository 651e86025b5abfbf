"""Results of an analysis kept beside the cache file, so that a later process needs neither the model nor the time.

A result is a tree of frozen dataclasses, arrays, tuples, dicts and plain values. Its file holds, in this order:

1. a magic line, and the SHA-256 of all that follows;
2. what the result was computed from, and by which version of the analysis;
3. the result as MessagePack, each array as its type, its shape and its raw bytes.

A file that is damaged, of another format, cache, settings or version, or no longer of the type that its reader asks
for, counts as absent. Nothing in it can be run: the reader's type alone says which classes are made.
"""

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import GenericAlias
from typing import Any, TypeVar, get_origin

import msgspec
import numpy as np

from neurons import __version__
from neurons.cache.folder import replacing
from neurons.cache.format import Cache
from neurons.types import NeuronsError

MAGIC = b"neurons-result 2\n"
SUFFIX = ".result"

T = TypeVar("T")


class _Kept(msgspec.Struct, array_like=True):
    """What a file holds: `origin` is compared byte for byte before `result` is decoded."""

    origin: msgspec.Raw
    result: msgspec.Raw


def keep_result(cache: Cache, what: str, settings: Mapping[str, Any], result: object, *, version: str = "1") -> Path:
    """Write a result under the cache file's name, where it replaces the last one of this name.

    settings: all that changes the numbers, beside the cache's own key. version: of the analysis, raised when its code
    gives other numbers.

    Raises `CacheError` when the folder cannot be written.
    """
    path = _path(cache, what)
    body = msgspec.msgpack.encode(_Kept(_origin(cache, what, settings, version), msgspec.Raw(_encode(result))))
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.tmp")
    with replacing(path, temporary), temporary.open("xb") as file:
        file.write(MAGIC + hashlib.sha256(body).digest())
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    return path


def kept_result(
    cache: Cache, what: str, settings: Mapping[str, Any], of_type: type[T] | GenericAlias, *, version: str = "1"
) -> T | None:
    """Return the result kept for this cache, these settings and this version of the analysis, or None.

    of_type: the dataclass, or a tuple of dataclasses, that was kept; its annotations say what is made again. Raises
    `TypeError` for one that MessagePack cannot tell apart, such as a union of two tuples.
    """
    decoder = msgspec.msgpack.Decoder(of_type, dec_hook=_decode_array)
    try:
        raw = memoryview(_path(cache, what).read_bytes())
        start = len(MAGIC) + hashlib.sha256().digest_size
        if raw[:start] != MAGIC + hashlib.sha256(raw[start:]).digest():
            return None
        kept = msgspec.msgpack.decode(raw[start:], type=_Kept)
        if bytes(kept.origin) != bytes(_origin(cache, what, settings, version)):
            return None
        found: T = decoder.decode(kept.result)
        return found
    except (OSError, msgspec.DecodeError, NeuronsError):
        return None


def results_beside(path: Path) -> list[Path]:
    """Return every kept result of a cache file, those of earlier versions (JSON) included."""
    return sorted(found for suffix in (SUFFIX, ".json") for found in path.parent.glob(f"{path.stem}.*{suffix}"))


def _path(cache: Cache, what: str) -> Path:
    return cache.path.with_name(f"{cache.path.stem}.{what}{SUFFIX}")


def _origin(cache: Cache, what: str, settings: Mapping[str, Any], version: str) -> msgspec.Raw:
    origin = {"what": what, "key": cache.key, "settings": dict(settings), "version": version, "neurons": __version__}
    return msgspec.Raw(msgspec.msgpack.encode(origin, order="deterministic"))


def _encode(result: object) -> bytes:
    return msgspec.msgpack.encode(result, enc_hook=_encode_array)


def _encode_array(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.dtype.str, value.shape, value.tobytes()
    raise TypeError(f"a kept result cannot hold a {type(value).__name__}")


def _decode_array(wanted: Any, found: Any) -> np.ndarray:
    """Make an array of a field annotated as one, with or without jaxtyping's type and shape."""
    array = getattr(wanted, "array_type", None) or get_origin(wanted) or wanted  # jaxtyping's, numpy.typing's, plain
    if array is not np.ndarray:
        raise NotImplementedError(f"a kept result cannot hold a {wanted}")
    dtype, shape, raw = found
    return np.frombuffer(raw, dtype).reshape(shape).copy()
