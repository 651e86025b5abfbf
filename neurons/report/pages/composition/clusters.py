"""The page `clusters` and one for each cluster, made from the results alone."""

from collections.abc import Mapping
from functools import partial

from neurons.clustering.results import STABILITY_BAR, Cluster, Clustering
from neurons.regression.results import Composition
from neurons.report.blocks import Block, Column, Facts, Gallery, Page, PageLink, Picture, Section, Table, Text, number
from neurons.report.figures import cluster_plots, plots
from neurons.report.figures.plots import Draw
from neurons.report.pages.composition.composed import gallery, regression_facts
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
    if not found.clusters:  # else each cluster's page shows its members' curves
        figures = cluster_plots.tuning_figures(found.tuning) | figures
    sections.append(Section("Similarity and effect maps", (_gallery(found, figures),)))
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
    draw = partial(cluster_plots.cluster_gallery, clustering)
    medoids = _gallery(clustering, {"medoids": draw}) if clustering.clusters else None
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
    claim = f"{verdict[0].upper()}{verdict[1:]}."
    return Section("Clusters and composition", (*clusters, regression_facts(composition)), claim)


def _gallery(found: Clustering, figures: Mapping[str, Draw]) -> Gallery:
    several = {name for name, count in (("medoids", len(found.clusters)), ("tuning", len(found.tuning))) if count > 1}
    return gallery("clusters", figures, CLUSTER_CAPTIONS, {"dendrogram"} | several)


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
