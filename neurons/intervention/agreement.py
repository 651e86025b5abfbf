"""Agreement of boosting scores, which are predictions, with ablation, and the step at which they differ.

A score is compared with minus the neuron's exact effect on the contrast. Three steps lie between the two, and each can
make them differ: the ablation, the final LayerNorm, and the layers after the neuron.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from neurons.rounding import cleared, descending, largest
from neurons.types import InputError, NeuronId

RANK_GAP = 0.25
"""Ranks that differ by more than this share of the neurons compared disagree."""
NOISE = 0.01
"""A neuron is flagged only where score or effect is at least this share of the largest."""

Step = Literal["ablation", "final LayerNorm", "later layers"]
STEPS: tuple[Step, ...] = ("ablation", "final LayerNorm", "later layers")


@dataclass(frozen=True, eq=False)
class Agreement:
    """Boosting scores beside minus the exact effects, in logits. M neurons.

    sign_differs, rank_differs: where score and total effect disagree. step: where most of the difference comes from:
    the ablation itself (score against frozen: resampling leaves a neuron's YY-independent bias to late years in
    place), the final LayerNorm (frozen against direct), or later layers (direct against total).
    """

    neurons: tuple[NeuronId, ...]
    score: Float[np.ndarray, " M"]
    frozen: Float[np.ndarray, " M"]
    direct: Float[np.ndarray, " M"]
    total: Float[np.ndarray, " M"]
    correlation: dict[str, dict[str, float]]
    sign_differs: Bool[np.ndarray, " M"]
    rank_differs: Bool[np.ndarray, " M"]
    step: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        rows = np.flatnonzero(self.sign_differs | self.rank_differs)
        flagged = [
            {"neuron": str(self.neurons[i]), "score": float(self.score[i]), "frozen": float(self.frozen[i]),
             "direct": float(self.direct[i]), "total": float(self.total[i]), "sign": bool(self.sign_differs[i]),
             "rank": bool(self.rank_differs[i]), "step": self.step[i]}
            for i in rows.tolist()
        ]  # fmt: skip
        return {"n_neurons": len(self.neurons), "correlation": self.correlation, "flagged": flagged}


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
