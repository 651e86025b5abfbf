"""Bootstrap over nouns."""

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95
RESAMPLES = 2000


def noun_resamples(n_nouns: int, resamples: int, seed: int) -> Float[np.ndarray, "B nouns"]:
    """How often each noun occurs in each bootstrap resample."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_nouns, np.full(n_nouns, 1 / n_nouns), size=resamples).astype(float)


def bootstrap_weighted_mean(
    sums: Float[np.ndarray, "nouns Y N"],
    counts: Int[np.ndarray, "nouns Y"],
    values: Float[np.ndarray, "N Y"],
    resamples: Float[np.ndarray, "B nouns"],
) -> Float[np.ndarray, "B N"]:
    """Sum over start years of (mean over the resampled nouns' prompts) * value, for each resample.

    A mean over resampled nouns is a matrix product. Start years at which the nouns have the same
    numbers of prompts are summed first; a start year that a resample lost (no noun has it) is left out
    of that resample's sum, and the sum is scaled up for it.
    """
    by_year = values.T.astype(sums.dtype)
    patterns, member = np.unique(counts, axis=1, return_inverse=True)
    per_noun, factors, kept_years = [], [], np.zeros(len(resamples))
    for p, pattern in enumerate(patterns.T):
        years = np.flatnonzero(member.reshape(-1) == p)
        per_noun += [(one[years] * by_year[years]).sum(0) for one in sums]
        prompts = resamples @ pattern
        kept = prompts > 0
        factors.append(np.divide(resamples, prompts[:, None], where=kept[:, None], out=np.zeros_like(resamples)))
        kept_years += np.where(kept, len(years), 0)
    factor = np.concatenate(factors, axis=1) * (counts.shape[1] / np.maximum(kept_years, 1))[:, None]
    return (np.stack(per_noun, axis=1).astype(np.float32) @ factor.T.astype(np.float32)).T


def interval(samples: Float[np.ndarray, "B N"], confidence: float = CONFIDENCE) -> Float[np.ndarray, "2 N"]:
    """The percentile interval of each column: lower row, upper row.

    Rows are sorted whole: NumPy's vectorised sort of adjacent numbers beats its partition along an axis three times.
    """
    tail = (1 - confidence) / 2
    B = len(samples)
    ranks = [int(np.floor(tail * (B - 1))), int(np.ceil((1 - tail) * (B - 1)))]
    return np.sort(samples.T, axis=1)[:, ranks].T
