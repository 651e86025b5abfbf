"""The pages `clusters`, one for each cluster, and `composition`: from the results alone."""

from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from neurons.clustering.results import STABILITY_BAR, Cluster, Clustering
from neurons.regression.results import SIGN_BAR, Composition, Part
from neurons.report.blocks import Column, Facts, Gallery, Page, PageLink, Picture, Section, Table, Text, number
from neurons.report.figures import cluster_plots, composition_plots, plots
from neurons.report.pages.neuron import neuron_link

CLUSTER_CAPTIONS = {
    "medoids": "The medoid's map of each cluster, centred over the years, on one colour scale.",
    "tuning": "Tuning curves with their 95 % interval over nouns; dashed, the fitted family.",
    "shares": "What each part adds to the mean contrast. Clusters, noise and the neurons not clustered add up exactly.",
    "scatter": "The clustered neurons in the plane: nearer when tuning and readout are more alike. Grey is noise.",
    "dendrogram": "The tree of average linkage over the same likeness.",
}
COMPOSITION_CAPTIONS = {
    "reconstruction-maps": "The map of all neurons, what the fewest neurons that reach 90 % rebuild, and what is left.",
    "reconstruction": "Fit on nouns and centuries held out, against the number of neurons that matching pursuit took.",
    "singular-values": "Singular values of the composed map.",
    "components": "Its leading components: how each varies over start years, and what it writes on the years.",
    "terms": "How much of each part's map a named shape explains by itself.",
    "signs": "Share of cells (YY, y) with the sign of '>' as neurons are added.",
}


def cluster_pages(found: Clustering, paged: frozenset[str]) -> tuple[Page, ...]:
    """The page of all clusters, then one for each. paged: the neurons that have a page in this report."""
    return (_clusters_page(found), *(_cluster_page(found, cluster, paged) for cluster in found.clusters))


def _clusters_page(found: Clustering) -> Page:
    lead = (
        f"{len(found.clusters)} kinds among {len(found.tuning)} neurons that boost or suppress, by their tuning to the"
        " start year and their readout over the years."
    )
    columns = (
        Column("cluster"), Column("typical"), Column("neurons", "count"), Column("share (logits)", "number"),
        Column("stability", "number", help="mean overlap with the best match when nouns are resampled"),
    )  # fmt: skip
    rows = tuple(
        (PageLink(str(c.id), _cluster_key(c)), str(c.medoid), len(c.members), c.share, c.stability)
        for c in found.clusters
    )
    told = tuple(Text((f"{c.id}: {c.description}.",)) for c in found.clusters)
    sections = [Section("Kinds", (Table(f"Stability bar: {STABILITY_BAR}", columns, rows), *told))]
    sections.append(Section("What each adds", (_shares(found),)))
    figures = cluster_plots.cluster_figures(found)
    if found.clusters:
        figures.pop("tuning", None)  # each cluster's page shows its members' curves
    sections.append(Section("Figures", (_gallery("clusters", figures, CLUSTER_CAPTIONS),)))
    if found.notes:
        sections.append(Section("Notes", tuple(Text((note,)) for note in found.notes)))
    return Page("clusters", "Clusters", lead, tuple(sections), data=found.to_json())


def kinds_section(clustering: Clustering, composition: Composition, paged: frozenset[str]) -> Section:
    """For the index: the clusters' maps, and in short how the neurons add up. paged: the neurons that have a page."""
    gallery = cluster_plots.cluster_gallery(clustering) if clustering.clusters else None
    medoids = _gallery("clusters", {"medoids": gallery}, CLUSTER_CAPTIONS) if gallery else None
    columns = (Column("cluster"), Column("typical"), Column("neurons", "count"), Column("share (logits)", "number"),
               Column("what it is"))  # fmt: skip
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
    kinds = (medoids, Table("Clusters of the neurons that boost or suppress", columns, rows)) if medoids else ()
    return Section("Which kinds, and how they add up", (*kinds, _summary(composition)))


