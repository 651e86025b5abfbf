"""Masks learned by gradient, as they are handed on. No torch."""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from neurons.attribution.recovery import fewest
from neurons.shown import Shown
from neurons.types import NeuronId

if TYPE_CHECKING:
    import pandas as pd

Start = Literal["cold", "warm", "without"]
"""All gates alike; in the order of the shares; all alike, and the first k by share closed for good."""
STARTS: tuple[Start, ...] = get_args(Start)
SEEDS, STEPS = 5, 600
"""Seeds of each start, and steps of each, unless others are asked for."""
PARTS = {"50": 0.5, "80": 0.8, "90": 0.9}


@dataclass(frozen=True, eq=False, repr=False)
class LearnedMasks(Shown):
    """Orders of the M neurons by masks that were learned from three starts (`STARTS`) and S seeds.

    neurons: layer by layer. k: the first neurons by share that recover 90 % of the probability difference. by_share
    [M]: rows in the order of shares on the half of the centuries on which masks were learned. orders [3, S, M]: rows
    by learned gate. sizes [G]; share_recovered [G], recovered [3, S, G]: parts that the first so many recover on the
    other half. n_prompts: of the measurement.
    """

    neurons: tuple[NeuronId, ...]
    seed: int
    steps: int
    n_prompts: int
    k: int
    sizes: Int[np.ndarray, " G"]
    by_share: Int[np.ndarray, " M"]
    share_recovered: Float[np.ndarray, " G"]
    orders: Int[np.ndarray, "3 S M"]
    recovered: Float[np.ndarray, "3 S G"]

    @property
    def seeds(self) -> int:
        """Of each start."""
        return self.orders.shape[1]

    def summary(self) -> dict[str, object]:
        cold = self.overlap_with_shares("cold")
        return {"seeds": self.seeds, "steps": self.steps, "k": self.k,
                "overlap with shares": f"{cold.mean():.2f}"}  # fmt: skip

    def fewest(self, start: Start, part: float) -> list[int | None]:
        """For each seed the first k by gate that recover this part; None where none do.

        Of those learned without the first k by share, only the rest counts.
        """
        sizes = self.sizes_of(start)
        curves = self.recovered[STARTS.index(start), :, : len(sizes)]
        return [fewest(sizes, one, part) for one in curves]

    def sizes_of(self, start: Start) -> Int[np.ndarray, " g"]:
        """The sizes at which only neurons whose gates could open are counted."""
        return self.sizes[self.sizes <= len(self.by_share) - (self.k if start == "without" else 0)]

    def at(self, start: Start, k: int) -> Float[np.ndarray, " S"]:
        """The part that the first k of each seed recover, by straight line between sizes."""
        return np.array([np.interp(k, self.sizes, one) for one in self.recovered[STARTS.index(start)]])

    def share_fewest(self, part: float) -> int | None:
        """The first k by share that recover this part of it, on the same prompts."""
        return fewest(self.sizes, self.share_recovered, part)

    def share_at(self, k: int) -> float:
        """The part that the first k by share recover, on the same prompts."""
        return float(np.interp(k, self.sizes, self.share_recovered))

    def overlap_with_shares(self, start: Start) -> Float[np.ndarray, " S"]:
        """The share of the first k of each seed that are among the first k by share."""
        first = set(self.by_share[: self.k].tolist())
        return np.array([len(first & set(order[: self.k].tolist())) / self.k for order in self._orders(start)])

    def overlap_among(self, start: Start) -> float | None:
        """The same of each two seeds, on average; None with one seed."""
        firsts = [set(order[: self.k].tolist()) for order in self._orders(start)]
        pairs = [len(one & other) / self.k for one, other in combinations(firsts, 2)]
        return float(np.mean(pairs)) if pairs else None

    def _orders(self, start: Start) -> Int[np.ndarray, "S M"]:
        return self.orders[STARTS.index(start)]

    def to_frame(self) -> "pd.DataFrame":
        """A row a start and seed: k for each part, what the first k recover, overlap with the first k by share."""
        import pandas as pd

        return pd.DataFrame(self._records())

    def _records(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        for start in STARTS:
            ks = {f"k_{name}": self.fewest(start, part) for name, part in PARTS.items()}
            at, overlap = self.at(start, self.k), self.overlap_with_shares(start)
            records += [
                {"start": start, "seed": self.seed + place, **{name: found[place] for name, found in ks.items()},
                 "recovered": float(at[place]), "overlap": float(overlap[place])}
                for place in range(self.seeds)
            ]  # fmt: skip
        return records

    def to_json(self) -> dict[str, Any]:
        """The table, both overlaps, and the first k neurons of each run."""
        return {
            "k": self.k,
            "steps": self.steps,
            "prompts": self.n_prompts,
            "sizes": self.sizes.tolist(),
            "share_recovered": self.share_recovered.tolist(),
            "share_k": {name: self.share_fewest(part) for name, part in PARTS.items()},
            "overlap_among": {start: self.overlap_among(start) for start in STARTS},
            "runs": self._runs(),
        }

    def _runs(self) -> list[dict[str, Any]]:
        curves, orders = (values.reshape(-1, values.shape[-1]) for values in (self.recovered, self.orders))
        runs = self._records()
        for run, curve, order in zip(runs, curves, orders, strict=True):
            run["curve"] = curve[: len(self.sizes_of(run["start"]))].tolist()
            run["neurons"] = [str(self.neurons[row]) for row in order[: self.k].tolist()]
        return runs
