"""Checks of a cache file's structure when it is opened, before any number is read.

The file must be exactly what the format says:

1. its attributes, of the right types and values, and no other;
2. its datasets and groups, by hard links alone, and no other name;
3. each dataset plain and chunked, of the right type and shape, with fletcher32 and no other filter.

A file with a link to another file, a virtual dataset or an absurd shape is refused with the reason.
"""

import json
import re
from typing import Any, NoReturn, get_args

import h5py
import numpy as np

from neurons.cache.integrity import unreadable
from neurons.cache.layout import ATTRIBUTES, FORMAT, READABLE, Dtype, Shape, Sizes, groups_of, shapes_of, type_of
from neurons.types import CacheError

MAX_LAYERS = 9999


def check_file(file: h5py.File) -> tuple[dict[str, Any], Sizes]:
    """Return the attributes and sizes of a cache file that is what the format says.

    Raises `CacheError`, with the file's name and the reason.
    """
    attributes = _attributes(file)
    _check_version(file, attributes)
    for name, wanted in ATTRIBUTES.items():
        if not isinstance(attributes.get(name), wanted):
            _refuse(file, f"attribute {name} is {'missing' if name not in attributes else 'of another type'}")
    if unknown := sorted(set(attributes) - set(ATTRIBUTES)):
        _refuse(file, f"attribute {unknown[0]} is not one of a cache")
    _check_attributes(file, attributes)
    sizes = _sizes(file, attributes["layers"])
    shapes = shapes_of(sizes, attributes["format_version"])
    _check_names(file, set(shapes))
    for name, shape in shapes.items():
        _check_dataset(file, name, shape, type_of(name, attributes["dtype"]))
    return attributes, sizes


def _refuse(file: h5py.File, reason: str) -> NoReturn:
    raise unreadable(file.filename, reason)


def _attributes(file: h5py.File) -> dict[str, Any]:
    """Return the attributes as plain Python values: str, int, bool, and a tuple of numbers for `layers`."""
    found: dict[str, Any] = {}
    for name in file.attrs:
        value = file.attrs[name]
        if isinstance(value, np.ndarray):
            found[name] = tuple(value.tolist()) if value.dtype == np.int32 and value.ndim == 1 else None
        else:
            found[name] = value.item() if isinstance(value, np.bool_ | np.integer) else value
    return found


def _check_version(file: h5py.File, attributes: dict[str, Any]) -> None:
    if attributes.get("format") != FORMAT:
        raise CacheError(f"{file.filename} is not a neurons cache: give a file that `neurons cache build` wrote")
    version = attributes.get("format_version")
    if isinstance(version, bool) or version not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise CacheError(
            f"cache {file.filename} has format version {version}, this program reads versions {readable}: delete it"
            " and run again to rebuild it"
        )
    if attributes.get("complete") is not True:
        raise CacheError(f"cache {file.filename} is not complete: delete it and run again to rebuild it")


def _check_attributes(file: h5py.File, attributes: dict[str, Any]) -> None:
    layers = attributes["layers"]
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > MAX_LAYERS:
        _refuse(file, "its layers are not ascending numbers")
    for name in ("key", "model_sha256", "prompts_sha256"):
        if not re.fullmatch(r"[0-9a-f]{64}", attributes[name]):
            _refuse(file, f"attribute {name} is no SHA-256")
    if attributes["dtype"] not in get_args(Dtype):
        _refuse(file, f"its type is {attributes['dtype']!r}, not {' or '.join(get_args(Dtype))}")
    try:
        versions = json.loads(attributes["versions"])
    except ValueError:
        _refuse(file, "attribute versions is no JSON")
    if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
        _refuse(file, "attribute versions is no list of versions")


def _sizes(file: h5py.File, layers: tuple[int, ...]) -> Sizes:
    """Read the sizes off the shapes of three datasets; the shapes of all follow from them."""

    def shape(name: str) -> tuple[int, int]:
        dataset = _hard_linked(file, name)
        if not isinstance(dataset, h5py.Dataset) or len(dataset.shape or ()) != 2 or 0 in dataset.shape:
            _refuse(file, f"dataset {name} is missing or not of 2 dimensions")
        return int(dataset.shape[0]), int(dataset.shape[1])

    (P, T), (Q, _), (_, N) = shape("prompts/tokens"), shape("counterfactual/tokens"), shape(f"mlp/{layers[0]}/post")
    return Sizes(P, T, Q, N, layers)


def _hard_linked(file: h5py.File, name: str) -> Any:
    """Return the object of this name, or None where a step of the way is missing or links elsewhere."""
    node: Any = file
    for step in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(step, getlink=True), h5py.HardLink):
            return None
        node = node[step]
    return node


def _check_names(file: h5py.File, datasets: set[str]) -> None:
    """Refuse a name that does not belong there, and what belongs there but is no dataset or lies elsewhere."""
    groups = groups_of(sorted(datasets))
    waiting = [""]
    while waiting:
        above = waiting.pop()
        for step in file[above or "/"]:
            name = f"{above}/{step}" if above else step
            link = file[above or "/"].get(step, getlink=True)
            if not isinstance(link, h5py.HardLink):
                _refuse(file, f"{name} is a link")
            if name not in datasets | groups:
                _refuse(file, f"{name} does not belong in a cache")
            if name in groups:
                waiting.append(name)
    for name in sorted(datasets):
        dataset = _hard_linked(file, name)
        if not isinstance(dataset, h5py.Dataset):
            _refuse(file, f"dataset {name} is missing")
        if dataset.is_virtual or dataset.external is not None:
            _refuse(file, f"dataset {name} lies in another file")


def _check_dataset(file: h5py.File, name: str, shape: Shape, number: str) -> None:
    dataset = file[name]
    if len(dataset.shape) != len(shape) or any(b not in {None, a} for a, b in zip(dataset.shape, shape, strict=True)):
        wanted = f"({', '.join('any' if n is None else str(n) for n in shape)})"
        _refuse(file, f"dataset {name} is {dataset.shape}, not {wanted}")
    of_type = np.dtype(number).newbyteorder("<")
    if not (dataset.dtype.kind == "S" if name == "prompts/noun" else dataset.dtype == of_type):
        _refuse(file, f"dataset {name} is of type {dataset.dtype}")
    if len(dataset.attrs):
        _refuse(file, f"dataset {name} has attributes")
    _check_storage(file, name, dataset)


def _check_storage(file: h5py.File, name: str, dataset: h5py.Dataset) -> None:
    """Refuse all but chunks of plain numbers: then no shape can ask for more memory than the file is long."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if filters != [h5py.h5z.FILTER_FLETCHER32] or dataset.chunks is None:
        _refuse(file, f"dataset {name} has other filters than fletcher32")
    if dataset.nbytes > file.id.get_filesize():
        _refuse(file, f"dataset {name} says that it is larger than the file")
