"""What is checked of a cache file when it is opened, dataset by dataset, before any number is read.

The file must be exactly what the format says: these names and no other, hard links only, plain chunked
datasets of the right type and shape that carry fletcher32 and no other filter, and attributes that make
sense. A file with a link to another file, a virtual dataset or an absurd shape is refused with the reason.
"""

import json
import re
from typing import Any, NoReturn, get_args

import h5py
import numpy as np

from neurons.cache.layout import (
    ATTRIBUTES,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    Dtype,
    Sizes,
    groups_of,
    shapes_of,
    type_of,
)
from neurons.types import CacheError

MAX_LAYERS = 9999


def check_file(file: h5py.File) -> tuple[dict[str, Any], Sizes]:
    """The attributes and sizes of a cache file that is what the format says.

    Raises `CacheError`, with the file's name and the reason.
    """
    attributes = _attributes(file)
    _check_version(file, attributes)
    for name, kind in ATTRIBUTES.items():
        if not isinstance(attributes.get(name), kind):
            _refuse(file, f"attribute {name} is {'missing' if name not in attributes else 'of another type'}")
    if unknown := sorted(set(attributes) - set(ATTRIBUTES)):
        _refuse(file, f"attribute {unknown[0]} is not one of a cache")
    _check_attributes(file, attributes)
    sizes = _sizes(file, attributes["layers"])
    _check_names(file, sizes)
    shapes = shapes_of(sizes)
    for name, dataset in ((name, file[name]) for name in [*shapes, "prompts/missing", MANIFEST]):
        _check_dataset(file, name, dataset, shapes.get(name), type_of(name, attributes["dtype"]))
    return attributes, sizes


def _refuse(file: h5py.File, reason: str) -> NoReturn:
    raise CacheError(f"cache {_name(file)} cannot be read ({reason}): delete it and run again to rebuild it")


def _name(file: h5py.File) -> str:
    return str(file.filename)


def _attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes as plain Python values: str, int, bool, and a tuple of numbers for `layers`."""
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
        raise CacheError(f"{_name(file)} is not a neurons cache: give a file that `neurons cache build` wrote")
    if attributes.get("format_version") != FORMAT_VERSION:
        raise CacheError(
            f"cache {_name(file)} has format version {attributes.get('format_version')}, this program reads version"
            f" {FORMAT_VERSION}: delete it and run again to rebuild it"
        )
    if attributes.get("complete") is not True:
        raise CacheError(f"cache {_name(file)} is not complete: delete it and run again to rebuild it")


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
    """The sizes that the shapes of five datasets say; the shapes of all follow from them."""

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        dataset = hard_linked(file, name)
        if not isinstance(dataset, h5py.Dataset) or len(dataset.shape or ()) != ndim or 0 in dataset.shape:
            _refuse(file, f"dataset {name} is missing or not of {ndim} dimensions")
        return tuple(map(int, dataset.shape))

    P, T = shape("prompts/tokens", 2)
    (Q, _), (_, d) = shape("counterfactual/tokens", 2), shape("final/residual", 2)
    N = shape(f"mlp/{layers[0]}/post", 2)[1]
    return Sizes(P, T, Q, d, N, layers)


def hard_linked(file: h5py.File, name: str) -> Any:
    """The object of this name, or None where a step of the way is missing or links elsewhere."""
    node: Any = file
    for step in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(step, getlink=True), h5py.HardLink):
            return None
        node = node[step]
    return node


def lies_here(file: h5py.File, name: str) -> bool:
    """Whether a dataset's numbers are in this file and in no other."""
    dataset = hard_linked(file, name)
    return isinstance(dataset, h5py.Dataset) and not dataset.is_virtual and dataset.external is None


def _check_names(file: h5py.File, sizes: Sizes) -> None:
    """Every name that is there belongs there, and what belongs there is a dataset or group in its own place."""
    datasets = {*shapes_of(sizes), "prompts/missing", MANIFEST}
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
        if not isinstance(hard_linked(file, name), h5py.Dataset):
            _refuse(file, f"dataset {name} is missing")
        if not lies_here(file, name):
            _refuse(file, f"dataset {name} lies in another file")


def _check_dataset(
    file: h5py.File, name: str, dataset: h5py.Dataset, shape: tuple[int, ...] | None, number: str
) -> None:
    free = {"prompts/missing": (None, 2), MANIFEST: (None,)}
    fits = dataset.shape == shape if shape else _matches(dataset.shape, free.get(name, ()))
    if not fits:
        raise CacheError(
            f"cache {_name(file)}: dataset {name} is missing or not {shape or free[name]}: delete it and run again"
        )
    wanted = np.dtype(number).newbyteorder("<")
    is_right = dataset.dtype.kind == "S" if name == "prompts/noun" else dataset.dtype == wanted
    if not is_right:
        _refuse(file, f"dataset {name} is of type {dataset.dtype}")
    if len(dataset.attrs):
        _refuse(file, f"dataset {name} has attributes")
    _check_storage(file, name, dataset)


def _matches(shape: tuple[int, ...], pattern: tuple[int | None, ...]) -> bool:
    return len(shape) == len(pattern) and all(b is None or a == b for a, b in zip(shape, pattern, strict=True))


def _check_storage(file: h5py.File, name: str, dataset: h5py.Dataset) -> None:
    """Chunks of plain numbers: with nothing compressed, no shape can ask for more memory than the file is long."""
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if filters != [h5py.h5z.FILTER_FLETCHER32] or dataset.chunks is None:
        _refuse(file, f"dataset {name} has other filters than fletcher32")
    if dataset.nbytes > file.id.get_filesize():
        _refuse(file, f"dataset {name} says that it is larger than the file")
