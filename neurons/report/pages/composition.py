"""The pages `clusters`, one for each cluster, and `composition`, made from the results alone."""

from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from neurons.clustering.results import STABILITY_BAR, Cluster, Clustering
from neurons.regression.results import SIGN_BAR, Composition, Part
from neurons.report.blocks import Block, Column, Facts, Gallery, Page, PageLink, Picture, Section, Table, Text, number
from neurons.report.figures import cluster_plots, composition_plots, plots
from neurons.report.pages.neuron import neuron_link

CLUSTER_CAPTIONS = {
    "medoids": "Effect map of the medoid of each cluster, centred over the years, on one colour scale.",
    "tuning": "Tuning curves (mean a/σ by start year) with their 95 % interval over centuries; dashed: the fitted"
    " family.",
    "shares": "Contribution of each cluster to the mean contrast, in logits. Clusters, noise and the neurons not"
    " clustered sum to the contrast of all neurons.",
    "scatter": "Clustered neurons in two dimensions (multidimensional scaling of 1 − similarity of tuning and"
    " readout). Grey: noise.",
    "dendrogram": "Dendrogram of average linkage on 1 − similarity.",
}
COMPOSITION_CAPTIONS = {
    "reconstruction-maps": "Effect map of all neurons, its reconstruction from the fewest neurons with R² of at least"
    " 0.90, and the residual.",
    "reconstruction": "R² on held-out centuries against the number of neurons chosen by matching pursuit.",
    "singular-values": "Singular values of the composed map, in logits, with the number of components for 90 % and 99"
    " % of its square.",
    "components": "Leading components of the composed map: left, over start years, in logits; right, over years, with"
    " norm 1.",
    "terms": "R² of each named shape alone, for the composed map of each MLP.",
    "signs": "Share of cells (YY, y) with the sign of greater-than against the number of neurons added.",
}


def cluster_pages(found: Clustering, paged: frozenset[str]) -> tuple[Page, ...]:
    """The page of all clusters, then one for each. paged: the neurons that have a page in this report."""
    return (_clusters_page(found), *(_cluster_page(found, cluster, paged) for cluster in found.clusters))


def _clusters_page(found: Clustering) -> Page:
    verdict = found.verdict()
    lead = f"{verdict[0].upper()}{verdict[1:]}. Neurons that boost or suppress, by tuning curves and readouts."
    columns = (
        Column("cluster"), Column("medoid"), Column("neurons", "count"), Column("contrast (logits)", "number"),
        Column("stability", "number", help="mean Jaccard overlap with the best match, 80 % of the neurons drawn"),
    )  # fmt: skip
    rows = tuple(
        (PageLink(str(c.id), _cluster_key(c)), str(c.medoid), len(c.members), c.share, c.stability)
        for c in found.clusters
    )
    descriptions = tuple(Text((f"{c.id}: {c.description}.",)) for c in found.clusters)
    title = "Clusters of neurons" if found.clustered else "Groups found by the clustering, not clusters"
    sections = [
        Section("Clusters or a continuum", _continuum(found)),
        Section(title, (Table(f"A cluster is stable from {STABILITY_BAR} on", columns, rows), *descriptions)),
    ]
    sections.append(Section("Contribution to the contrast", (_shares(found),)))
    figures = cluster_plots.cluster_figures(found)
    if found.clusters:
        figures.pop("tuning", None)  # each cluster's page shows its members' curves
    sections.append(Section("Similarity and effect maps", (_gallery("clusters", figures, CLUSTER_CAPTIONS),)))
    if found.notes:
        sections.append(Section("Notes", tuple(Text((note,)) for note in found.notes)))
    return Page("clusters", "Clusters", lead, tuple(sections), data=found.to_json())


