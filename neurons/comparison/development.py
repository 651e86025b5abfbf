"""Development over training: behaviour, how many neurons it takes, their tiling, and which of them stay, by step.

1. A step is the last number in a checkpoint's name (`NAME@checkpoint-400000`); where names have none, or not each its
   own, the place in which the checkpoints were given.
2. Survival: of the neurons that boost at one step, the fraction that boosts at another. It is read beside chance, the
   fraction of all neurons that boosts there: an index means the same neuron only within one training run.
"""

import re
from collections.abc import Sequence

import numpy as np

from neurons.comparison.model_results import Development, Side

FEWEST = 3
"""Checkpoints that make a development: two are a pair."""


def development(sides: Sequence[Side]) -> Development | None:
    """Put checkpoints of one shape in the order of their steps; None for fewer than three or other shapes."""
    if len(sides) < FEWEST or len({side.shape for side in sides}) > 1:
        return None
    steps = steps_of([side.name for side in sides])
    order = np.argsort(steps, kind="stable").tolist()
    ordered = [sides[place] for place in order]
    boosting = np.stack([side.scores.boosting for side in ordered]).astype(float)
    count = boosting.sum(1)
    survival = np.full((len(sides), len(sides)), np.nan)
    np.divide(boosting @ boosting.T, count[:, None], out=survival, where=count[:, None] > 0)
    return Development(
        names=tuple(side.name for side in ordered),
        steps=tuple(steps[place] for place in order),
        behaviour={
            measure: np.array([side.behaviour["model"][measure]["mean"] for side in ordered])
            for measure in ("probability_difference", "cutoff_sharpness")
        },
        k={measure: tuple(side.k.get(measure) for side in ordered) for measure in ordered[0].k},
        tiling={name: tuple(side.tiling.get(name) for side in ordered) for name in ordered[0].tiling},
        boosting=tuple(int(n) for n in count),
        survival=survival,
        chance=boosting.mean(1),
    )


def steps_of(names: Sequence[str]) -> list[int]:
    """The last number in each name, or their places from 1 on."""
    found = [re.findall(r"\d+", name, flags=re.ASCII) for name in names]
    steps = [int(numbers[-1]) for numbers in found if numbers]
    return steps if len(set(steps)) == len(names) else list(range(1, len(names) + 1))
