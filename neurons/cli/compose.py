"""How neurons add up to ">": `cluster` and `compose`. Both need the cache file only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cache.format import Cache
from neurons.cache.results import keep_result, kept_result
from neurons.cli.common import JsonOption, open_measured, print_json, print_table, progress_bar
from neurons.cli.request import SEED, Request, with_request
from neurons.task.years import spans
from neurons.types import InputError, NeuronId

if TYPE_CHECKING:
    from neurons.clustering.results import Clustering, Method
    from neurons.decomposition.effects import LogitEffects
    from neurons.decomposition.population import Population
    from neurons.decomposition.ranking import Ranking
    from neurons.regression.results import Composition

CAP, CANDIDATES = 1500, 1000
METHODS: tuple["Method", ...] = ("hdbscan", "agglomerative")

MethodOption = Annotated[str, typer.Option("--method", help="Clusters by hdbscan or agglomerative.")]
CapOption = Annotated[int, typer.Option("--cap", min=1, help="Most neurons clustered, by |score|.")]
SmallestOption = Annotated[
    int | None,
    typer.Option("--smallest", min=2, help="Fewest neurons that make a cluster.", show_default="3, or 1 in 100"),
]
FiguresOption = Annotated[Path | None, typer.Option("--figures", help="Write the figures, as SVG, to this folder too.")]


def register(app: typer.Typer) -> None:
    for command in (cluster, compose):
        app.command()(command)


@with_request()
def cluster(
    asked: Request,
    method: MethodOption = "hdbscan",
    cap: CapOption = CAP,
    smallest: SmallestOption = None,
    figures: FiguresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which kinds of neurons boost or suppress, and what each kind adds to the contrast."""
    chosen = check_method(method)
    kinds = find_kinds(open_measured(asked), asked, method=chosen, cap=cap, smallest=smallest)
    if figures:
        from neurons.report.figures.composition_plots import cluster_figures, save_all

        save_all(cluster_figures(kinds.clustering), figures)
    if as_json:
        print_json(kinds.clustering.to_json())
    else:
        _print_clusters(kinds.clustering)


@with_request()
def compose(
    asked: Request,
    neuron: Annotated[
        list[str] | None, typer.Option("--neuron", help="Fit this neuron's tuning too, like L9N12; may be repeated.")
    ] = None,
    cap: CapOption = CAP,
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Most neurons that matching pursuit chooses from.")
    ] = CANDIDATES,
    figures: FiguresOption = None,
    as_json: JsonOption = False,
) -> None:
    """How neurons add up to '>': tuning, components, sparse reconstruction, and how much of it is a step."""
    also = [NeuronId.parse(name) for name in neuron or []]
    cache = open_measured(asked)
    for one in also:
        cache.check_neuron(one)
    kinds = find_kinds(cache, asked, cap=cap)
    composition = compose_kinds(kinds, also=also, candidates=candidates, seed=asked.seed)
    if figures:
        from neurons.report.figures.composition_plots import composition_figures, save_all

        save_all(composition_figures(composition), figures)
    if as_json:
        print_json(composition.to_json())
    else:
        _print_composition(composition)


@dataclass(frozen=True, eq=False)
class Kinds:
    """What both commands start from: all neurons of the layers, and the clusters of those that boost or suppress."""

    population: "Population"
    clustering: "Clustering"


def check_method(text: str) -> "Method":
    for method in METHODS:
        if text == method:
            return method
    raise InputError(f"method {text!r} is not known: choose {' or '.join(METHODS)}")


def find_kinds(
    cache: Cache, asked: Request, *, cap: int = CAP, method: "Method" = "hdbscan", smallest: int | None = None
) -> Kinds:
    """Rank the neurons of a cache, and cluster those that boost or suppress."""
    from neurons.decomposition.effects import logit_effects
    from neurons.decomposition.ranking import rank

    effects = logit_effects(cache, years=asked.years)
    ranking = rank(effects, seed=asked.seed)
    return cluster_ranked(effects, ranking, cap=cap, method=method, smallest=smallest, seed=asked.seed)


def cluster_ranked(
    effects: "LogitEffects",
    ranking: "Ranking",
    *,
    cap: int = CAP,
    method: "Method" = "hdbscan",
    smallest: int | None = None,
    seed: int = SEED,
) -> Kinds:
    """Cluster the ranked neurons that boost or suppress."""
    from neurons.clustering.clusters import cluster as cluster_neurons
    from neurons.decomposition.population import neuron_population

    called = (*ranking.boosting_neurons(), *ranking.suppressing_neurons())
    population = neuron_population(effects)
    with progress_bar("clustering") as progress:
        clustering = cluster_neurons(
            population, called, method=method, cap=cap, smallest=smallest, seed=seed, progress=progress
        )
    return Kinds(population, clustering)


def compose_kinds(
    kinds: Kinds, *, also: Sequence[NeuronId] = (), candidates: int = CANDIDATES, seed: int = SEED
) -> "Composition":
    """How the neurons add up; `also` are fitted beside those that were clustered."""
    from neurons.clustering.tuning import tune
    from neurons.regression.composition import compose as compose_maps

    tuning = kinds.clustering.tuning
    fitted = [fit.neuron for fit in tuning.neurons]
    new = [neuron for neuron in dict.fromkeys(also) if neuron not in fitted]
    if new:
        tuning = tune(kinds.population.take(kinds.population.rows([*fitted, *new])), seed=seed)
    with progress_bar("composing") as progress:
        return compose_maps(
            kinds.population,
            tuning,
            groups={str(cluster.id): cluster.members for cluster in kinds.clustering.clusters},
            cap=candidates,
            seed=seed,
            notes=kinds.clustering.notes,
            progress=progress,
        )


