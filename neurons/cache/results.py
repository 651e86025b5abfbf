"""Finished results of an analysis, kept beside the cache file, so that a report shows them without the model.

A result is a tree of frozen dataclasses, arrays, tuples, dicts and plain values. It is written as JSON in
which each dataclass carries its name; only the classes that the reader names are made again. A file that
cannot be read, or belongs to another cache or to other settings, counts as not there.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurons import __version__
from neurons.cache.format import Cache
from neurons.cache.replacing import replacing

RESULTS_VERSION = 1


def keep_result(cache: Cache, what: str, settings: Mapping[str, Any], result: Any) -> Path:
    """Write a result under the cache file's name; the newest of its kind replaces the one before.

    Raises `CacheError` when the folder cannot be written.
    """
    path = _path(cache, what)
    document = {
        "version": [RESULTS_VERSION, __version__],
        "key": cache.key,
        "settings": dict(settings),
        "result": _encode(result),
    }
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.tmp")
    with replacing(path, temporary), temporary.open("x", encoding="utf-8") as file:
        json.dump(document, file, sort_keys=True)
    return path


def kept_result(cache: Cache, what: str, settings: Mapping[str, Any], kind: Any) -> Any | None:
    """The result kept for this cache and these settings, or None. `classes` are all that it may hold."""
    import sys

    classes = (
        [
            cls
            for module in list(sys.modules.values())
            if module.__name__.startswith("neurons.")
            for cls in vars(module).values()
            if is_dataclass(cls) and isinstance(cls, type)
        ]
        if not isinstance(kind, tuple)
        else kind
    )
    try:
        document = json.loads(_path(cache, what).read_text(encoding="utf-8"))
        wanted = [[RESULTS_VERSION, __version__], cache.key, json.loads(json.dumps(dict(settings)))]
        if [document["version"], document["key"], document["settings"]] != wanted:
            return None
        return _decode(document["result"], {cls.__name__: cls for cls in classes})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _path(cache: Cache, what: str) -> Path:
    return cache.path.with_name(f"{cache.path.stem}.{what}.json")


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _encode(getattr(value, field.name)) for field in fields(value)}
        return {"is": type(value).__name__, "of": parts}
    if isinstance(value, np.ndarray):
        return {"is": "array", "dtype": value.dtype.str, "shape": list(value.shape), "of": value.reshape(-1).tolist()}
    if isinstance(value, tuple):
        return {"is": "tuple", "of": [_encode(item) for item in value]}
    if isinstance(value, dict):
        return {"is": "dict", "of": [[_encode(key), _encode(item)] for key, item in value.items()]}
    return value.item() if isinstance(value, np.generic) else value


def _decode(value: Any, classes: Mapping[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    kind, of = value["is"], value["of"]
    if kind == "array":
        return np.array(of, dtype=np.dtype(value["dtype"])).reshape(value["shape"])
    if kind == "tuple":
        return tuple(_decode(item, classes) for item in of)
    if kind == "dict":
        return {_decode(key, classes): _decode(item, classes) for key, item in of}
    return classes[kind](**{name: _decode(part, classes) for name, part in of.items()})
