"""Similarity of neurons, of the members of a group, and of two clusterings."""

import numpy as np
from jaxtyping import Float, Int

from neurons.clustering.tuning import is_constant
from neurons.rounding import sign_of_largest

NOISE = -1

Labels = Int[np.ndarray, " M"]
Similarities = Float[np.ndarray, "M M"]


def readout_similarity(readout: Float[np.ndarray, "M 100"]) -> Similarities:
    """Return the cosines of the readouts, negative ones as 0."""
    profile = _unit(readout)
    return np.maximum(profile @ profile.T, 0)


def with_tuning(curve: Float[np.ndarray, "Y M"], readouts: Similarities) -> Similarities:
    """Return the readouts' similarity times the cosines of the centred tuning curves, negative ones as 0."""
    constant = is_constant(curve)
    shape = np.where(constant, 0, curve - curve.mean(0))
    always = np.where(constant, np.sign(curve.mean(0)), 0)
    tuning = _unit(np.vstack([shape, always]).T)
    similarity = tuning @ tuning.T
    similarity = (similarity + similarity.T) / 2
    np.maximum(similarity, 0, out=similarity)
    similarity *= readouts
    np.minimum(similarity, 1, out=similarity)
    np.fill_diagonal(similarity, 1)
    return similarity


def _unit(rows: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)


def mean_similarity(similarity: Similarities, labels: Labels) -> Float[np.ndarray, " groups"]:
    """Return the mean similarity over the pairs of neurons of each label from 0 on."""
    one = (labels[:, None] == np.arange(labels.max(initial=NOISE) + 1)).astype(float)
    n = one.sum(0)
    return ((one * (similarity @ one)).sum(0) - n) / np.maximum(n * (n - 1), 1)


def best_jaccard(labels: Labels, other: Labels, clusters: int | None = None) -> Float[np.ndarray, " clusters"]:
    """Return for each cluster of `labels` its largest Jaccard overlap with a cluster of `other`; noise is not a
    cluster.

    clusters: their number, where the last may have no member; one without any overlaps by 0.
    """
    one = (labels[:, None] == np.arange(labels.max() + 1 if clusters is None else clusters)).astype(float)
    two = (other[:, None] == np.arange(other.max() + 1)).astype(float)
    common = one.T @ two
    union = one.sum(0)[:, None] + two.sum(0) - common
    return (common / np.maximum(union, 1)).max(1, initial=0.0)


def in_the_plane(similarity: Similarities) -> Float[np.ndarray, "M 2"]:
    """Scale the distances classically: the two leading directions, the largest entry of each positive."""
    from scipy.sparse.linalg import eigsh

    M = len(similarity)
    if M < 4:
        return np.zeros((M, 2))
    squares = -((1 - similarity) ** 2) / 2
    centred = squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()
    size, direction = eigsh(centred, k=2, which="LA", v0=np.linspace(-1, 1, M))
    place = direction[:, ::-1] * np.sqrt(np.maximum(size[::-1], 0))
    return place * sign_of_largest(place)
