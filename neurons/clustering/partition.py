"""Partition neurons by similarity: HDBSCAN, average linkage beside it, and the stability of both.

1. HDBSCAN on 1 - similarity leaves noise out. A group whose members' mean similarity is below 0.5 is not a cluster; it
   is clustered again by itself, and what remains is noise.
2. Average linkage is cut at several numbers of clusters; of those that are stable the best silhouette is taken.
3. Stability: 80 % of the neurons are drawn without replacement and partitioned again; for each cluster the mean over
   draws of the Jaccard overlap of those drawn with their best match (Hennig 2007).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
from jaxtyping import Float, Int

from neurons.clustering.results import STABILITY_BAR, Alternative, Method
from neurons.clustering.similarity import NOISE, Labels, Similarities, best_jaccard, mean_similarity
from neurons.rounding import MARGIN, largest, reaches
from neurons.types import Progress

LIKENESS_BAR = 0.5
UNSPLIT = 0.8
SUBSAMPLE = 0.8
TIE = 1e-9
"""Between the first and the last of equal distances."""
MANY = 500
"""Neurons from which draws are partitioned on several threads: of fewer, most of the time is Python's."""
CUTS = (*range(2, 21), 25, 30, 40, 50, 75, 100)
"""Numbers of clusters tried for the agglomerative clustering."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Labels with their strengths (0..1), the stability of each label, the tree, and the other method's labels."""

    labels: Labels
    strength: Float[np.ndarray, " M"]
    stability: dict[int, float]
    merges: Float[np.ndarray, "K 4"]
    alternative: Alternative | None


def partition_neurons(
    similarity: Similarities,
    method: Method,
    smallest: int,
    resamples: int,
    seed: int,
    progress: Progress | None,
) -> Partition:
    M = len(similarity)
    if max(2 * smallest, 4) > M:
        return Partition(np.full(M, NOISE), np.zeros(M), {}, np.zeros((0, 4)), None)
    labels, strength = _dense(similarity, smallest)
    merges = _merges(similarity)
    cuts = {k: _cut(merges, k, smallest) for k in CUTS if k < M}
    stable = _stability(similarity, [labels, *cuts.values()], tuple(cuts), smallest, resamples, seed, progress)
    best = _best_cut(merges, similarity, cuts, dict(zip(cuts, stable[1:], strict=True)))
    agreement = _agreement(labels, cuts[best])
    if method == "hdbscan":
        other = Alternative("agglomerative", cuts[best], int(cuts[best].max()) + 1, agreement)
        return Partition(labels, strength, stable[0], merges, other)
    other = Alternative("hdbscan", labels, int(labels.max()) + 1, agreement)
    return Partition(cuts[best], np.ones(M), stable[1 + list(cuts).index(best)], merges, other)


def _dense(similarity: Similarities, smallest: int) -> tuple[Labels, Float[np.ndarray, " M"]]:
    """Return HDBSCAN's labels and membership strengths; a group that is not a cluster is clustered again by itself."""
    labels, strength = np.full(len(similarity), NOISE), np.zeros(len(similarity))
    waiting = [np.arange(len(similarity))]
    while waiting:
        rows = waiting.pop()
        groups, strengths = _hdbscan(similarity[np.ix_(rows, rows)], smallest)
        alike = mean_similarity(similarity[np.ix_(rows, rows)], groups)
        for group, value in enumerate(alike.tolist()):
            members = groups == group
            if reaches(value, LIKENESS_BAR):
                labels[rows[members]] = labels.max() + 1
                strength[rows[members]] = strengths[members]
            elif members.sum() >= 2 * smallest:
                waiting.append(rows[members])
    return labels, strength


def _hdbscan(similarity: Similarities, smallest: int) -> tuple[Labels, Float[np.ndarray, " M"]]:
    """Run HDBSCAN. A similarity of 0.8 counts as distance 0, so that chance does not split a tight cluster."""
    from sklearn.cluster import HDBSCAN

    reach = _mutual_reachability(np.maximum(1 - similarity, 1 - UNSPLIT), smallest)
    found = HDBSCAN(metric="precomputed", min_cluster_size=smallest, min_samples=1, copy=True).fit(reach)
    return found.labels_.astype(int), found.probabilities_.round(6)  # parted ties move them by some 1e-9


def _mutual_reachability(distance: Float[np.ndarray, "M M"], neighbours: int) -> Float[np.ndarray, "M M"]:
    """The distance, or where it is larger that of either neuron to its `neighbours`th, itself counted (Campello 2013).

    Many are equal, and HDBSCAN sorts them in an order that depends on the processor: equal ones are parted by `TIE`, in
    a random order from a seed. (In the order of their neurons, a continuum of neurons in order would seem a cluster.)
    """
    M = len(distance)
    np.fill_diagonal(distance, 0)
    core = np.partition(distance, min(neighbours, M) - 1, axis=0)[min(neighbours, M) - 1]
    reach = np.maximum(distance, np.maximum(core[:, None], core))
    np.fill_diagonal(reach, 0)
    return reach + _parted(M)


