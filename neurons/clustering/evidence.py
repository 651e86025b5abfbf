"""What speaks for clusters, as it is kept: the dips of three numbers, and the stability of the clusters."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from neurons.rounding import clearly_above, reaches

Place = Literal["tuning centre", "width", "monotonicity"]
LEVEL = 0.05
"""Of the three dip tests together."""


@dataclass(frozen=True)
class Dip:
    """Hartigan's dip of one number of n neurons; dip and p_value are None for fewer than four."""

    of: Place
    neurons: int
    dip: float | None
    p_value: float | None

    @property
    def rejects(self) -> bool:
        """Whether the number has more than one mode, at 5 % for the three together."""
        return self.p_value is not None and clearly_above(LEVEL / len(get_args(Place)), self.p_value)


@dataclass(frozen=True)
class Evidence:
    """What speaks for clusters. dips: of tuning centre, width, monotonicity. stability: mean over the neurons in
    clusters of their cluster's, None where nothing was clustered; in_stable: the part of them that is in stable ones.
    """

    dips: tuple[Dip, ...]
    stability: float | None
    in_stable: float

    @property
    def clustered(self) -> bool:
        """Whether the neurons fall into clusters; else they are a continuum, as far as tuning goes."""
        return any(dip.rejects for dip in self.dips) and reaches(self.in_stable, 0.5)

    def to_json(self) -> dict[str, Any]:
        """`evidence` in the JSON of `neurons cluster`."""
        dips = {dip.of.replace(" ", "_"): {"neurons": dip.neurons, "dip": dip.dip, "p_value": dip.p_value}
                for dip in self.dips}  # fmt: skip
        return {"dips": dips, "stability": self.stability, "in_stable": self.in_stable}

    def words(self) -> str:
        """`p of Hartigan's dip: tuning centre 0.26, ...; mean stability 0.62, 31 % of ...`."""
        dips = ", ".join(f"{d.of} {'too few' if d.p_value is None else f'{d.p_value:.2g}'}" for d in self.dips)
        stability = "no clusters" if self.stability is None else f"mean stability {self.stability:.2f}"
        return f"p of Hartigan's dip: {dips}; {stability}, {self.in_stable:.0%} of the neurons in stable clusters"
