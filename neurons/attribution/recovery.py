"""How many neurons are enough: what the first k by share recover, and the fewest that recover a part."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from neurons.rounding import reaches
from neurons.shown import Shown
from neurons.types import InputError, Measure, quoted

if TYPE_CHECKING:
    import pandas as pd


def fewest(sizes: Int[np.ndarray, " G"], recovered: Float[np.ndarray, " G"], part: float) -> int | None:
    """The smallest size that recovers this part, by straight line between those that were run; None where none does.

    Raises `InputError` for a part that is not above 0 and at most 1.
    """
    if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
        raise InputError(f"part must be a number above 0 and at most 1, not {quoted(part)}")
    reached = [reaches(value, part) for value in recovered.tolist()]
    if True not in reached:
        return None
    at = reached.index(True)
    if at == 0:
        return 0
    (k0, k1), (r0, r1) = sizes[at - 1 : at + 1].tolist(), recovered[at - 1 : at + 1].tolist()
    return int(np.ceil(round(k0 + (k1 - k0) * (part - r0) / (r1 - r0), 6)))


@dataclass(frozen=True, eq=False, repr=False)
class Recovery(Shown):
    """What the first k neurons by share recover of clean minus floor when all others are at a random other year.

    sizes [G]: k, ascending from 0 to all. recovered [G]: 0 is the floor, 1 the whole; the order comes from one half of
    the centuries and is measured on the other, both ways. held_out is False where one century leaves no halves.
    n_prompts: those of the measurement.
    """

    measure: Measure
    sizes: Int[np.ndarray, " G"]
    recovered: Float[np.ndarray, " G"]
    held_out: bool
    n_prompts: int

    def summary(self) -> dict[str, object]:
        return {"measure": self.measure, "k for 90 %": self.fewest(0.9), "held out": self.held_out}

    def fewest(self, part: float) -> int | None:
        """The first k that recover this part (0.9: 90 %); None where nothing moves. `InputError` for no such part.

        Between the sizes that were run by straight line: where the curve bends down, k is a little too large.
        """
        return fewest(self.sizes, self.recovered, part)

    def to_frame(self) -> "pd.DataFrame":
        """A row a size: recovered as a part of clean minus floor."""
        import pandas as pd

        return pd.DataFrame({"k": self.sizes, "recovered": self.recovered})