def kept_kinds(effects: "LogitEffects", ranking: "Ranking", asked: Request) -> "tuple[Clustering, Composition]":
    """Clusters and composition: as kept beside the cache, or computed and kept."""
    from neurons.clustering.results import Clustering
    from neurons.regression.results import Composition

    cache, settings = effects.cache, {"years": list(asked.years), "seed": asked.seed}
    kept = kept_result(cache, "kinds", settings, tuple[Clustering, Composition])
    if kept is None:
        kinds = cluster_ranked(effects, ranking, seed=asked.seed)
        kept = (kinds.clustering, compose_kinds(kinds, seed=asked.seed))
        keep_result(cache, "kinds", settings, kept)
    clustering, composition = kept
    return clustering, composition


def _print_clusters(found: "Clustering") -> None:
    rows = [
        [
            str(cluster.id), str(cluster.medoid), str(len(cluster.members)), f"{cluster.share:+.4f}",
            "" if cluster.fraction is None else f"{cluster.fraction:+.1%}",
            "not tested" if cluster.stability is None else f"{cluster.stability:.2f}{'' if cluster.stable else ' low'}",
        ]
        for cluster in found.clusters
    ]  # fmt: skip
    other = found.alternative
    caption = [
        *(f"{cluster.id}: {cluster.description}" for cluster in found.clusters),
        f"total contrast {found.total_contrast:+.4f} logits = clusters {sum(c.share for c in found.clusters):+.4f}"
        f" + noise {found.noise_share:+.4f} ({len(found.noise)} neurons) + neurons not clustered"
        f" {found.others_share:+.4f}; biases apart: {sum(found.bias_contrast.values()):+.4f}",
        "shares in logits; stability: mean overlap with the best match when nouns are resampled, bar 0.75",
    ]
    if other:
        caption.append(f"{other.method}: {other.n_clusters} clusters, adjusted Rand index {other.agreement:.2f}")
    print_table(
        f"{found.model}: {len(found.clusters)} kinds among {len(found.tuning)} neurons that boost or suppress",
        ["id", "medoid", "size", "share", "of total", "stability"],
        rows,
        left=2,
        caption="\n".join([*caption, *found.notes]),
    )


def _print_composition(found: "Composition") -> None:
    _print_parts(found)
    _print_basis(found)
    families = ", ".join(f"{count} {family}" for family, count in found.tuning.family_counts().items() if count)
    pursuit, signs = found.pursuit, found.signs
    sparse = _counts(pursuit.neurons_for) if pursuit.r2_heldout else "not measured"
    lines = [
        f"tuning of {len(found.tuning)} neurons: {families or 'none fitted'}",
        f"components for 90 % and 99 % of the map: {_counts(found.whole.components_for)}",
        f"neurons for held-out R^2 of 0.90 and 0.99: {sparse}"
        f" (of {pursuit.candidates}, at most {len(pursuit.order)} tried)",
        f"sign of '>' in 95 % of the cells: greedily {_sign(signs.record()['greedy'])}, by score"
        f" {_sign(signs.record()['by_score'])}; all neurons together: {signs.all_neurons:.1%}",
        *found.notes,
    ]
    print("\n".join(lines))


def _print_parts(found: "Composition") -> None:
    named = {"all neurons": found.whole} | {f"MLP {layer}": part for layer, part in found.by_layer.items()}
    named |= {f"cluster {name}": part for name, part in found.by_group.items()}
    rows = [
        [
            name, part.regression.writes, str(part.n_neurons), f"{part.contrast:+.4f}",
            "" if part.regression.r2 is None else f"{part.regression.r2:.2f}",
            f"{part.sign_right:.0%}",
        ]
        for name, part in named.items()
    ]  # fmt: skip
    print_table(
        f"{found.model}: composed maps, start years {spans(found.start_years)}",
        ["part", "writes", "neurons", "contrast", "R^2 of terms", "sign right"],
        rows,
        left=2,
        caption="contrast in logits; R^2 of terms: how much of the map the named shapes below explain",
    )


def _print_basis(found: "Composition") -> None:
    rows = [
        [term.term, f"{term.coefficient:+.3f}", _interval(term.ci_low, term.ci_high), f"{term.share:.3f}",
         f"{term.alone:.3f}"]
        for term in found.whole.regression.terms
    ]  # fmt: skip
    print_table(
        "What the map of all neurons is made of",
        ["term", "coefficient", "95 % interval", "share", "alone"],
        rows,
        caption=f"share: R^2 lost without the term; alone: its R^2 by itself; terms overlap; decay over"
        f" {found.fade:.0f} years",
    )


def _interval(low: float | None, high: float | None) -> str:
    return "needs 2 nouns" if low is None or high is None else f"{low:+.3f} .. {high:+.3f}"


def _counts(number_for: Callable[[float], int | None]) -> str:
    return " and ".join("never" if n is None else str(n) for n in (number_for(0.9), number_for(0.99)))


def _sign(record: dict[str, Any]) -> str:
    if record["neurons"] is not None:
        return f"{record['neurons']} neuron{'s' * (record['neurons'] > 1)}"
    return f"never (at best {record['best'] or 0:.1%} of {record['tried']} tried)"
