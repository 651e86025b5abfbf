"""Transfer between tasks: whether the neurons of one task are necessary in another.

1. Each task has its behaviour and a ranking of the same neurons; `overlap` finds those that boost in both.
2. The reference task's boosting neurons take their activations of a random other start year together, on another
   task's prompts, and the change of the probability difference is taken as a share of the change when all neurons of
   the layers do. Beside it the same for the task's own boosting neurons.

The ablations themselves run with the model: `groups` says which neurons, `carried` reads the result.
"""

import numpy as np
from jaxtyping import Bool, Float

from neurons.comparison.results import Carried, Scores

GROUPS = ("none", "all", "reference", "own")


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
