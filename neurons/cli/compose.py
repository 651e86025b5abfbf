"""Clusters of neurons and composition of the greater-than map: `cluster` and `compose`, from the cache alone."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cli.common import JsonOption, print_json, print_table
from neurons.cli.options import on_study
from neurons.clustering.results import Method
from neurons.study.study import Study
from neurons.task.years import spans
from neurons.types import NeuronId

if TYPE_CHECKING:
    from neurons.clustering.results import Clustering
    from neurons.regression.results import Composition

MethodOption = Annotated[Method, typer.Option("--method", help="Clustering algorithm.")]
CapOption = Annotated[
    int | None, typer.Option("--cap", min=1, help="Most neurons clustered, by |score|.", show_default="1500")
]
SmallestOption = Annotated[
    int | None,
    typer.Option("--smallest", min=2, help="Fewest neurons that make a cluster.", show_default="3, or 1 in 100"),
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
        from neurons.report.figures.cluster_plots import cluster_figures
        from neurons.report.figures.composition_plots import save_all

        save_all(cluster_figures(found), figures)
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
    candidates: Annotated[
        int | None,
        typer.Option(
            "--candidates", min=1, help="Most neurons that matching pursuit chooses from.", show_default="1000"
        ),
    ] = None,
    figures: FiguresOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decompose the summed map of the neurons.

    Singular components, regression on named shapes, sparse reconstruction, sign.
    """
    also = list(map(NeuronId.parse, neuron or []))
    composition = study.composition(also=also, cap=cap, candidates=candidates)
    if figures:
        from neurons.report.figures.composition_plots import composition_figures, save_all

        save_all(composition_figures(composition), figures)
    if as_json:
        print_json(composition.to_json())
    else:
        _print_composition(composition)


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
        ["part", "shape", "neurons", "contrast", "R^2 of terms", "correct sign"],
        rows,
        left=2,
        caption="contrast in logits; R^2 of terms: of the regression on the named shapes below",
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
        caption=f"share: drop in R^2 without the term; alone: R^2 of the term alone; decay length {found.fade:.0f}"
        " years",
    )


def _interval(low: float | None, high: float | None) -> str:
    return "needs 2 centuries" if low is None or high is None else f"{low:+.3f} .. {high:+.3f}"


def _counts(number_for: Callable[[float], int | None]) -> str:
    return " and ".join("not reached" if n is None else str(n) for n in (number_for(0.9), number_for(0.99)))


def _sign(record: dict[str, Any]) -> str:
    if record["neurons"] is not None:
        return f"{record['neurons']} neuron{'s' * (record['neurons'] > 1)}"
    return f"not reached (at best {record['best'] or 0:.1%} of {record['tried']} tried)"
