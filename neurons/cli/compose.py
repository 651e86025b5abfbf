"""Clusters of neurons and composition of the greater-than map: `cluster` and `compose`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurons.cli.common import JsonOption, print_json, print_table
from neurons.cli.options import on_study
from neurons.clustering.results import Method
from neurons.routes.results import ROUTES
from neurons.study.study import Study
from neurons.task.years import spans
from neurons.types import NeuronId

if TYPE_CHECKING:
    from neurons.clustering.results import Clustering
    from neurons.regression.faithfulness_results import Faithfulness
    from neurons.regression.results import Composition
    from neurons.regression.tiling_results import Tiling
    from neurons.routes.results import Routes

ROUTED = 20
"""Neurons in the table of routes."""
MethodOption = Annotated[Method, typer.Option("--method", help="Clustering algorithm.")]
CapOption = Annotated[
    int | None, typer.Option("--cap", min=1, help="Most neurons clustered, by |score|.", show_default="1500")
]
SmallestOption = Annotated[
    int | None,
    typer.Option("--smallest", min=2, help="Fewest neurons that make a cluster.", show_default="3, or 1 in 100"),
]
RoutesOption = Annotated[
    bool,
    typer.Option(
        "--routes",
        help="Also how shares reach the answer: directly, by attention, neuron by neuron (runs the model; kept).",
    ),
]
FiguresOption = Annotated[Path | None, typer.Option("--figures", help="Write the figures, as SVG, to this folder too.")]


def register(app: typer.Typer) -> None:
    for command in (cluster, compose):
        app.command()(command)


@on_study()
def cluster(
    study: Study,
    method: MethodOption = "hdbscan",
    cap: CapOption = None,
    smallest: SmallestOption = None,
    figures: FiguresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cluster neurons by tuning and readout."""
    found = study.clusters(method=method, cap=cap, smallest=smallest)
    if figures:
        from neurons.report.figures.cluster_plots import cluster_figures, tuning_figures
        from neurons.report.figures.composition_plots import save_all

        save_all(tuning_figures(found.tuning) | cluster_figures(found), figures)
    if as_json:
        print_json(found.to_json())
    else:
        _print_clusters(found)