@lru_cache(maxsize=2)
def _parted(size: int) -> Float[np.ndarray, "M M"]:
    """What parts equal distances of so many neurons: symmetric, 0 on the diagonal. The same for every draw."""
    parted, pairs = np.zeros((size, size)), np.triu_indices(size, 1)
    parted[pairs] = TIE * np.random.default_rng(size).random(len(pairs[0]))
    return parted + parted.T


def _merges(similarity: Similarities) -> Float[np.ndarray, "K 4"]:
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return linkage(squareform(1 - similarity, checks=False), "average")


def _cut(merges: Float[np.ndarray, "K 4"], k: int, smallest: int) -> Labels:
    """Cut the tree into k groups, those that are not clusters as noise.

    The height of an average-linkage merge is the mean distance between its two sides, so a group's mean
    similarity follows from the merges inside it.
    """
    from scipy.cluster.hierarchy import fcluster

    labels = fcluster(merges, k, "maxclust").astype(int) - 1
    M = len(labels)
    first, size = np.arange(2 * M - 1), np.ones(2 * M - 1)
    left, right = merges[:, 0].astype(int), merges[:, 1].astype(int)
    size[M:] = merges[:, 3]
    for merge, side in enumerate(left.tolist()):
        first[M + merge] = first[side]
    inside = labels[first[left]] == labels[first[right]]
    pairs = np.where(inside, size[left] * size[right], 0)
    group = labels[first[left]]
    alike = np.bincount(group, pairs * (1 - merges[:, 2])) / np.maximum(np.bincount(group, pairs), 1)
    return _only_kinds(labels, alike, smallest)


def _only_kinds(labels: Labels, alike: Float[np.ndarray, " groups"], smallest: int) -> Labels:
    """Return labels 0, 1, ... for the groups that are large enough and similar enough; the rest is noise."""
    size = np.bincount(labels[labels >= 0], minlength=len(alike))
    alike = np.pad(alike, (0, len(size) - len(alike)))
    kinds = (size >= smallest) & (alike >= LIKENESS_BAR * (1 - MARGIN))
    number = np.append(np.where(kinds, np.cumsum(kinds) - 1, NOISE), NOISE)
    return number[labels]


def _stability(
    similarity: Similarities,
    partitions: list[Labels],
    cuts: tuple[int, ...],
    smallest: int,
    resamples: int,
    seed: int,
    progress: Progress | None,
) -> list[dict[int, float]]:
    """For each partition (HDBSCAN's, then one a cut) the stability of each label, over those draws that have of it.

    The fewest neurons that make a cluster shrink with the draw, so that a small cluster can be found again.
    """
    M, rng = len(similarity), np.random.default_rng(seed)
    size, fewest = max(2, round(SUBSAMPLE * M)), max(2, round(SUBSAMPLE * smallest))
    totals = [np.zeros((2, labels.max() + 1)) for labels in partitions]
    draws = [np.sort(rng.permutation(M)[:size]) for _ in range(resamples)]

    def again(rows: Int[np.ndarray, " m"]) -> list[Labels]:
        drawn = similarity[np.ix_(rows, rows)]
        merges = _merges(drawn)
        return [_dense(drawn, fewest)[0], *(_cut(merges, min(k, size), fewest) for k in cuts)]

    with ThreadPoolExecutor(os.cpu_count() if M >= MANY else 1) as pool:
        for done, (rows, found) in enumerate(zip(draws, pool.map(again, draws), strict=True), 1):
            for total, labels, other in zip(totals, partitions, found, strict=True):
                present = np.isin(np.arange(total.shape[1]), labels[rows])
                total += np.where(present, [best_jaccard(labels[rows], other, total.shape[1]), present], 0)
            if progress:
                progress(done, resamples)
    return [dict(enumerate((total / np.maximum(n, 1)).tolist())) for total, n in totals]


def _best_cut(
    merges: np.ndarray, similarity: Similarities, cuts: dict[int, Labels], stability: dict[int, dict[int, float]]
) -> int:
    """The number of clusters with the best silhouette among those that are stable; among all where none is."""
    from scipy.cluster.hierarchy import fcluster

    stable = [k for k in cuts if stability[k] and reaches(fmean(stability[k].values()), STABILITY_BAR)]
    groups = {k: fcluster(merges, k, "maxclust").astype(int) for k in stable or cuts}
    scores = np.array([silhouette(similarity, labels) or -1.0 for labels in groups.values()])
    return list(groups)[int(largest(scores))]


def silhouette(similarity: Similarities, labels: Labels) -> float | None:
    """Return the mean over the neurons outside noise; None with fewer than two clusters of them."""
    from sklearn.metrics import silhouette_score

    rows = np.flatnonzero(labels != NOISE)
    if not 2 <= len(set(labels[rows].tolist())) < len(rows):
        return None
    distance = 1 - similarity[np.ix_(rows, rows)]
    return float(silhouette_score(distance, labels[rows], metric="precomputed"))


def _agreement(labels: Labels, other: Labels) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, other))
