"""Arrays with named dimensions and coordinates, for users. xarray is imported by the first: commands go without."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from neurons.types import NeuronId

if TYPE_CHECKING:
    import xarray as xr


def labelled(
    values: Shaped[np.ndarray, "..."],
    *,
    unit: str,
    about: Mapping[str, Any] | None = None,
    **coordinates: Sequence[Any],
) -> "xr.DataArray":
    """Return `values` with one dimension for each of the coordinates, in their order.

    unit: of the values, kept as their attribute `units`. about: coordinates that are the same for all values.
    Neurons among the coordinates are named by text (`L9N43`), with their `layer` beside it.
    """
    import xarray as xr

    found: dict[str, Any] = {name: list(along) for name, along in coordinates.items()}
    neurons = found.get("neuron", [])
    if all(isinstance(neuron, NeuronId) for neuron in neurons) and neurons:
        found |= {"neuron": [str(neuron) for neuron in neurons], "layer": ("neuron", [n.layer for n in neurons])}
    return xr.DataArray(values, dims=list(coordinates), coords=found | dict(about or {}), attrs={"units": unit})


def together(**arrays: "xr.DataArray") -> "xr.Dataset":
    """Return labelled arrays under their names, with the coordinates that they share."""
    import xarray as xr

    return xr.Dataset(arrays)
