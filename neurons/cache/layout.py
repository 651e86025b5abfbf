"""Layout of a cache file: the names of its datasets, their shapes and types. `docs/cache-format.md` in code.

With dtype float16 the activations, and nothing else, are stored in half precision: 11 significant bits, up to 65504,
so a relative error of up to 2^-11. Below 6.1e-5 its steps are 6e-8 apart, so there the error is absolute, up to 3e-8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neurons.task.years import N_YEARS
from neurons.types import CacheError, check_choice

FORMAT = "neurons-cache"
FORMAT_VERSION = 2
READABLE = (1, 2)
"""Versions that can be opened. Version 1 also holds the final residual and the counterfactuals' activations."""
HOOK = "mlp.hook_post at END"
Dtype = Literal["float32", "float16"]
DTYPE: Dtype = "float32"
"""How activations are stored by default."""
HALVED = ("post", "post_01", "residual")
"""Last parts of the names of the datasets that are float16 in a cache of that type; all others stay float32."""
SUFFIX = ".h5"
PROMPT_CHUNK, NEURON_CHUNK = 64, 512
"""Rows and columns of a chunk: what HDF5 reads at a time."""

MANIFEST = "manifest"
INTEGERS = {
    "prompts/tokens": "int32",
    "prompts/start_year": "int16",
    "prompts/century": "int16",
    "prompts/counterfactual": "int32",
    "prompts/missing": "int16",
    "counterfactual/tokens": "int32",
    "years/token_ids": "int32",
    MANIFEST: "uint8",
}
ATTRIBUTES: dict[str, type] = {
    "format": str,
    "format_version": int,
    "complete": bool,
    "key": str,
    "model": str,
    "model_sha256": str,
    "layers": tuple,
    "dtype": str,
    "prompts_sha256": str,
    "template": str,
    "bos": int,
    "year_position": int,
    "d_gain": int,
    "versions": str,
}

Shape = tuple[int | None, ...]
"""None: any length."""


@dataclass(frozen=True)
class Sizes:
    """P prompts of T tokens, Q counterfactuals, N neurons a layer, the layers."""

    P: int
    T: int
    Q: int
    N: int
    layers: tuple[int, ...]


def shapes_of(sizes: Sizes, version: int = FORMAT_VERSION) -> dict[str, Shape]:
    """Return the shape of every dataset that a file of this version holds."""
    P, T, Q, N = sizes.P, sizes.T, sizes.Q, sizes.N
    shapes: dict[str, Shape] = {
        "prompts/tokens": (P, T),
        "prompts/start_year": (P,),
        "prompts/century": (P,),
        "prompts/noun": (P,),
        "prompts/counterfactual": (P,),
        "prompts/missing": (None, 2),
        "counterfactual/tokens": (Q, T),
        "counterfactual/year_logits": (Q, N_YEARS),
        "counterfactual/logsumexp": (Q,),
        "years/token_ids": (N_YEARS,),
        "years/gram": (N_YEARS, N_YEARS),
        "final/scale": (P,),
        "final/year_logits": (P, N_YEARS),
        "final/logsumexp": (P,),
        MANIFEST: (None,),
    }
    for layer in sizes.layers:
        shapes |= {
            f"mlp/{layer}/post": (P, N),
            f"readout/{layer}": (N, N_YEARS),
            f"readout/{layer}_bias": (N_YEARS,),
            f"readout/{layer}_norm": (N,),
            f"readout_plain/{layer}": (N, N_YEARS),
        }
    if version == 1:
        shapes |= {"final/residual": (P, None)} | {f"mlp/{layer}/post_01": (Q, N) for layer in sizes.layers}
    return shapes


def groups_of(names: Sequence[str]) -> set[str]:
    """Return every group that datasets of these names lie in."""
    found = set()
    for name in names:
        parts = name.split("/")[:-1]
        found |= {"/".join(parts[: i + 1]) for i in range(len(parts))}
    return found


def type_of(name: str, dtype: Dtype = DTYPE) -> str:
    """Return the type of a dataset's numbers, little-endian; `prompts/noun` alone is text of a fixed length."""
    return INTEGERS.get(name, dtype if name.rpartition("/")[2] in HALVED else "float32")


def check_dtype(text: str) -> Dtype:
    """Return the type as which activations are stored; raises `InputError` for any other text."""
    dtype: Dtype = check_choice("dtype", text, Dtype)
    return dtype


def rounded(arrays: Mapping[str, np.ndarray], dtype: Dtype) -> dict[str, np.ndarray]:
    """Return a block's arrays as they are stored.

    Raises `CacheError` for a finite number that float16 would make infinite.
    """
    if dtype == "float32":
        return dict(arrays)
    return {name: _half(name, array) if name.startswith("post_") else array for name, array in arrays.items()}


def _half(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if (np.isinf(half) & np.isfinite(array)).any():
        largest = np.abs(array[np.isfinite(array)]).max()
        raise CacheError(
            f"an activation of layer {name.removeprefix('post_')} is {largest:.3g}, float16 holds up to 65504: use"
            " dtype float32"
        )
    return half
