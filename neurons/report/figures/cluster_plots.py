"""Figures of clusters and of tuning curves, in the style of `plots`; results in, matplotlib Figures out."""

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurons.clustering.prototypes import Prototype
from neurons.clustering.results import Clustering, Tuning
from neurons.report.figures.plots import (
    ACCENT,
    COLUMN,
    HEIGHT,
    LAYER_COLOURS,
    LOWERS,
    NEUTRAL,
    RAISES,
    START_YEAR,
    WIDE,
    Draw,
    add_axes,
    new_figure,
    part_maps,
    styled,
)

CLUSTER_COLOURS = (*LAYER_COLOURS[:6], "#882255", "#117733", "#ddcc77", "#44aa99")
"""Clusters' colours, repeated where there are more."""
GALLERY = 12
LEAVES = 40


def cluster_figures(found: Clustering) -> dict[str, Draw]:
    """What draws each figure of a clustering but its tuning curves; nothing where no neuron was clustered."""
    if not len(found.tuning):
        return {}
    figures: dict[str, Draw] = {"scatter": partial(cluster_scatter, found)}
    if found.clusters:
        figures["shares"] = partial(share_bars, found)
    if len(found.merges):
        figures["dendrogram"] = partial(cluster_dendrogram, found)
    if found.clusters:
        figures["medoids"] = partial(cluster_gallery, found)
    return figures


def tuning_figures(tuning: Tuning) -> dict[str, Draw]:
    """What draws the first tuning curves, as `tuning`; nothing where no neuron was clustered."""
    return {"tuning": partial(tuning_gallery, tuning)} if len(tuning) else {}


@styled
def tuning_gallery(tuning: Tuning, rows: tuple[int, ...] | None = None) -> Figure:
    """Tuning curves with their interval over centuries; dashed, the family's fit; rows: default the first twelve."""
    rows = rows if rows is not None else tuple(range(min(GALLERY, len(tuning))))
    columns = min(4, len(rows))
    figure, boxes = panels(len(rows), columns, height=0.95)
    for place, (row, axes) in enumerate(zip(rows, boxes, strict=True)):
        fit = tuning.neurons[row]
        axes.fill_between(
            tuning.start_years, tuning.low[:, row], tuning.high[:, row], color=LAYER_COLOURS[0], alpha=0.25, linewidth=0
        )
        axes.plot(tuning.start_years, tuning.curve[:, row], color=LAYER_COLOURS[0], linewidth=0.9)
        if fit.tuning.family != "none":
            axes.plot(tuning.start_years, fit.tuning.values, color=ACCENT, linewidth=0.9, dashes=(4, 2))
        axes.set_title(f"{fit.neuron} {fit.tuning.family}", pad=3)
        axes.set_ylabel("a / σ" if place % columns == 0 else "")
        axes.set_xlabel(START_YEAR if place + columns >= len(rows) else "")
        axes.locator_params(nbins=4)
    return figure


