"""Whether the neurons of one task do the work in another.

1. Each task has its behaviour and a ranking of the same neurons; `sharing` says which boost in both.
2. What the reference task's boosting neurons carry of another task: they are held together at their values on
   the 01-run, on that task's prompts, and the change of the probability difference is taken as a share of the
   change when all neurons of the layers are held. Beside it the same for the task's own boosting neurons.

The ablations themselves run with the model: `groups` says what to hold, `carried` reads what came out.
"""

import numpy as np
from jaxtyping import Bool, Float

from neurons.comparison.results import Carried, Scores

GROUPS = ("none", "all", "reference", "own")


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
