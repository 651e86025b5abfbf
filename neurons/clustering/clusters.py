"""Clusters of neurons with similar tuning curves and similar readouts.

1. Each neuron is two unit vectors, signs kept: its tuning curve without its mean (a `constant` curve points in
   a direction of its own instead) and its year-centred readout.
2. The similarity of two neurons is the product of the two cosines, each cut at 0; for tuned neurons that is
   the cosine of their maps without the static part. A product, because the members of a cluster must agree in both:
   with a sum, readouts alone would make clusters, whatever the tuning. Distance = 1 - similarity.
3. HDBSCAN finds the clusters and leaves noise out. A group whose members' mean similarity is below 0.5 is
   not a cluster; it is clustered again by itself, and what remains is noise. Average-linkage clustering beside
   it, with the number of clusters of the best silhouette among those that are stable.
4. Stability: the nouns are resampled and the neurons clustered again; for each cluster the mean over
   resamples of the Jaccard overlap with its best match (Hennig 2007), threshold 0.75. A cluster of constant
   neurons has no stability: it rests on the readouts alone, which no noun can change.
5. A cluster's share of the contrast is the sum of its members' scores; the shares, the unclustered rest
   and, separately, the biases make up everything that the layers add.
"""

from dataclasses import dataclass
from statistics import fmean

import numpy as np
from jaxtyping import Float

from neurons.clustering.results import STABILITY_BAR, Alternative, Cluster, Clustering, Method, Tuning, describe_cluster
from neurons.clustering.similarity import (
    NOISE,
    Labels,
    Likeness,
    best_jaccard,
    in_the_plane,
    mean_likeness,
    readout_likeness,
    with_tuning,
)
from neurons.clustering.tuning import is_constant, tune
from neurons.decomposition.population import Population, one_thread, strongest
from neurons.decomposition.significance import noun_resamples
from neurons.rounding import MARGIN, descending, largest, reaches
from neurons.types import (
    Neurons,
    Progress,
    check_choice,
    check_is,
    check_progress,
    check_resamples,
    check_whole,
    parse_neurons,
)

LIKENESS_BAR = 0.5
UNSPLIT = 0.8
CAP = 1500
RESAMPLES = 50
CUTS = (*range(2, 21), 25, 30, 40, 50, 75, 100)
"""Numbers of clusters tried for the agglomerative clustering."""