def _continuum(found: Clustering) -> tuple[Block, ...]:
    """Verdict, the evidence for it, and the prototypes: of clusters, or of bins along the tuning centre."""
    columns = (Column("quantity"), Column("neurons", "count"), Column("dip", "number"), Column("p", "number"))
    rows = tuple((dip.of, dip.neurons, dip.dip, dip.p_value) for dip in found.evidence.dips)
    table = Table(
        f"Hartigan's dip test: one mode in a continuum, more where there are clusters. {found.evidence.words()}",
        columns,
        rows,
    )
    if not found.prototypes:
        return (table,)
    groups = "cluster" if found.clustered else "decade of tuning centres"
    caption = (
        f"Prototypes, one for each {groups}: mean of the members' tuning curves, each less its mean, over its standard"
        " deviation, and turned so that its peak is upwards, by start year. In brackets: number of neurons."
    )
    prototypes = Picture(
        "clusters-prototypes",
        partial(cluster_plots.prototype_gallery, found.prototypes, found.start_years),
        f"Tuning shapes of {len(found.prototypes)} groups of neurons, one for each {groups}.",
        caption,
        wide=True,
    )
    return (table, Gallery((prototypes,)))


def clusters_section(clustering: Clustering, composition: Composition, paged: frozenset[str]) -> Section:
    """For the index: the clusters' maps and a summary of the composition. paged: the neurons that have a page."""
    verdict = clustering.verdict()
    gallery = cluster_plots.cluster_gallery(clustering) if clustering.clusters else None
    medoids = _gallery("clusters", {"medoids": gallery}, CLUSTER_CAPTIONS) if gallery else None
    columns = (Column("cluster"), Column("medoid"), Column("neurons", "count"), Column("contrast (logits)", "number"),
               Column("description"))  # fmt: skip
    rows = tuple(
        (
            PageLink(str(c.id), _cluster_key(c)),
            neuron_link(str(c.medoid), paged),
            len(c.members),
            c.share,
            c.description,
        )
        for c in clustering.clusters
    )
    clusters = (medoids, Table(f"{verdict[0].upper()}{verdict[1:]}", columns, rows)) if medoids else ()
    return Section("Clusters and composition", (*clusters, _summary(composition)))


def _shares(found: Clustering) -> Facts:
    entries = [(f"cluster {c.id}", f"{number(c.share)} logits") for c in found.clusters]
    entries += [
        (f"noise ({len(found.noise)} neurons)", f"{number(found.noise_share)} logits"),
        ("neurons not clustered", f"{number(found.others_share)} logits"),
        ("all neurons", f"{number(found.total_contrast)} logits"),
        ("output biases (in no sum above)", f"{number(sum(found.bias_contrast.values()))} logits"),
    ]
    return Facts(tuple(entries))


def _cluster_key(cluster: Cluster) -> str:
    return f"clusters/cluster-{cluster.id}"


def _cluster_page(found: Clustering, cluster: Cluster, paged: frozenset[str]) -> Page:
    columns = (Column("neuron"), Column("membership", "number"))
    members = tuple(
        (neuron_link(str(neuron), paged), strength)
        for neuron, strength in zip(cluster.members, cluster.membership, strict=True)
    )
    rows = tuple(i for i, label in enumerate(found.labels.tolist()) if found.clusters[label] is cluster and label >= 0)
    pictures = (
        Picture(
            f"cluster-{cluster.id}-map",
            partial(plots.effect_map, cluster.mean_map, found.start_years),
            f"Mean map of cluster {cluster.id}: {cluster.description}",
            "Effect map, mean over the cluster's members, on the logit of each year y (column) after each start year"
            " YY (row), centred over the years.",
        ),
        Picture(
            f"cluster-{cluster.id}-tuning",
            partial(cluster_plots.tuning_gallery, found.tuning, rows[: cluster_plots.GALLERY]),
            f"Tuning curves of the members of cluster {cluster.id}",
            CLUSTER_CAPTIONS["tuning"],
            wide=True,
        ),
    )
    return Page(
        key=_cluster_key(cluster),
        title=f"Cluster {cluster.id}",
        lead=cluster.description,
        sections=(
            Section("Effect map and tuning curves", (Gallery(pictures),)),
            Section("Members", (Table(f"Contrast of the cluster: {number(cluster.share)} logits", columns, members),)),
        ),
        previous=PageLink("all clusters", "clusters"),
    )


