"""Overlap of two rankings: which neurons boost in both and which in one alone, for two tasks or two checkpoints.

1. In both: boosting in each.
2. In one alone: boosting there, not boosting in the other, and its share reliably lower in the other. That a neuron is
   among the first in one and not in the other does not make the two different (Gelman and Stern 2006), so the interval
   of the difference must lie above zero. It is made of the two shares' own intervals (Zou and Donner 2008), as if they
   were independent: wider than need be where both rankings share their centuries.
3. Undecided: boosting in one, and neither of the two above.

Shares are of the probability difference; where rankings are by direct effect, that stands in their place.
"""

import numpy as np
from jaxtyping import Bool, Float

from neurons.comparison.results import Scores, Sharing
from neurons.ranking.results import Ranking
from neurons.rounding import above, cleared, descending, is_nothing
from neurons.types import InputError, NeuronId


def scores_of(ranking: Ranking) -> Scores:
    """Return the part of a ranking that is compared, by layer and index."""
    order = np.lexsort((ranking.index, ranking.layer))
    columns = ("layer", "index", "score", "ci_low", "ci_high", "boosting", "suppressing")
    return Scores(share=ranking.judged[order], **{name: getattr(ranking, name)[order] for name in columns})


def share(first: Scores, second: Scores) -> Sharing:
    """Compare two rankings; raises `InputError` if they are not of the same neurons."""
    if not (np.array_equal(first.layer, second.layer) and np.array_equal(first.index, second.index)):
        raise InputError("neurons can be compared one by one only where both rankings are of the same layers and width")
    both = first.boosting & second.boosting
    size = float(np.abs([first.share, second.share]).max(initial=0.0))
    only_first = first.boosting & ~second.boosting & above(_difference_low(first, second), size)
    only_second = second.boosting & ~first.boosting & above(_difference_low(second, first), size)
    undecided = (first.boosting | second.boosting) & ~(both | only_first | only_second)
    n_first, n_second = int(first.boosting.sum()), int(second.boosting.sum())
    larger = np.maximum(first.share, second.share)
    return Sharing(
        both=_named(first, both, larger),
        only_first=_named(first, only_first, larger),
        only_second=_named(first, only_second, larger),
        undecided=_named(first, undecided, larger),
        rank_correlation=rank_correlation(first.share, second.share),
        n_first=n_first,
        n_second=n_second,
        expected_both=n_first * n_second / len(first) if len(first) else 0.0,
    )


def rank_correlation(first: Float[np.ndarray, " M"], second: Float[np.ndarray, " M"]) -> float | None:
    """Return Spearman's rank correlation; None if one side is constant."""
    from scipy.stats import spearmanr

    if len(first) < 2 or any(is_nothing(np.ptp(one), np.abs(one).max()) for one in (first, second)):
        return None
    return float(spearmanr(cleared(first), cleared(second)).statistic)


def _difference_low(larger: Scores, smaller: Scores) -> Float[np.ndarray, " M"]:
    """Lower end of the 95 % interval of the difference of the shares (Zou and Donner 2008, eq. 10); NaN if unknown."""
    down, up = larger.share - larger.ci_low, smaller.ci_high - smaller.share
    return larger.share - smaller.share - np.hypot(down, up)


def _named(of: Scores, chosen: Bool[np.ndarray, " M"], size: Float[np.ndarray, " M"]) -> tuple[NeuronId, ...]:
    rows = np.flatnonzero(chosen)
    neurons = of.neurons
    return tuple(neurons[row] for row in rows[descending(size[rows])])