def _shares(found: Clustering) -> Facts:
    entries = [(f"cluster {c.id}", f"{number(c.share)} logits") for c in found.clusters]
    entries += [
        (f"noise ({len(found.noise)} neurons)", f"{number(found.noise_share)} logits"),
        ("neurons not clustered", f"{number(found.others_share)} logits"),
        ("all neurons", f"{number(found.total_contrast)} logits"),
        ("output biases, apart", f"{number(sum(found.bias_contrast.values()))} logits"),
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
            "Mean effect of a member on each year's logit, centred over the years.",
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
            Section("Maps and tuning", (Gallery(pictures),)),
            Section("Members", (Table(f"Share of the contrast: {number(cluster.share)} logits", columns, members),)),
        ),
        previous=PageLink("all clusters", "clusters"),
    )


def composition_page(found: Composition) -> Page:
    """How the neurons add up: parts and what they write, terms, how few rebuild the map, when the sign is right."""
    terms = tuple((t.term, t.coefficient, t.ci_low, t.ci_high, t.share, t.alone) for t in found.whole.regression.terms)
    term_columns = (
        Column("term"), Column("coefficient", "number"), Column("95 % low", "number"), Column("95 % high", "number"),
        Column("share", "number", help="R² lost without the term"),
        Column("alone", "number", help="R² of the term by itself"),
    )  # fmt: skip
    figures = composition_plots.composition_figures(found)
    figures.pop("tuning", None)  # the clusters' page shows it
    sections = [
        Section("In short", (_summary(found),)),
        Section("Which part writes what", (_parts_table(found),)),
        Section(
            "How much of it is '>'",
            (
                Table("Regression of the composed, year-centred map", term_columns, terms),
                Text(("The terms overlap: shares need not add up to the whole R².",)),
            ),
        ),
        Section("Figures", (_gallery("composition", figures, COMPOSITION_CAPTIONS),)),
    ]
    if found.notes:
        sections.append(Section("Notes", tuple(Text((note,)) for note in found.notes)))
    lead = "No single neuron computes '>': each scales one fixed profile over the years. What their sum is made of."
    return Page("composition", "Composition", lead, tuple(sections), data=found.to_json())


def _summary(found: Composition) -> Facts:
    pursuit, signs, whole = found.pursuit, found.signs.record(), found.whole
    step = next(term for term in whole.regression.terms if term.term == "step")
    return Facts(
        (
            ("components for 90 % and 99 % of the map", _pair(whole.components_for)),
            ("neurons for held-out R² 0.90 and 0.99", _pair(pursuit.neurons_for)),
            ("R² of the step by itself", number(step.alone, decimals=3)),
            (
                "R² of all named terms",
                "undefined" if whole.regression.r2 is None else number(whole.regression.r2, decimals=3),
            ),
            ("cells with the sign of '>', all neurons", f"{found.signs.all_neurons:.1%}"),
            (f"neurons for {SIGN_BAR:.0%} of the cells, greedily", str(signs["greedy"]["neurons"] or "never")),
            (f"neurons for {SIGN_BAR:.0%} of the cells, by score", str(signs["by_score"]["neurons"] or "never")),
        )
    )


def _pair(reached: Callable[[float], int | None]) -> str:
    return " and ".join("never" if n is None else str(n) for n in (reached(0.9), reached(0.99)))


def _parts_table(found: Composition) -> Table:
    named: dict[str, Part] = {"all neurons": found.whole}
    named |= {f"MLP {layer}": part for layer, part in found.by_layer.items()}
    named |= {f"cluster {name}": part for name, part in found.by_group.items()}
    columns = (
        Column("part"), Column("writes"), Column("neurons", "count"), Column("contrast (logits)", "number"),
        Column("R² of terms", "number"), Column("sign right", "number"),
    )  # fmt: skip
    rows = tuple(
        (name, part.regression.writes, part.n_neurons, part.contrast, part.regression.r2, part.sign_right)
        for name, part in named.items()
    )
    return Table("Composed maps", columns, rows)


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
