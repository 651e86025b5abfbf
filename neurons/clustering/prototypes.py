"""Prototypes: one shape for each cluster, or for each bin along the tuning centre where there are no clusters.

1. Clustered neurons: a prototype for each cluster, its members as they are.
2. A continuum: the neurons are binned by the decade of their tuning centre; constant curves make a bin of their own.
3. A prototype's shape is the mean of its members' curves, each less its mean, over its standard deviation, and turned
   so that its largest deviation is upwards.

A prototype describes a member's curve with two numbers of that member's own, a level and a height (`Prototype.of`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from neurons.types import NeuronId


@dataclass(frozen=True, eq=False)
class Prototype:
    """One shape for some neurons. name: `cluster 0`, `centre 10-19`, `constant`. shape [Y]: mean 0 over start years
    and standard deviation 1, or 0 throughout for constant curves.
    """

    name: str
    neurons: tuple[NeuronId, ...]
    shape: Float[np.ndarray, " Y"]

    def to_json(self) -> dict[str, Any]:
        """One entry of `prototypes` in the JSON of `neurons cluster`."""
        return {"name": self.name, "neurons": [str(neuron) for neuron in self.neurons], "shape": self.shape.tolist()}

    def of(self, curve: Float[np.ndarray, "Y *rest"]) -> Float[np.ndarray, "Y *rest"]:
        """A curve as the prototype describes it: its own mean plus the shape at the height that fits it best, by
        least squares. The height is negative where the neuron is turned round.
        """
        height = np.tensordot(self.shape, curve, (0, 0)) / len(self.shape)
        return np.asarray(curve.mean(0) + np.multiply.outer(self.shape, height))
