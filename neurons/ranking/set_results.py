"""What sets of neurons recover, lose and carry, as it is handed on. No torch, so that a report needs none.

Parts are of clean minus floor: 0 is the floor, where all neurons of the layers take a random other start year, 1 the
whole model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from neurons.attribution.recovery import Recovery, fewest
from neurons.shown import Shown
from neurons.types import Measure, NeuronId, check_choice

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["keep", "insert"]
"""`keep`: the rest of the neurons take the other run's activations. `insert`: the other run takes those of the set."""
Reference = Literal["random-year", "corrupted"]
SETS = ("none", "set", "all")
"""The sets that are put in each run."""


@dataclass(frozen=True, eq=False)
class SetCurve:
    """Parts recovered with the first k neurons by share alone (kept) and with all others (removed), on centuries that
    did not choose the order.

    sizes [G]: k, from 0 to all. kept [G]: as `Recovery` has it; removed [G]. random_kept,
    random_removed [S, G]: the same of S orders with neurons exchanged at random within layer and fifth of variance.
    """

    measure: Measure
    sizes: Int[np.ndarray, " G"]
    kept: Float[np.ndarray, " G"]
    removed: Float[np.ndarray, " G"]
    random_kept: Float[np.ndarray, "S G"]
    random_removed: Float[np.ndarray, "S G"]

    def fewest(self, part: float) -> int | None:
        """The first k by share that recover this part."""
        return fewest(self.sizes, self.kept, part)

    def fewest_random(self, part: float) -> int | None:
        """The same of the random orders' mean."""
        return fewest(self.sizes, self.random_kept.mean(0), part)

    def at(self, k: int) -> dict[str, float]:
        """Kept, removed and the random orders' means at k, by straight line between the sizes that were run."""
        found = {"kept": self.kept, "removed": self.removed, "random_kept": self.random_kept.mean(0),
                 "random_removed": self.random_removed.mean(0)}  # fmt: skip
        return {name: float(np.interp(k, self.sizes, values)) for name, values in found.items()}

    def to_json(self) -> dict[str, Any]:
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Members:
    """The set C of the first k neurons by share that recover 90 % of the probability difference, and its members.

    recovered: the part that C recovers. loss [k]: what it loses without each member alone, in rank order. gap [J]:
    |F(C without K) - F(all without K)| for J random K within C (Wang et al. 2022), as a part; subset_size [J]: of K;
    worst: the K of the largest gap. n_prompts: on which this was measured.
    """

    neurons: tuple[NeuronId, ...]
    recovered: float
    loss: Float[np.ndarray, " k"]
    gap: Float[np.ndarray, " J"]
    subset_size: Int[np.ndarray, " J"]
    worst: tuple[NeuronId, ...]
    n_prompts: int

    @property
    def incompleteness(self) -> float:
        """The largest gap of the subsets that were drawn."""
        return float(self.gap.max())

    @property
    def costliest(self) -> NeuronId:
        """The member whose absence alone costs most."""
        return self.neurons[int(self.loss.argmax())]

    def to_json(self) -> dict[str, Any]:
        return {
            "neurons": list(map(str, self.neurons)),
            "recovered": self.recovered,
            "loss": self.loss.tolist(),
            "largest_loss": {"neuron": str(self.costliest), "loss": float(self.loss.max())},
            "subsets": len(self.gap),
            "gap": self.gap.tolist(),
            "subset_size": self.subset_size.tolist(),
            "incompleteness": self.incompleteness,
            "worst_subset": list(map(str, self.worst)),
            "prompts": self.n_prompts,
        }


@dataclass(frozen=True)
class WorstPrompt:
    """A prompt on which the set answers least as the whole model does. divergence in nats."""

    noun: str
    century: int
    start_year: int
    other_year: int
    divergence: float
    probability_difference: float

    @property
    def name(self) -> str:
        """Noun and start year, like `war 1732`."""
        return f"{self.noun.strip()} {self.century:02d}{self.start_year:02d}"


@dataclass(frozen=True, eq=False)
class PatchedRuns:
    """One direction and reference: each measure with no neuron, the set, and all neurons of the layers (`SETS`).

    probability_difference, cutoff_sharpness [3]: scored for the prompt's own start year. divergence [3]: KL from the
    whole model's answer over all tokens, in nats, the mean over prompts. worst: prompts of the set's largest.
    """

    direction: Direction
    reference: Reference
    probability_difference: Float[np.ndarray, "3"]
    cutoff_sharpness: Float[np.ndarray, "3"]
    divergence: Float[np.ndarray, "3"]
    worst: tuple[WorstPrompt, ...]

    def to_json(self) -> dict[str, Any]:
        values = {name: dict(zip(SETS, getattr(self, name).tolist(), strict=True))
                  for name in ("probability_difference", "cutoff_sharpness", "divergence")}  # fmt: skip
        worst = [{"prompt": one.name, **vars(one)} for one in self.worst]
        return {"direction": self.direction, "reference": self.reference, **values, "worst": worst}


