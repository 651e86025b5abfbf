"""How good orders of neurons are: what the first k of each recover, and what is left without them. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from neurons.shown import Shown
from neurons.types import Measure

if TYPE_CHECKING:
    import pandas as pd

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the neurons kept, for the areas (Mueller et al. 2025)."""
SIZES = (31, 64, 128, 256)


@dataclass(frozen=True, eq=False, repr=False)
class OrderComparison(Shown):
    """A orders of the M neurons of the layers, in one measure; the first is by share.

    sizes [G]: k, ascending from 0 to M. kept, removed [A, G]: parts of clean minus floor with the first k alone run as
    they are, and with all others. correlation [A]: Spearman's with the share. total [A]: sum of the scores in units of
    the measure, NaN where they have others. alone [2, M]: exact effect of each neuron alone at a random other start
    year on contrast and probability difference, where asked for; else [2, 0].
    """

    measure: Measure
    names: tuple[str, ...]
    sizes: Int[np.ndarray, " G"]
    kept: Float[np.ndarray, "A G"]
    removed: Float[np.ndarray, "A G"]
    correlation: Float[np.ndarray, " A"]
    total: Float[np.ndarray, " A"]
    alone: Float[np.ndarray, "2 M"]

    @property
    def effects_alone(self) -> dict[Measure, Float[np.ndarray, " M"]] | None:
        """Exact effects by measure, as `rank` takes them; None where they were not asked for."""
        if not self.alone.size:
            return None
        return {"contrast": self.alone[0], "probability_difference": self.alone[1]}

    def recovered(self, k: int) -> Float[np.ndarray, " A"]:
        """What the first k of each order recover, as a part of clean minus floor; k is one of `sizes`."""
        return self.kept[:, self.sizes.tolist().index(k)]

    @property
    def cpr(self) -> Float[np.ndarray, " A"]:
        """Area under the recovered part over the fraction of neurons kept, by trapezia (Mueller et al. 2025)."""
        return self._area(self.kept)

    @property
    def cmd(self) -> Float[np.ndarray, " A"]:
        """Area between the recovered part and 1; 0 is best."""
        return self._area(np.abs(1 - self.kept))

    def _area(self, values: Float[np.ndarray, "A G"]) -> Float[np.ndarray, " A"]:
        M = int(self.sizes[-1])
        held = np.isin(self.sizes, [max(1, round(fraction * M)) for fraction in FRACTIONS])
        return np.trapezoid(values[:, held], self.sizes[held] / M, axis=1)

    def summary(self) -> dict[str, object]:
        return {"measure": self.measure, "orders": len(self.names), "best CPR": self.names[int(self.cpr.argmax())]}

    def to_frame(self) -> "pd.DataFrame":
        """A row an order: correlation with the share, sum, what the first k recover, CPR, CMD."""
        import pandas as pd

        held = [k for k in SIZES if k in self.sizes]
        columns = {"order": self.names, "correlation": self.correlation, "sum": self.total}
        columns |= {f"kept_{k}": self.recovered(k) for k in held}
        return pd.DataFrame(columns | {"cpr": self.cpr, "cmd": self.cmd})

    def to_json(self) -> dict[str, Any]:
        """The table and both curves; what is not known is null."""
        rows = self.to_frame().to_dict("records")
        return {
            "measure": self.measure,
            "sizes": self.sizes.tolist(),
            "orders": [
                {key: None if value != value else value for key, value in row.items()}
                | {"kept": self.kept[place].tolist(), "removed": self.removed[place].tolist()}
                for place, row in enumerate(rows)
            ],
        }
