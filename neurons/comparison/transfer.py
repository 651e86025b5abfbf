"""Whether the neurons of one task do the work in another.

1. Each task has its behaviour and a ranking of the same neurons; `sharing` says which boost in both.
2. What the reference task's boosting neurons carry of another task: they are held together at their values on
   the 01-run, on that task's prompts, and the change of the probability difference is taken as a share of the
   change when all neurons of the layers are held. Beside it the same for the task's own boosting neurons.

The ablations themselves run with the model: `groups` says what to hold, `carried` reads what came out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neurons.comparison.overlap import Scores, Sharing

GROUPS = ("none", "all", "reference", "own")
LEAST_CHANGE = 0.01
"""A probability difference that all neurons together change by less is not divided up."""


@dataclass(frozen=True)
class Carried:
    """Changes of the mean probability difference when groups of neurons are held at the 01-run's values.

    all_neurons: of every neuron of the layers; reference: the reference task's boosting ones; own: this
    task's. n_reference, n_own: how many were held.
    """

    all_neurons: float
    reference: float
    own: float
    n_reference: int
    n_own: int

    def share(self, change: float) -> float | None:
        """Part of what all neurons of the layers change; None where that is next to nothing."""
        return change / self.all_neurons if abs(self.all_neurons) >= LEAST_CHANGE else None

    def to_json(self) -> dict[str, Any]:
        return {
            "all_neurons": {"change": self.all_neurons},
            "reference": {
                "neurons": self.n_reference,
                "change": self.reference,
                "share": self.share(self.reference),
            },
            "own": {"neurons": self.n_own, "change": self.own, "share": self.share(self.own)},
        }


@dataclass(frozen=True, eq=False)
class TaskResult:
    """One task: what the model does, its scores, and (not for the reference) how they agree with the reference's.

    behaviour: as `neurons behaviour` has it, by run. right: the years that are right; None for a user's template.
    """

    name: str
    prompt: str
    right: str | None
    source: str
    n_prompts: int
    behaviour: dict[str, dict[str, dict[str, float]]]
    scores: Scores
    sharing: Sharing | None
    carried: Carried

    def to_json(self) -> dict[str, Any]:
        shared = self.sharing.to_json() if self.sharing else None
        return {
            "task": self.name,
            "prompt": self.prompt,
            "right": self.right,
            "source": self.source,
            "n_prompts": self.n_prompts,
            "behaviour": self.behaviour,
            "boosting": int(self.scores.boosting.sum()),
            "suppressing": int(self.scores.suppressing.sum()),
            "shared": shared,
            "carried": self.carried.to_json(),
        }


@dataclass(frozen=True, eq=False)
class Transfer:
    """Tasks of one model, the reference first. top: how many boosting neurons were held at most; None for all.

    left_out: tasks that the model cannot be asked, and why.
    """

    model: str
    layers: tuple[int, ...]
    top: int | None
    tasks: tuple[TaskResult, ...]
    left_out: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """The result of `neurons tasks --json`; in `shared`, first is the reference and second the task."""
        return {
            "model": self.model,
            "layers": list(self.layers),
            "reference": self.tasks[0].name,
            "top": self.top,
            "tasks": [task.to_json() for task in self.tasks],
            "left_out": [{"task": name, "reason": reason} for name, reason in self.left_out.items()],
        }


def groups(reference: Scores, own: Scores, *, n_layers: int, top: int | None = None) -> Bool[np.ndarray, "4 L N"]:
    """The neurons to hold together, by cached layer and index: for each of `GROUPS`."""
    nothing = np.zeros(len(own), bool)
    masks = (nothing, ~nothing, reference.top_boosting(top), own.top_boosting(top))
    return np.stack(masks).reshape(len(masks), n_layers, -1)


def carried(measured: Float[np.ndarray, "4 Y"], held: Bool[np.ndarray, "4 L N"]) -> Carried:
    """From the probability difference at each start year while each group is held."""
    means = dict(zip(GROUPS, measured.mean(1).tolist(), strict=True))
    sizes = dict(zip(GROUPS, held.sum((1, 2)).tolist(), strict=True))
    return Carried(
        all_neurons=means["all"] - means["none"],
        reference=means["reference"] - means["none"],
        own=means["own"] - means["none"],
        n_reference=sizes["reference"],
        n_own=sizes["own"],
    )
