"""Transfer between tasks: whether the neurons of one task are necessary in another.

1. Each task has its behaviour and a ranking of the same neurons; `overlap` finds those that boost in both.
2. The reference task's boosting neurons are resample-ablated together on another task's prompts, and the change of the
   probability difference is taken as a share of the change when all neurons of the layers are ablated. Beside it the
   same for the task's own boosting neurons.

The ablations themselves run with the model: `groups` says which neurons, `carried` reads the result.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from neurons.comparison.overlap import Scores, Sharing

GROUPS = ("none", "all", "reference", "own")
LEAST_CHANGE = 0.01
"""A smaller change of the probability difference by all neurons together is not divided up."""


@dataclass(frozen=True)
class Carried:
    """Changes of the mean probability difference when groups of neurons are resample-ablated together.

    all_neurons: of every neuron of the layers; reference: the reference task's boosting ones; own: this
    task's. n_reference, n_own: how many were ablated.
    """

    all_neurons: float
    reference: float
    own: float
    n_reference: int
    n_own: int

    def share(self, change: float) -> float | None:
        """Part of the change that all neurons of the layers cause; None if that is close to zero."""
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
    """One task: the model's behaviour, its scores, and (not for the reference) their overlap with the reference's.

    behaviour: as in `neurons behaviour`, by run. right: the years that are right; None for a custom task.
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
    """Tasks of one model, the reference first. top: most boosting neurons ablated; None for all.

    left_out: tasks that the tokenizer cannot express, and why.
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
    """Return the neurons to ablate together, by cached layer and index: for each of `GROUPS`."""
    nothing = np.zeros(len(own), bool)
    masks = (nothing, ~nothing, reference.top_boosting(top), own.top_boosting(top))
    return np.stack(masks).reshape(len(masks), n_layers, -1)


def carried(measured: Float[np.ndarray, "4 Y"], held: Bool[np.ndarray, "4 L N"]) -> Carried:
    """Summarise the probability difference at each start year while each group is ablated."""
    means = dict(zip(GROUPS, measured.mean(1).tolist(), strict=True))
    sizes = dict(zip(GROUPS, held.sum((1, 2)).tolist(), strict=True))
    return Carried(
        all_neurons=means["all"] - means["none"],
        reference=means["reference"] - means["none"],
        own=means["own"] - means["none"],
        n_reference=sizes["reference"],
        n_own=sizes["own"],
    )
