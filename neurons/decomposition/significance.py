"""Significance of scores: the null of a random writing direction, circular shifts, false discovery rate."""

import numpy as np
from jaxtyping import Float

from neurons.rounding import MARGIN

Q_BAR = 0.05


def random_direction_p(
    covariance: Float[np.ndarray, " N"],
    direction_norm: Float[np.ndarray, " N"],
    w_out_norm: Float[np.ndarray, " N"],
    dimensions: int,
) -> Float[np.ndarray, " N"]:
    """Return the one-sided p value of a year-specific part; null: the neuron, tuned as it is, writes in a random
    direction.

    `covariance` is the centred w_out's product with the direction that its tuning makes into contrast,
    so r = covariance / (norms) is a cosine, and r sqrt((d - 2) / (1 - r^2)) follows Student's t with
    d - 2 degrees for a random direction among `dimensions` = d centred ones. No tuning or no contrast
    gives p = 1.
    """
    from scipy.special import stdtr  # the same function as scipy.stats.t.sf, whose import takes a second

    norms = direction_norm * w_out_norm
    defined = norms > 1e-12 * max(float(norms.max(initial=0.0)), 1e-300)
    r = np.clip(np.divide(covariance, norms, where=defined, out=np.zeros_like(norms)), -1, 1)
    freedom = max(dimensions - 2, 1)
    with np.errstate(divide="ignore"):
        statistic = r * np.sqrt(freedom / (1 - r**2))
    return np.where(defined, stdtr(freedom, -statistic), 1.0)


def circular_shift_p(tuning: Float[np.ndarray, "Y N"], values: Float[np.ndarray, "N Y"]) -> Float[np.ndarray, " N"]:
    """Return the share of the circular shifts of the tuning curve whose covariance with `values` is at least the true
    one.

    A description, not a test: tuning curves are smooth, so shifts are not exchangeable.
    """
    Y = len(tuning)
    centred = tuning - tuning.mean(0)
    spectrum = np.conj(np.fft.rfft(centred, axis=0)) * np.fft.rfft(values.T, axis=0)
    shifted = np.fft.irfft(spectrum, n=Y, axis=0)
    slack = MARGIN * np.abs(shifted).max(0)
    return (shifted >= shifted[0] - slack).mean(0)


def false_discovery_q(p_values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Return Benjamini-Hochberg q values (1995): the smallest false discovery rate at which each is called; 0..1.

    Equal to `scipy.stats.false_discovery_control` (tested), whose import takes longer than the ranking.
    """
    order = np.argsort(-p_values, kind="stable")
    N = len(p_values)
    scaled = p_values[order] * N / np.arange(N, 0, -1)
    q = np.empty(N)
    q[order] = np.minimum(np.minimum.accumulate(scaled), 1)
    return q