@on_study()
def compose(
    study: Study,
    neuron: Annotated[
        list[str] | None, typer.Option("--neuron", help="Fit this neuron's tuning too, like L9N12; may be repeated.")
    ] = None,
    cap: CapOption = None,
    routes: RoutesOption = False,
    figures: FiguresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe how the neurons add up to ">", and test it.

    Tiling of tuning centres and readout edges, faithfulness of descriptions, sums of the first neurons, regression.
    """
    also = list(map(NeuronId.parse, neuron or []))
    composition, tiling = study.composition(also=also, cap=cap), study.tiling()
    faithfulness = study.faithfulness() if study.plan.settings.attribution else None
    if figures:
        from neurons.report.figures.cluster_plots import tuning_figures
        from neurons.report.figures.composition_plots import composition_figures, save_all

        made = composition_figures(composition, tiling, faithfulness) | tuning_figures(composition.tuning)
        save_all(made, figures)
    followed = study.routes() if routes else None
    if as_json:
        from neurons.regression.tiling_results import composed_json

        found = composed_json(composition, tiling, faithfulness)
        print_json(found | ({"routes": followed.to_json()} if followed else {}))
        return
    _print_tiling(tiling)
    if faithfulness is not None:
        _print_faithfulness(faithfulness)
    _print_composition(composition)
    if followed is not None:
        _print_routes(followed)


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
    print(f"{found.model}: {found.verdict()}\n{found.evidence.words()}")
    if not found.clustered:
        print("bins along the tuning centre: " + ", ".join(f"{p.name} ({len(p.neurons)})" for p in found.prototypes))
    caption = [
        *(f"{cluster.id}: {cluster.description}" for cluster in found.clusters),
        f"total contrast {found.total_contrast:+.4f} logits = clusters {sum(c.share for c in found.clusters):+.4f}"
        f" + noise {found.noise_share:+.4f} ({len(found.noise)} neurons) + neurons not clustered"
        f" {found.others_share:+.4f}; output biases: {sum(found.bias_contrast.values()):+.4f}",
        "share: contrast in logits; stability: mean overlap with the best match when 80 % of the neurons are drawn;"
        " stable from 0.75 on",
    ]
    if other:
        caption.append(f"{other.method}: {other.n_clusters} clusters, adjusted Rand index {other.agreement:.2f}")
    print_table(
        f"{found.model}: {len(found.clusters)} clusters of {len(found.tuning)} neurons that boost or suppress",
        ["id", "medoid", "size", "share", "of total", "stability"],
        rows,
        left=2,
        caption="\n".join([*caption, *found.notes]),
    )


def _print_tiling(found: "Tiling") -> None:
    law = found.law
    if law.correlation is not None:
        print(
            f"{found.model}: tuning centre and readout edge of {len(found)} neurons: rank correlation"
            f" {law.correlation:.2f} ({law.ci_low:.2f} .. {law.ci_high:.2f} over neurons), slope {law.slope:.2f}, edge"
            f" - centre {law.offset:+.1f} years, largest gap between centres {found.largest_gap:.1f} years"
        )
    if found.exchange is not None:
        swaps = (*found.exchange.by_distance, found.exchange.at_random)
        rows = [
            ["at random" if one is swaps[-1] else f"{one.years[0]} to {one.years[1]}", str(one.neurons),
             f"{one.cutoff_sharpness.value:.2f}", f"{one.probability_difference.value:.2f}"]
            for one in swaps
        ]  # fmt: skip
        columns = ["years apart", "neurons", "cutoff sharpness", "probability difference"]
        caption = "recovered parts of clean minus floor, each neuron at the tuning curve of another"
        print_table("Exchanged tuning curves", columns, rows, caption=caption)


def _print_faithfulness(found: "Faithfulness") -> None:
    rows = [
        [one.description, str(one.neurons), f"{one.cutoff_sharpness.value:.2f}",
         _interval(one.cutoff_sharpness.ci_low, one.cutoff_sharpness.ci_high),
         f"{one.probability_difference.value:.2f}"]
        for one in found.rows
    ]  # fmt: skip
    print_table(
        "Neurons held at descriptions",
        ["description", "neurons", "cutoff sharpness", "95 % interval", "probability difference"],
        rows,
        caption=f"recovered parts of clean minus floor on {found.prompts} prompts, interval over centuries",
    )


def _print_composition(found: "Composition") -> None:
    _print_sparse(found)
    _print_parts(found)
    _print_basis(found)
    families = ", ".join(f"{count} {family}" for family, count in found.tuning.family_counts().items() if count)
    print("\n".join([f"tuning of {len(found.tuning)} neurons: {families or 'none fitted'}", *found.notes]))


def _print_sparse(found: "Composition") -> None:
    rows = [[str(one["k"]), *map(_part, (one["r2"], one["cutoff_sharpness"], one["probability_difference"]))]
            for one in found.sparse.to_json()]  # fmt: skip
    print_table(
        "Sums of the first neurons, with their own weights",
        ["first k", "R^2 of the map", "cutoff sharpness", "probability difference"],
        rows,
        caption="map centred over start years and years; recovered parts of clean minus floor",
    )


def _print_parts(found: "Composition") -> None:
    named = {"all neurons": found.whole} | {part.name: part for part in found.by_layer.values()}
    named |= {f"cluster {name}": part for name, part in found.by_group.items()}
    rows = [
        [name, str(part.n_neurons), f"{part.contrast:+.4f}", *map(_part, (
            part.regression.alone("step"), part.regression.r2, part.regression.r2_heldout))]
        for name, part in named.items()
    ]  # fmt: skip
    print_table(
        f"{found.model}: composed maps, start years {spans(found.start_years)}",
        ["part", "neurons", "contrast", "R^2 of the step", "R^2 of all terms", "held out"],
        rows,
        caption="contrast in logits; R^2 of maps centred over start years and years",
    )


def _print_basis(found: "Composition") -> None:
    rows = [
        [term.term, f"{term.coefficient:+.3f}", _interval(term.ci_low, term.ci_high), f"{term.share:.3f}",
         f"{term.alone:.3f}"]
        for term in found.whole.regression.terms
    ]  # fmt: skip
    print_table(
        "Regression of the map of all neurons on named shapes",
        ["term", "coefficient", "95 % interval", "share", "alone"],
        rows,
        caption="share: drop in R^2 without the term; alone: R^2 of the term alone",
    )


def _interval(low: float | None, high: float | None) -> str:
    return "needs 2 centuries" if low is None or high is None else f"{low:+.3f} .. {high:+.3f}"


def _part(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _print_routes(found: "Routes") -> None:
    first = found.share.neurons[:ROUTED]
    rows = [[str(neuron), f"{found.share.total[row]:+.4f}", *(f"{part:+.4f}" for part in found.share.parts[row]),
             ", ".join(f"{one['neuron']} {one['value']:+.4f}" for one in found.share.record(neuron)["through"][:2])]
            for row, neuron in enumerate(first)]  # fmt: skip
    whole = ", ".join(f"{name} {value:+.4f}" for name, value in zip(ROUTES, found.share.parts.sum(0), strict=True))
    print_table(
        f"{found.model}: routes of the shares of the {found.measure.replace('_', ' ')}, first {len(first)} neurons",
        ["neuron", "share", *ROUTES, "most through"],
        rows,
        caption="direct: own write, final LayerNorm's scale frozen; scale: through that scale; attention, neurons:"
        f" later ones at END\nall {len(found.share.neurons)} neurons of the set: {whole}",
    )
