"""Clusters of neurons with similar tuning curves and similar readouts.

1. Each neuron is two unit vectors, signs kept: its tuning curve without its mean (a `constant` curve points in
   a direction of its own instead) and its year-centred readout.
2. The similarity of two neurons is the product of the two cosines, each cut at 0; for tuned neurons that is
   the cosine of their maps without the static part. A product, because the members of a cluster must agree in both:
   with a sum, readouts alone would make clusters, whatever the tuning. Distance = 1 - similarity.
3. HDBSCAN finds the clusters and leaves noise out. A group whose members' mean similarity is below 0.5 is
   not a cluster; it is clustered again by itself, and what remains is noise. Average-linkage clustering beside
   it, with the number of clusters of the best silhouette among those that are stable.
4. Stability: 80 % of the neurons are drawn without replacement and clustered again; for each cluster the mean over
   draws of the Jaccard overlap of those drawn with their best match (Hennig 2007), threshold 0.75. With Hartigan's dip
   of the tuning it says whether there are clusters at all (`continuum`).
5. A cluster's share of the contrast is the sum of its members' scores; the shares, the unclustered rest
   and, separately, the biases make up everything that the layers add.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from neurons.clustering.continuum import bins, evidence, prototypes
from neurons.clustering.descriptions import describe_cluster
from neurons.clustering.partition import Partition, partition_neurons, silhouette
from neurons.clustering.results import Cluster, Clustering, Method, Tuning
from neurons.clustering.similarity import (
    NOISE,
    Labels,
    Similarities,
    in_the_plane,
    mean_similarity,
    readout_similarity,
    with_tuning,
)
from neurons.clustering.tuning import is_constant, tune
from neurons.decomposition.population import Population, one_thread, strongest
from neurons.rounding import descending, largest
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

CAP = 1500
RESAMPLES = 200


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
    _check_asked(population, method, cap, smallest, seed)
    check_resamples(resamples)
    check_progress(progress)
    called = parse_neurons(called)
    rows = population.rows(called)
    rows = rows[strongest(np.abs(population.score[rows]), cap)]
    chosen = population.take(rows)
    tuning = tune(chosen, seed=seed)
    smallest = smallest or max(3, len(chosen) // 100)
    similarity = with_tuning(chosen.curve, readout_similarity(chosen.readout))
    partition = partition_neurons(similarity, method, smallest, resamples, seed, progress)
    found = _clustering(population, rows, tuning, similarity, partition, method)
    return replace(found, notes=_notes(chosen, len(called), found.clusters, smallest))


def _check_asked(population: Population, method: Method, cap: int, smallest: int | None, seed: int) -> None:
    check_is("population", population, Population, "what neuron_population(effects) returns")
    check_choice("method", method, Method)
    if smallest is not None:
        check_whole("smallest", smallest, least=2)
    for what, given, least in (("cap", cap, 1), ("seed", seed, 0)):
        check_whole(what, given, least=least)


def _clustering(
    population: Population,
    rows: Int[np.ndarray, " M"],
    tuning: Tuning,
    similarity: Similarities,
    partition: Partition,
    method: Method,
) -> Clustering:
    """The result: clusters and noise of the chosen rows of the population, and the shares of all of it."""
    chosen, total = population.take(rows), float(population.score.sum())
    clusters, labels = _describe(chosen, tuning, similarity, partition, total)
    found = evidence(tuning, [(len(one.members), one.stability) for one in clusters])
    named = [(f"cluster {one.id}", np.flatnonzero(labels == one.id)) for one in clusters]
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
        silhouette=silhouette(similarity, labels),
        alternative=partition.alternative,
        place=in_the_plane(similarity),
        merges=partition.merges,
        evidence=found,
        prototypes=prototypes(chosen.neurons, tuning.curve, named if found.clustered else bins(tuning)),
        notes=(),
    )


def _describe(
    population: Population, tuning: Tuning, similarity: Similarities, partition: Partition, total_contrast: float
) -> tuple[tuple[Cluster, ...], Labels]:
    """The clusters by descending |share|, and the labels that go with that order."""
    groups = [np.flatnonzero(partition.labels == label) for label in range(partition.labels.max(initial=NOISE) + 1)]
    share = np.array([population.score[members].sum() for members in groups])
    labels = np.full(len(population), NOISE)
    clusters = []
    for position, label in enumerate(descending(np.abs(share)).tolist()):
        labels[groups[label]] = position
        about = (float(share[label]), partition.stability.get(label), total_contrast)
        clusters.append(_one(population, tuning, similarity, partition, groups[label], position, about))
    return tuple(clusters), labels


def _one(
    population: Population,
    tuning: Tuning,
    similarity: Similarities,
    partition: Partition,
    members: np.ndarray,
    position: int,
    about: tuple[float, float | None, float],
) -> Cluster:
    share, stability, total = about
    medoid = members[largest(similarity[np.ix_(members, members)].sum(0))]
    strength = partition.strength[members]
    if partition.alternative and partition.alternative.method == "hdbscan":
        strength = similarity[medoid, members]
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
        stability=stability,
        similarity=float(mean_similarity(similarity[np.ix_(members, members)], np.zeros(len(members), int))[0]),
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
    return tuple(notes)
