"""Activations in half precision: half the file, for a relative error of up to 2^-11 in each.

float16 has 11 significant bits and reaches to 65504. Below 6.1e-5 its steps are 6e-8 apart, so the error there is
absolute, up to 3e-8. Only numbers that are summed over many prompts or neurons are stored so (`layout.HALVED`).
"""

from collections.abc import Mapping

import numpy as np

from neurons.cache.layout import HALVED, Dtype
from neurons.types import CacheError


def rounded(arrays: Mapping[str, np.ndarray], dtype: Dtype) -> dict[str, np.ndarray]:
    """A block's arrays as they are stored.

    Raises `CacheError` for a finite number that float16 would make infinite.
    """
    if dtype == "float32":
        return dict(arrays)
    return {name: _half(name, array) if name.split("_")[0] in HALVED else array for name, array in arrays.items()}


def _half(name: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if (np.isinf(half) & np.isfinite(array)).any():
        what = f"an activation of layer {name.split('_')[1]}" if name.startswith("post") else "the final residual"
        largest = np.abs(array[np.isfinite(array)]).max()
        raise CacheError(f"{what} is {largest:.3g}, float16 holds up to 65504: use dtype float32")
    return half
