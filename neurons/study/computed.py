"""Computation of each result of a study: which analysis runs on what, under which progress bar.

`Study` decides what is asked and what is kept; these functions compute it when it is not kept. Imports inside them are
for start-up time: a study of kept results loads no torch.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from neurons.types import NeuronId, Neurons

if TYPE_CHECKING:
    from neurons.circuit.graph import Circuit
    from neurons.circuit.results import CircuitStudy
    from neurons.circuit.search_results import Search
    from neurons.clustering.results import Clustering, Method
    from neurons.comparison.results import Checks
    from neurons.regression.faithfulness_results import Faithfulness, FaithfulnessOfEach
    from neurons.regression.results import Composition
    from neurons.regression.tiling_results import Tiling
    from neurons.study.composed import Composed
    from neurons.study.study import Study
    from neurons.task.sample import Sample
    from neurons.weights.results import Neighbours, NeuronStatistics, TextStudy

PART = 0.9
"""Of clean minus floor: how much the neurons recover whose tiling is looked at."""
EXPLAINED = 24
"""Neurons whose inputs the circuit explains: the first of the ranking that boost."""


def resampled_mlps(study: "Study") -> dict[str, float]:
    """Return the mean of each measure with every MLP of the cached layers resample-ablated."""
    import numpy as np

    from neurons.intervention.groups import group_measures

    every = np.ones((1, len(study.cache.layers), study.cache.d_mlp), bool)
    with study.bars("resampling the MLPs") as progress:
        values = group_measures(study.context(), every, ablation="resample", progress=progress)
    return {name: float(values[name].mean()) for name in ("probability_difference", "cutoff_sharpness", "logit_step")}


def statistics(study: "Study") -> "NeuronStatistics":
    from neurons.weights.statistics import neuron_statistics

    with study.bars("reading the vocabulary") as progress:
        # on the CPU, whatever the device: the moments are float64, which MPS does not have
        return neuron_statistics(study.model_on("cpu"), study.cache.layers, progress=progress)


def texts(study: "Study", neurons: Sequence[NeuronId]) -> "TextStudy":
    from neurons.weights.text import study_text

    with study.bars("reading prompts") as progress:
        return study_text(study.model_on("cpu"), study.cache, neurons, progress=progress)


def neighbours(study: "Study", neurons: Sequence[NeuronId]) -> "tuple[Neighbours, ...]":
    from neurons.weights.neighbours import every_neuron, nearest, weight_features

    features = weight_features(study.model_on("cpu"), study.cache.layers)
    return nearest(features, every_neuron(study.cache.layers, study.cache.d_mlp), neurons)


def clusters(study: "Composed", method: "Method", cap: int | None, smallest: int | None) -> "Clustering":
    from neurons.clustering.clusters import CAP, cluster

    ranking, seed = study.ranking(), study.plan.settings.seed
    called = (*ranking.boosting_neurons(), *ranking.suppressing_neurons())
    with study.bars("clustering") as progress:
        return cluster(
            study.population(), called, method=method, cap=cap or CAP, smallest=smallest, seed=seed, progress=progress
        )


def composition(study: "Composed", also: Sequence[NeuronId], cap: int | None) -> "Composition":
    from neurons.clustering.tuning import tune_also
    from neurons.regression.composition import compose
    from neurons.regression.sparse import sparse_curve, sparse_sizes

    clustering, population, seed = study.clusters(cap=cap), study.population(), study.plan.settings.seed
    groups = {str(cluster.id): cluster.members for cluster in clustering.clusters}
    tuning = tune_also(population, clustering.tuning, also, seed=seed)
    if not study.plan.settings.attribution:
        return compose(population, tuning, groups=groups, notes=clustering.notes)
    from neurons.regression.faithfulness import behaviour_of_first

    found = study.attributed()
    enough = [one.fewest(PART) for one in found.recoveries]
    sizes = sparse_sizes(len(population), *enough)
    with study.bars("running the first neurons") as progress:
        behaviour = behaviour_of_first(study.context(), found, sizes, seed=seed, progress=progress)
    sparse = sparse_curve(population, found.share("probability_difference"), sizes, behaviour)
    return compose(population, tuning, groups=groups, sparse=sparse, notes=clustering.notes)


def faithfulness(
    study: "Composed", describe: "Callable[[int, NeuronId], float] | None", neurons: "Neurons | None"
) -> "Faithfulness":
    from neurons.regression.faithfulness import faithfulness as put_back

    clustering = study.clusters()
    name = "cluster prototypes" if clustering.clustered else "prototypes by decade of centre"
    groups = {} if describe else {name: [one.neurons for one in clustering.prototypes]}
    attributed, population, seed = study.attributed(), study.population(), study.plan.settings.seed
    with study.bars("putting descriptions into the model") as progress:
        return put_back(
            study.context(), attributed, population, groups=groups, describe=describe, neurons=neurons, seed=seed,
            progress=progress,
        )  # fmt: skip


def faithfulness_of_each(study: "Composed", neurons: Sequence[NeuronId]) -> "FaithfulnessOfEach":
    from neurons.regression.faithfulness import faithfulness_of_each as put_back

    seed = study.plan.settings.seed
    with study.bars("putting descriptions of single neurons into the model") as progress:
        return put_back(study.context(), study.population(), neurons, seed=seed, progress=progress)


def tiling(study: "Composed") -> "Tiling":
    """Of the neurons that recover `PART` of the probability difference; of the boosting ones without attribution."""
    import numpy as np

    from neurons.regression.tiling import places, tile

    population = study.population()
    if not study.plan.settings.attribution:
        boosting = population.rows(study.ranking().boosting_neurons())
        return tile(population, boosting, population.score[boosting], exchange=None)
    from neurons.regression.exchange import exchange

    found = study.attributed()
    share = found.share("probability_difference")
    rows = share.order()[: found.recovery("probability_difference").fewest(PART) or 0]
    rows = rows[np.isfinite(places(population.start_years, population.curve[:, rows]).centre)]
    if len(rows) < 2:
        return tile(population, rows, share.share[rows], exchange=None)
    centre = places(population.start_years, population.curve[:, rows]).centre
    with study.bars("exchanging tuning curves") as progress:
        exchanged = exchange(study.context(), found, rows, centre, seed=study.plan.settings.seed, progress=progress)
    return tile(population, rows, share.share[rows], exchange=exchanged)


def circuit(
    study: "Study", given: "Circuit | None", search: "Search", prompts: int, n_random: int, clean_heads: bool
) -> "CircuitStudy":
    from neurons.circuit.study import study_circuit

    study.plan.check_one_layout()
    explained = study.ranking().boosting_neurons()[:EXPLAINED]
    with study.bars("following paths") as progress:
        return study_circuit(
            study.context(), circuit=given, search=search, neurons=explained, prompts=prompts, n_random=n_random,
            clean_heads=clean_heads, seed=study.plan.settings.seed, progress=progress,
        )  # fmt: skip


def checks(study: "Study", sample: "Sample") -> "Checks":
    from neurons.comparison.replication import replicate

    statistics, seed, own = study.kept("statistics"), study.plan.settings.seed, study.plan.prompts
    return replicate(study.model, study.effects(), sample, own=own, statistics=statistics, seed=seed, bars=study.bars)