def composition_page(found: Composition) -> Page:
    """Composition of the greater-than map: parts, named shapes, sparse reconstruction, sign."""
    terms = tuple(
        (t.term.replace("_", " "), t.coefficient, t.ci_low, t.ci_high, t.share, t.alone)
        for t in found.whole.regression.terms
    )
    term_columns = (
        Column("term"), Column("coefficient", "number"), Column("95 % low", "number"), Column("95 % high", "number"),
        Column("share", "number", help="drop in R² without the term"),
        Column("alone", "number", help="R² of the term alone"),
    )  # fmt: skip
    figures = composition_plots.composition_figures(found)
    figures.pop("tuning", None)  # the clusters' page shows it
    sections = [
        Section("Summary", (_summary(found),)),
        Section("Composition by layer and cluster", (_parts_table(found),)),
        Section(
            "Regression on named shapes",
            (
                Table("Regression of the composed map, centred over the years, on named shapes", term_columns, terms),
                Text(("The terms are correlated, so their shares need not sum to R².",)),
            ),
        ),
        Section("Components, signs and reconstruction", (_gallery("composition", figures, COMPOSITION_CAPTIONS),)),
    ]
    if found.notes:
        sections.append(Section("Notes", tuple(Text((note,)) for note in found.notes)))
    lead = (
        "Composition of the greater-than map: each neuron scales one fixed profile over the years, and only their sum"
        " is greater-than."
    )
    return Page("composition", "Composition", lead, tuple(sections), data=found.to_json())


def _summary(found: Composition) -> Facts:
    pursuit, signs, whole = found.pursuit, found.signs.record(), found.whole
    step = next(term for term in whole.regression.terms if term.term == "step")
    return Facts(
        (
            ("components for 90 % and 99 % of the map", _pair(whole.components_for)),
            ("neurons for held-out R² 0.90 and 0.99", _pair(pursuit.neurons_for)),
            ("R² of the step alone", number(step.alone, decimals=3)),
            (
                "R² of all named terms",
                "undefined" if whole.regression.r2 is None else number(whole.regression.r2, decimals=3),
            ),
            ("cells with the sign of greater-than, all neurons", f"{found.signs.all_neurons:.1%}"),
            (f"neurons for {SIGN_BAR:.0%} of the cells, greedily", str(signs["greedy"]["neurons"] or "not reached")),
            (f"neurons for {SIGN_BAR:.0%} of the cells, by score", str(signs["by_score"]["neurons"] or "not reached")),
        )
    )


def _pair(reached: Callable[[float], int | None]) -> str:
    return " and ".join("not reached" if n is None else str(n) for n in (reached(0.9), reached(0.99)))


def _parts_table(found: Composition) -> Table:
    named: dict[str, Part] = {"all neurons": found.whole}
    named |= {f"MLP {layer}": part for layer, part in found.by_layer.items()}
    named |= {f"cluster {name}": part for name, part in found.by_group.items()}
    columns = (
        Column("part"), Column("shape"), Column("neurons", "count"), Column("contrast (logits)", "number"),
        Column("R² of terms", "number"), Column("correct sign", "number", "share of cells with the sign of"
        " greater-than"),
    )  # fmt: skip
    rows = tuple(
        (name, part.regression.writes, part.n_neurons, part.contrast, part.regression.r2, part.sign_right)
        for name, part in named.items()
    )
    return Table("Composed maps of all neurons, of each MLP and of each cluster", columns, rows)


def _gallery(page: str, figures: dict[str, Figure], captions: dict[str, str]) -> Gallery:
    return Gallery(
        tuple(
            Picture(
                f"{page}-{name}",
                partial(_drawn, figure),
                captions[name],
                captions[name],
                wide=bool(figure.get_figwidth() > plots.COLUMN),
            )
            for name, figure in figures.items()
        )
    )


def _drawn(figure: Figure) -> Figure:
    return figure
