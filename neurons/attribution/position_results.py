"""Where a behaviour is attributed, as it is handed on: layers by positions, and who leads before END. No torch."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from neurons.rounding import descending
from neurons.shown import Shown
from neurons.types import Measure, NeuronId, check_whole

if TYPE_CHECKING:
    import pandas as pd

LEADERS = 10
"""Neurons before END that are named."""


@dataclass(frozen=True, eq=False, repr=False)
class Positions(Shown):
    """RelP of every neuron of all L layers at every position of a prompt, in units of the measure.

    names: the T positions, `BOS` to the last, which is END. attribution [L, R, N]: of the R last positions, from YY on;
    nothing before YY can depend on it, so all is zero there.
    """

    model: str
    measure: Measure
    names: tuple[str, ...]
    attribution: Float[np.ndarray, "L R N"]

    def summary(self) -> dict[str, object]:
        return {"model": self.model, "measure": self.measure, "before END": f"{self.before_end:.1%}"}

    @property
    def first(self) -> int:
        """The position of YY."""
        return len(self.names) - self.attribution.shape[1]

    @cached_property
    def part(self) -> Float[np.ndarray, "L T"]:
        """Share of the absolute attribution of all neurons that lies in each layer and position; adds up to 1."""
        size = np.zeros((len(self.attribution), len(self.names)))
        size[:, self.first :] = np.abs(self.attribution).sum(-1)
        whole = size.sum()
        return size / whole if whole else size

    @property
    def before_end(self) -> float:
        """Share of the absolute attribution that lies before END."""
        return float(self.part[:, :-1].sum())

    def leaders(self, count: int = LEADERS) -> tuple[tuple[NeuronId, int, float], ...]:
        """The neurons before END with the largest attributions by size: neuron, position, attribution."""
        check_whole("count", count, least=0)
        before = self.attribution[:, :-1]
        places = descending(np.abs(before).reshape(-1))[:count]
        found = (np.unravel_index(int(place), before.shape) for place in places)
        return tuple(
            (NeuronId(int(layer), int(index)), self.first + int(at), float(before[layer, at, index]))
            for layer, at, index in found
        )

    def to_frame(self) -> "pd.DataFrame":
        """A row a layer, a column a position: share of the absolute attribution. Positions are numbered from BOS."""
        import pandas as pd

        columns = [f"{at} {name}" for at, name in enumerate(self.names)]
        return pd.DataFrame(self.part, columns=columns).rename_axis("layer").reset_index()

    def to_json(self) -> dict[str, Any]:
        """The table [layer][position] as parts of the whole, and the first neurons before END."""
        return {
            "measure": self.measure,
            "positions": list(self.names),
            "part": self.part.tolist(),
            "before_end": self.before_end,
            "sum": float(self.attribution.sum()),
            "leaders": [
                {"neuron": str(neuron), "position": at, "name": self.names[at], "attribution": value}
                for neuron, at, value in self.leaders()
            ],
        }