@one_thread()
def cluster(
    population: Population,
    called: Neurons,
    *,
    method: Method = "hdbscan",
    cap: int = CAP,
    smallest: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Clustering:
    """Cluster the neurons that are called boosting or suppressing.

    population: all neurons of the layers, whose scores make the total contrast. called: those to cluster,
    at most `cap` of them by |score|. smallest: the fewest neurons that make a cluster; 3, or one in a
    hundred. Raises `InputError` for a neuron that is not in the population, another method, or numbers out of range.
    """
    check_is("population", population, Population, "what neuron_population(effects) returns")
    check_choice("method", method, Method)
    if smallest is not None:
        check_whole("smallest", smallest, least=2)
    for what, given, least in (("cap", cap, 1), ("seed", seed, 0)):
        check_whole(what, given, least=least)
    check_resamples(resamples)
    check_progress(progress)
    called = parse_neurons(called)
    rows = population.rows(called)
    rows = rows[strongest(np.abs(population.score[rows]), cap)]
    chosen = population.take(rows)
    tuning = tune(chosen, seed=seed)
    smallest = smallest or max(3, len(chosen) // 100)
    readouts = readout_likeness(chosen.readout)
    likeness = with_tuning(chosen.curve, readouts)
    partition = _partition(chosen, readouts, likeness, method, smallest, resamples, seed, progress)
    total = float(population.score.sum())
    clusters, labels = _describe(chosen, tuning, likeness, partition, total)
    noise = np.flatnonzero(labels == NOISE)
    noise_share = float(chosen.score[noise].sum())
    others_share = float(np.delete(population.score, rows).sum())
    return Clustering(
        model=population.model,
        method=method,
        start_years=population.start_years,
        tuning=tuning,
        clusters=clusters,
        noise=tuple(chosen.neurons[row] for row in noise),
        labels=labels,
        total_contrast=total,
        unclustered_share=noise_share + others_share,
        noise_share=noise_share,
        others_share=others_share,
        bias_contrast=population.bias_contrast,
        silhouette=_silhouette(likeness, labels),
        alternative=partition.alternative,
        place=in_the_plane(likeness),
        merges=partition.merges,
        notes=_notes(chosen, len(called), clusters, smallest),
    )


@dataclass(frozen=True, eq=False)
class _Partition:
    """Labels with their strengths (0..1), the stability of each label, the tree, and the other method's labels."""

    labels: Labels
    strength: Float[np.ndarray, " M"]
    stability: dict[int, float]
    merges: Float[np.ndarray, "K 4"]
    alternative: Alternative | None


def _partition(
    population: Population,
    readouts: Likeness,
    likeness: Likeness,
    method: Method,
    smallest: int,
    resamples: int,
    seed: int,
    progress: Progress | None,
) -> _Partition:
    M = len(population)
    if max(2 * smallest, 4) > M:
        return _Partition(np.full(M, NOISE), np.zeros(M), {}, np.zeros((0, 4)), None)
    labels, strength = _dense(likeness, smallest)
    merges = _merges(likeness)
    cuts = {k: _cut(merges, k, smallest) for k in CUTS if k < M}
    stable = _stability(
        population, readouts, [labels, *cuts.values()], tuple(cuts), smallest, resamples, seed, progress
    )
    best = _best_cut(merges, likeness, cuts, dict(zip(cuts, stable[1:], strict=True)))
    agreement = _agreement(labels, cuts[best])
    if method == "hdbscan":
        other = Alternative("agglomerative", cuts[best], int(cuts[best].max()) + 1, agreement)
        return _Partition(labels, strength, stable[0], merges, other)
    other = Alternative("hdbscan", labels, int(labels.max()) + 1, agreement)
    return _Partition(cuts[best], np.ones(M), stable[1 + list(cuts).index(best)], merges, other)


def _dense(likeness: Likeness, smallest: int) -> tuple[Labels, Float[np.ndarray, " M"]]:
    """Return HDBSCAN's labels and membership strengths; a group that is not a cluster is clustered again by itself."""
    labels, strength = np.full(len(likeness), NOISE), np.zeros(len(likeness))
    waiting = [np.arange(len(likeness))]
    while waiting:
        rows = waiting.pop()
        groups, strengths = _hdbscan(likeness[np.ix_(rows, rows)], smallest)
        alike = mean_likeness(likeness[np.ix_(rows, rows)], groups)
        for group, value in enumerate(alike.tolist()):
            members = groups == group
            if reaches(value, LIKENESS_BAR):
                labels[rows[members]] = labels.max() + 1
                strength[rows[members]] = strengths[members]
            elif members.sum() >= 2 * smallest:
                waiting.append(rows[members])
    return labels, strength


def _hdbscan(likeness: Likeness, smallest: int) -> tuple[Labels, Float[np.ndarray, " M"]]:
    """Run HDBSCAN. A similarity of 0.8 counts as distance 0, so that chance does not split a tight cluster."""
    from sklearn.cluster import HDBSCAN

    distance = np.maximum(1 - likeness, 1 - UNSPLIT)
    np.fill_diagonal(distance, 0)
    found = HDBSCAN(metric="precomputed", min_cluster_size=smallest, copy=True).fit(distance)
    return found.labels_.astype(int), found.probabilities_


def _merges(likeness: Likeness) -> Float[np.ndarray, "K 4"]:
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    return linkage(squareform(1 - likeness, checks=False), "average")


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
    population: Population,
    readouts: Likeness,
    partitions: list[Labels],
    cuts: tuple[int, ...],
    smallest: int,
    resamples: int,
    seed: int,
    progress: Progress | None,
) -> list[dict[int, float]]:
    """For each partition (HDBSCAN's, then one a cut) the stability of each label; empty with one noun."""
    if population.n_nouns < 2:
        return [{} for _ in partitions]
    totals = [np.zeros(labels.max() + 1) for labels in partitions]
    for done, nouns in enumerate(noun_resamples(population.n_nouns, resamples, seed)):
        likeness = with_tuning(population.weighted_curve(nouns), readouts)
        merges = _merges(likeness)
        again = [_dense(likeness, smallest)[0], *(_cut(merges, k, smallest) for k in cuts)]
        for total, labels, other in zip(totals, partitions, again, strict=True):
            total += best_jaccard(labels, other)
        if progress:
            progress(done + 1, resamples)
    return [dict(enumerate((total / resamples).tolist())) for total in totals]


def _best_cut(
    merges: np.ndarray, likeness: Likeness, cuts: dict[int, Labels], stability: dict[int, dict[int, float]]
) -> int:
    """The number of clusters with the best silhouette among those that are stable; among all where none is."""
    from scipy.cluster.hierarchy import fcluster

    stable = [k for k in cuts if stability[k] and reaches(fmean(stability[k].values()), STABILITY_BAR)]
    groups = {k: fcluster(merges, k, "maxclust").astype(int) for k in stable or cuts}
    scores = np.array([_silhouette(likeness, labels) or -1.0 for labels in groups.values()])
    return list(groups)[int(largest(scores))]


def _silhouette(likeness: Likeness, labels: Labels) -> float | None:
    """Return the mean over the neurons outside noise; None with fewer than two clusters of them."""
    from sklearn.metrics import silhouette_score

    rows = np.flatnonzero(labels != NOISE)
    if not 2 <= len(set(labels[rows].tolist())) < len(rows):
        return None
    distance = 1 - likeness[np.ix_(rows, rows)]
    return float(silhouette_score(distance, labels[rows], metric="precomputed"))


def _agreement(labels: Labels, other: Labels) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, other))


