"""Bootstrap over nouns, the null of a random writing direction, circular shifts, false discovery rate."""

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95
RESAMPLES = 2000
Q_BAR = 0.05


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
    numbers of prompts share one product; a start year that a resample lost (no noun has it) is left out
    of that resample's sum, and the sum is scaled up for it.
    """
    weight = np.zeros(len(resamples))
    total = np.zeros((len(resamples), sums.shape[2]), np.float32)
    patterns, member = np.unique(counts, axis=1, return_inverse=True)
    for p, pattern in enumerate(patterns.T):
        years = np.flatnonzero(member.reshape(-1) == p)
        per_noun = np.einsum("jyn,ny->jn", sums[:, years], values[:, years], optimize=True)
        prompts = resamples @ pattern
        kept = prompts > 0
        factor = np.divide(resamples, prompts[:, None], where=kept[:, None], out=np.zeros_like(resamples))
        total += factor.astype(np.float32) @ per_noun.astype(np.float32)
        weight += np.where(kept, len(years), 0)
    return total * (counts.shape[1] / np.maximum(weight, 1)).astype(np.float32)[:, None]


def interval(samples: Float[np.ndarray, "B N"], confidence: float = CONFIDENCE) -> Float[np.ndarray, "2 N"]:
    """The percentile interval of each column: lower row, upper row."""
    tail = (1 - confidence) / 2
    B = len(samples)
    ranks = [int(np.floor(tail * (B - 1))), int(np.ceil((1 - tail) * (B - 1)))]
    ordered = np.partition(samples, ranks, axis=0)
    return ordered[ranks]


def random_direction_p(
    covariance: Float[np.ndarray, " N"],
    direction_norm: Float[np.ndarray, " N"],
    w_out_norm: Float[np.ndarray, " N"],
    dimensions: int,
) -> Float[np.ndarray, " N"]:
    """One-sided p value of a year-specific part, under: the neuron, tuned as it is, writes in a random direction.

    `covariance` is the centred w_out's product with the direction that its tuning makes into contrast,
    so r = covariance / (norms) is a cosine, and r sqrt((d - 2) / (1 - r^2)) follows Student's t with
    d - 2 degrees for a random direction among `dimensions` = d centred ones. No tuning or no contrast
    gives p = 1.
    """
    from scipy.stats import t as student

    norms = direction_norm * w_out_norm
    defined = norms > 1e-12 * max(float(norms.max(initial=0.0)), 1e-300)
    r = np.clip(np.divide(covariance, norms, where=defined, out=np.zeros_like(norms)), -1, 1)
    freedom = max(dimensions - 2, 1)
    with np.errstate(divide="ignore"):
        statistic = r * np.sqrt(freedom / (1 - r**2))
    return np.where(defined, student.sf(statistic, freedom), 1.0)


def circular_shift_p(tuning: Float[np.ndarray, "Y N"], values: Float[np.ndarray, "N Y"]) -> Float[np.ndarray, " N"]:
    """Share of the circular shifts of the tuning curve whose covariance with `values` is at least the true one.

    A description, not a test: tuning curves are smooth, so shifts are not exchangeable.
    """
    Y = len(tuning)
    centred = tuning - tuning.mean(0)
    spectrum = np.conj(np.fft.rfft(centred, axis=0)) * np.fft.rfft(values.T, axis=0)
    shifted = np.fft.irfft(spectrum, n=Y, axis=0)
    slack = 1e-9 * np.abs(shifted).max(0)
    return (shifted >= shifted[0] - slack).mean(0)


def false_discovery_q(p_values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Benjamini-Hochberg q values."""
    from scipy.stats import false_discovery_control

    return false_discovery_control(p_values)