@dataclass(frozen=True, eq=False, repr=False)
class SetStudy(Shown):
    """What sets of the first neurons by share recover, lose and carry.

    n_prompts: on which `kept` was measured; n_sampled: the sample for the other curves. members, runs: of the set that
    recovers 90 %; None and empty where no set does.
    """

    model: str
    n_neurons: int
    n_prompts: int
    n_sampled: int
    seed: int
    curves: tuple[SetCurve, ...]
    members: Members | None
    runs: tuple[PatchedRuns, ...]

    def summary(self) -> dict[str, object]:
        about: dict[str, object] = {"model": self.model, "neurons": self.n_neurons, "prompts": self.n_prompts}
        if self.members is not None:
            about |= {"set": len(self.members.neurons), "incompleteness": f"{self.members.incompleteness:.3f}"}
        return about

    def curve(self, measure: Measure = "probability_difference") -> SetCurve:
        """The curve of one measure."""
        check_choice("measure", measure, Measure)
        return next(one for one in self.curves if one.measure == measure)

    def to_frame(self) -> "pd.DataFrame":
        """A row a measure and size: kept, removed, and the random orders' means."""
        import pandas as pd

        parts = [
            pd.DataFrame({"measure": c.measure, "k": c.sizes, "kept": c.kept, "removed": c.removed,
                          "random_kept": c.random_kept.mean(0), "random_removed": c.random_removed.mean(0)})
            for c in self.curves
        ]  # fmt: skip
        return pd.concat(parts, ignore_index=True)

    def to_json(self) -> dict[str, Any]:
        return {
            "prompts": self.n_prompts,
            "sampled": self.n_sampled,
            "seed": self.seed,
            "curves": [one.to_json() for one in self.curves],
            "members": None if self.members is None else self.members.to_json(),
            "runs": [one.to_json() for one in self.runs],
        }


@dataclass(frozen=True, eq=False, repr=False)
class OtherPrompts(Shown):
    """What the first k by share of the study's prompts recover on prompts of another template.

    clean, floor: each measure on these prompts. recoveries: of each measure, the order that of its shares.
    """

    name: str
    n_prompts: int
    clean: dict[Measure, float]
    floor: dict[Measure, float]
    recoveries: tuple[Recovery, ...]

    def summary(self) -> dict[str, object]:
        main = self.recoveries[0]
        return {"prompts": self.name, "measure": main.measure, "k for 90 %": main.fewest(0.9)}

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {one.measure: {"sizes": one.sizes.tolist(), "recovered": one.recovered.tolist()}
                 for one in self.recoveries}  # fmt: skip
        return {"name": self.name, "prompts": self.n_prompts, "clean": self.clean, "floor": self.floor, **found}


OnOtherPrompts = tuple[OtherPrompts, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Interchange(Shown):
    """The first k neurons by share take their activations from a prompt of another start year.

    sizes [G]: k. for_transplanted, for_own [G]: the probability difference scored for that year, and for the prompt's
    own. total_variation [G]: of the answer to the other prompt's own answer, over all tokens, 0..1. k: of the maps,
    None where no set recovers 90 %. map_for_transplanted, map_for_own [Y, Y]: start year by transplanted year, one
    pair of prompts each, NaN where no noun and century has both.
    """

    start_years: tuple[int, ...]
    n_prompts: int
    sizes: Int[np.ndarray, " G"]
    for_transplanted: Float[np.ndarray, " G"]
    for_own: Float[np.ndarray, " G"]
    total_variation: Float[np.ndarray, " G"]
    k: int | None
    map_for_transplanted: Float[np.ndarray, "Y Y"]
    map_for_own: Float[np.ndarray, "Y Y"]

    def summary(self) -> dict[str, object]:
        return {"prompts": self.n_prompts, "k of the maps": self.k}

    def at(self, k: int) -> dict[str, float]:
        """The three curves at k, by straight line between the sizes that were run."""
        names = ("for_transplanted", "for_own", "total_variation")
        return {name: float(np.interp(k, self.sizes, getattr(self, name))) for name in names}

    def to_frame(self) -> "pd.DataFrame":
        """A row a size."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    def columns(self) -> dict[str, np.ndarray]:
        """What a table of the sizes has, by column: k, then the three curves."""
        names = ("for_transplanted", "for_own", "total_variation")
        return {"k": self.sizes} | {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """The curves and both maps; cells without a pair are null."""
        maps = {name: [[None if v != v else v for v in row] for row in getattr(self, name).tolist()]
                for name in ("map_for_transplanted", "map_for_own")}  # fmt: skip
        curves = {name: column.tolist() for name, column in self.columns().items()}
        return {"prompts": self.n_prompts, "start_years": list(self.start_years), **curves, "k": self.k, **maps}