def _describe(
    population: Population, tuning: Tuning, likeness: Likeness, partition: _Partition, total_contrast: float
) -> tuple[tuple[Cluster, ...], Labels]:
    """The clusters by descending |share|, and the labels that go with that order."""
    groups = [np.flatnonzero(partition.labels == label) for label in range(partition.labels.max(initial=NOISE) + 1)]
    share = np.array([population.score[members].sum() for members in groups])
    labels = np.full(len(population), NOISE)
    clusters = []
    for position, label in enumerate(descending(np.abs(share)).tolist()):
        labels[groups[label]] = position
        about = (float(share[label]), partition.stability.get(label), total_contrast)
        clusters.append(_one(population, tuning, likeness, partition, groups[label], position, about))
    return tuple(clusters), labels


def _one(
    population: Population,
    tuning: Tuning,
    likeness: Likeness,
    partition: _Partition,
    members: np.ndarray,
    position: int,
    about: tuple[float, float | None, float],
) -> Cluster:
    share, stability, total = about
    medoid = members[largest(likeness[np.ix_(members, members)].sum(0))]
    strength = partition.strength[members]
    if partition.alternative and partition.alternative.method == "hdbscan":
        strength = likeness[medoid, members]
    order = descending(strength)
    curve, readout = population.curve, population.readout
    fits = [tuning.neurons[row] for row in members]
    tuned = bool((~is_constant(curve[:, members])).mean() > 0.5)
    return Cluster(
        id=position,
        medoid=population.neurons[medoid],
        members=tuple(population.neurons[row] for row in members[order]),
        membership=tuple(strength[order].tolist()),
        share=share,
        fraction=share / total if total else None,
        stability=stability if tuned else None,
        likeness=float(mean_likeness(likeness[np.ix_(members, members)], np.zeros(len(members), int))[0]),
        tuned=tuned,
        description=describe_cluster(fits, tuning.neurons[medoid]),
        mean_map=curve[:, members] @ readout[members] / len(members),
        medoid_map=np.outer(curve[:, medoid], readout[medoid]),
    )


def _notes(chosen: Population, called: int, clusters: tuple[Cluster, ...], smallest: int) -> tuple[str, ...]:
    """Note caps, and cases with little or nothing to cluster."""
    M = len(chosen)
    if M == 0:
        return ("no neuron boosts or suppresses: there is nothing to cluster",)
    notes = []
    if called > M:
        notes.append(f"of {called} neurons that boost or suppress the {M} of largest |score| were clustered")
    if max(2 * smallest, 4) > M:
        notes.append(f"{M} neuron{'s' * (M > 1)} to cluster, fewer than two clusters of {smallest}: all left as noise")
    elif not clusters:
        notes.append(f"no {smallest} neurons or more are of a kind: all {M} left as noise")
    if chosen.n_nouns < 2:
        notes.append("stability needs at least two nouns")
    return tuple(notes)
