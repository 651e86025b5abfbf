"""Agreement of boosting scores, which are predictions, with ablation, and the step at which they differ.

A score is compared with minus the neuron's exact effect on the contrast. Three steps lie between the two, and each can
make them differ: the ablation, the final LayerNorm, and the layers after the neuron.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from neurons.intervention.results import STEPS, Agreement
from neurons.rounding import cleared, descending, largest
from neurons.types import InputError, NeuronId

RANK_GAP = 0.25
"""Ranks that differ by more than this share of the neurons compared disagree."""
NOISE = 0.01
"""A neuron is flagged only where score or effect is at least this share of the largest."""


def agreement(
    neurons: Sequence[NeuronId],
    score: Float[np.ndarray, " M"],
    *,
    frozen: Float[np.ndarray, " M"],
    direct: Float[np.ndarray, " M"],
    total: Float[np.ndarray, " M"],
) -> Agreement:
    """Compare boosting scores with the exact effects (ablated minus baseline) on the contrast, in logits.

    Raises `InputError` for fewer than three neurons, or neurons without a score.
    """
    if len(neurons) < 3 or np.isnan(score).any():
        raise InputError("agreement compares at least three neurons that all have a boosting score")
    lost = {"frozen": -frozen, "direct": -direct, "total": -total}
    chain = np.stack([score, *lost.values()])
    furthest = largest(np.abs(np.diff(chain, axis=0)))
    ranks = np.stack([_ranks(score), _ranks(lost["total"])])
    counts = (np.abs(chain[[0, 3]]) >= NOISE * np.abs(chain[[0, 3]]).max(1, keepdims=True)).any(0)
    return Agreement(
        neurons=tuple(neurons),
        score=score,
        **lost,
        correlation={name: _correlations(score, lost[name]) for name in ("direct", "total")},
        sign_differs=counts & (np.sign(cleared(score)) != np.sign(cleared(lost["total"]))),
        rank_differs=counts & (np.abs(ranks[0] - ranks[1]) > RANK_GAP * len(score)),
        step=tuple(STEPS[i] for i in furthest.tolist()),
    )


def _ranks(values: Float[np.ndarray, " M"]) -> np.ndarray:
    return np.argsort(descending(values))


def _correlations(score: Float[np.ndarray, " M"], effect: Float[np.ndarray, " M"]) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    return {
        "spearman": float(spearmanr(cleared(score), cleared(effect))[0]),
        "pearson": float(pearsonr(score, effect)[0]),
    }