def panels(count: int, columns: int, *, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes of this height in inches, row by row, as wide as its column or both."""
    lines = -(-count // columns)
    gap_x, gap_y, left, bottom, top = 0.42, 0.36, 0.5, 0.42, 0.22
    whole = COLUMN if columns == 1 else WIDE
    width = (whole - left - 0.12 + gap_x) / columns - gap_x
    size = (whole, bottom + lines * (height + gap_y) - gap_y + top)
    figure = new_figure(*size)
    boxes = [divmod(place, columns) for place in range(count)]
    return figure, [
        figure.add_axes(
            (
                (left + column * (width + gap_x)) / size[0],
                (size[1] - top - (line + 1) * height - line * gap_y) / size[1],
                width / size[0],
                height / size[1],
            )
        )
        for line, column in boxes
    ]


@styled
def prototype_gallery(prototypes: Sequence[Prototype], start_years: Sequence[int]) -> Figure:
    """The shape of each prototype by start year, on one scale."""
    shown = prototypes[:GALLERY]
    columns = min(4, len(shown))
    figure, boxes = panels(len(shown), columns, height=0.95)
    for place, (prototype, axes) in enumerate(zip(shown, boxes, strict=True)):
        axes.axhline(0, color="black", linewidth=0.5)
        axes.plot(start_years, prototype.shape, color=LAYER_COLOURS[0], linewidth=0.9)
        axes.set_title(f"{prototype.name} ({len(prototype.neurons)})", pad=3)
        axes.set_ylabel("standard deviations" if place % columns == 0 else "")
        axes.set_xlabel(START_YEAR if place + columns >= len(shown) else "")
        axes.set_ylim(*_common(shown))
        axes.locator_params(nbins=4)
    return figure


def _common(prototypes: Sequence[Prototype]) -> tuple[float, float]:
    low, high = (float(end([end(one.shape) for one in prototypes])) for end in (min, max))
    return low - 0.2, high + 0.2


@styled
def cluster_gallery(found: Clustering) -> Figure:
    """The medoid's map of each cluster, year-centred, on one scale; the first twelve."""
    maps = {f"{c.id}: {c.medoid} ({len(c.members)})": c.medoid_map for c in found.clusters[:GALLERY]}
    return part_maps(maps, found.start_years)


@styled
def cluster_scatter(found: Clustering) -> Figure:
    """The neurons in two dimensions, nearer when more similar; noise is grey."""
    figure = new_figure(COLUMN, COLUMN)
    axes = add_axes(figure, left=0.3, bottom=0.3, top=0.5)
    noise = found.labels < 0
    axes.scatter(
        found.place[noise, 0], found.place[noise, 1], s=5, color="#a6a6a6", linewidths=0, label=f"noise ({noise.sum()})"
    )
    for cluster in found.clusters:
        members = found.labels == cluster.id
        name = f"{cluster.id} ({len(cluster.members)})" if cluster.id < GALLERY - 1 else None
        axes.scatter(
            found.place[members, 0], found.place[members, 1], s=8, color=_colour(cluster.id), linewidths=0, label=name
        )
    axes.set(xticks=[], yticks=[], xlabel="multidimensional scaling of 1 − similarity")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0, columnspacing=1, handletextpad=0)
    return figure


@styled
def cluster_dendrogram(found: Clustering) -> Figure:
    """The tree of average linkage; where there are more than 40 branches the lowest are drawn as one."""
    from scipy.cluster.hierarchy import dendrogram

    figure = new_figure(WIDE, HEIGHT)
    axes = add_axes(figure, bottom=0.75)
    labels = [str(fit.neuron) for fit in found.tuning.neurons]
    dendrogram(
        found.merges,
        ax=axes,
        p=LEAVES,
        truncate_mode="lastp",
        leaf_label_func=lambda node: labels[node] if node < len(labels) else f"({_size(found, node)})",
        link_color_func=lambda _: NEUTRAL,
        leaf_rotation=90,
    )
    colour = {label: found.labels[row] for row, label in enumerate(labels)}
    for text in axes.get_xticklabels():
        text.set_fontsize(5)
        text.set_color(_colour(int(colour.get(text.get_text(), -1))))
    axes.set(ylabel="1 − similarity", ylim=(0, None))
    axes.tick_params(axis="x", length=0)
    return figure


def _size(found: Clustering, node: int) -> int:
    return int(found.merges[node - len(found.tuning), 3])


def _colour(cluster: int) -> str:
    return NEUTRAL if cluster < 0 else CLUSTER_COLOURS[cluster % len(CLUSTER_COLOURS)]


@styled
def share_bars(found: Clustering) -> Figure:
    """Contribution of each cluster, noise, neurons not clustered and biases to the contrast, in logits."""
    shares = {f"{c.id}: {c.medoid}": c.share for c in found.clusters[:GALLERY]}
    if len(found.clusters) > GALLERY:
        shares["other clusters"] = sum(c.share for c in found.clusters[GALLERY:])
    shares |= {"noise": found.noise_share, "not clustered": found.others_share}
    shares["biases"] = sum(found.bias_contrast.values())
    return _bars(shares, "contrast (logits)")


def _bars(values: Mapping[str, float], label: str) -> Figure:
    figure = new_figure(COLUMN, 0.65 + 0.17 * len(values))
    axes = add_axes(figure, left=1.05)
    sizes = list(values.values())
    axes.barh(range(len(sizes)), sizes, 0.7, color=[RAISES if size >= 0 else LOWERS for size in sizes])
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set(yticks=range(len(sizes)), yticklabels=list(values), xlabel=label)
    axes.invert_yaxis()
    return figure
