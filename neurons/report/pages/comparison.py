"""The page of a comparison of models, made from the comparison alone, and its folder."""

import importlib.metadata
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from neurons.comparison.model_results import Comparison, Pair, Side
from neurons.report.blocks import (
    INDEX,
    Block,
    Cell,
    Code,
    Column,
    Facts,
    FileLink,
    Gallery,
    Page,
    Picture,
    Section,
    Table,
    Text,
    number,
)
from neurons.report.drawing import draw_pictures
from neurons.report.figures import comparison_plots
from neurons.report.folder import FORMAT, MARK, replacing_folder, write_json
from neurons.report.render import Site, html_file, write_assets, write_page

FORMAT_VERSION = 1
RUNS = {
    "model": "clean run",
    "counterfactual": "corrupted run",
    "average_distribution": "average distribution",
}
LISTED = 20
"""Neurons lost or gained that the page lists; report.json has them all."""


def write_comparison(found: Comparison, *, folder: Path, command: str) -> Path:
    """Write the page, its figures and report.json; returns the path of the page.

    Raises `OutputError` when the folder cannot be written or holds something that is no report.
    """
    page = comparison_page(found, command=command)
    footer = "; ".join(f"{side.name}, checkpoint {side.model_sha256[:12]}" for side in found.sides)
    site = Site(model=page.title, footer=f"{footer}; neurons {importlib.metadata.version('neurons')}")
    with replacing_folder(folder) as fresh:
        write_assets(fresh)
        draw_pictures([page], fresh)
        write_page(page, site, fresh)
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": page.title, "command": command}
        write_json(fresh / MARK, about | found.to_json())
    return folder / html_file(INDEX)


def comparison_page(found: Comparison, *, command: str) -> Page:
    names = [side.name for side in found.sides]
    title = ", ".join(names[:-1]) + f" and {names[-1]}"
    return Page(
        key=INDEX,
        title=title,
        lead=f"Comparison of models on the task {found.task}; each is compared with {names[0]}.",
        sections=(
            Section("Behaviour", (_behaviour(found),)),
            *_development(found),
            Section("Boosting scores", _scores(found)),
            Section("Composed maps", _maps(found)),
            Section("Clusters of neurons", _clusters(found)),
            *(_neurons(found, place) for place in range(len(found.pairs))),
            Section("Reproduction", (Code(command), _all_numbers(), _provenance(found))),
        ),
        data=found.to_json(),
    )


def _behaviour(found: Comparison) -> Table:
    columns = (
        Column("model"),
        Column("run"),
        Column("prompts", "count"),
        Column("probability difference", "number", "sum of p(y > YY) minus sum of p(y <= YY)"),
        Column("sd", "number", "over prompts"),
        Column("cutoff sharpness", "number", "p(YY + 1) minus p(YY - 1)"),
        Column("sd", "number", "over prompts"),
    )
    rows = tuple(
        (
            side.name,
            RUNS[run],
            side.n_prompts,
            measures["probability_difference"]["mean"],
            measures["probability_difference"]["sd"],
            measures["cutoff_sharpness"]["mean"],
            measures["cutoff_sharpness"]["sd"],
        )
        for side in found.sides
        for run, measures in side.behaviour.items()
    )
    return Table(
        "Clean run, corrupted run (YY replaced by 01) and average distribution over all start years", columns, rows
    )


def _development(found: Comparison) -> tuple[Section, ...]:
    """A section where there are three checkpoints or more of one shape."""
    by_step = found.development
    if by_step is None:
        return ()
    text = (
        "Behaviour, number of neurons and survival by step. Survival: the fraction of the last (the first) step's"
        " boosting neurons that boost at a step; dotted: of all neurons, which is chance."
    )
    shown = by_step.to_json()
    ks = [*(shown["k"][measure] for measure in by_step.k), *shown["tiling"].values()]
    rows = tuple(
        zip(by_step.steps, by_step.names, by_step.boosting, *ks, shown["survival"][-1], strict=True),
    )
    columns = (
        Column("step", "count"), Column("model"), Column("boosting", "count"),
        *(Column(f"for 90 % of {measure.replace('_', ' ')}", "count") for measure in by_step.k),
        *(Column(f"tiling, {name.replace('_', ' ')}", "number") for name in by_step.tiling),
        Column("survival", "number", "of the last step's neurons"),
    )  # fmt: skip
    picture = Picture("development", partial(comparison_plots.development_curves, by_step), text, text)
    return (Section("Development", (Gallery((picture,)), Table("Neurons by step", columns, rows))),)


def _scores(found: Comparison) -> tuple[Block, ...]:
    levels = list(found.sides[0].quantiles())
    columns = (
        Column("model"), Column("neurons", "count"), Column("boosting", "count"), Column("suppressing", "count"),
        Column("contrast", "number", "sum of all scores, in logits"),
        *(Column(_quantile(level), "number") for level in levels),
    )  # fmt: skip
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            side.name,
            len(side.scores),
            int(side.scores.boosting.sum()),
            int(side.scores.suppressing.sum()),
            side.contrast,
            *side.quantiles().values(),
        )
        for side in found.sides
    )
    pictures = (
        _picture(
            "scores",
            comparison_plots.score_histograms,
            found,
            "Histogram of the boosting scores, as a share of each model's neurons.",
        ),
        _picture(
            "depth",
            comparison_plots.depth_curves,
            found,
            "Contrast of all neurons of each layer, in logits, against relative depth.",
        ),
    )
    return (
        Table("Number of neurons and quantiles of their boosting scores, in logits", columns, rows),
        Gallery(pictures),
        _by_layer(found),
    )


def _by_layer(found: Comparison) -> Table:
    columns = (
        Column("model"), Column("layer", "count"), Column("relative depth", "number"), Column("boosting", "count"),
        Column("suppressing", "count"), Column("contrast (logits)", "number"),
    )  # fmt: skip
    rows = tuple(
        (side.name, one["layer"], one["depth"], one["boosting"], one["suppressing"], one["contrast"])
        for side in found.sides
        for one in side.by_layer()
    )
    return Table("Neurons by layer; a relative depth of 1 is the last layer", columns, rows)


def _quantile(level: str) -> str:
    share = float(level)
    return "minimum" if share == 0 else "maximum" if share == 1 else f"{100 * share:g} %"


def _maps(found: Comparison) -> tuple[Block, ...]:
    cosines = [1.0 if found.sides[0].map.any() else None, *(pair.map_cosine for pair in found.pairs)]
    columns = (
        Column("model"), Column("contrast (logits)", "number"),
        Column("triangle", "number", "R² of the step alone"),
        Column("cosine with the first", "number"), Column("first three components", "text"),
    )  # fmt: skip
    rows = tuple(
        (side.name, side.contrast, side.triangle, cosine, _leading(side))
        for side, cosine in zip(found.sides, cosines, strict=True)
    )
    pictures = (
        _picture(
            "maps",
            comparison_plots.comparison_maps,
            found,
            "Sum of the effect maps of all compared neurons, centred over the years, on one colour scale.",
            wide=len(found.sides) > 2,
        ),
        _picture(
            "singular-values",
            comparison_plots.singular_values,
            found,
            "Share of each component of the singular value decomposition of the composed map.",
        ),
    )
    return (Table("Sum of the effect maps of all compared neurons", columns, rows), Gallery(pictures))


def _leading(side: Side) -> str:
    squares = side.singular_values**2
    total = squares.sum()
    return ", ".join(f"{share:.1%}" for share in squares[:3] / total) if total else "none"


def _clusters(found: Comparison) -> tuple[Block, ...]:
    matched = {(pair.name, match.kind): match for pair in found.pairs for match in pair.matches}
    columns = (
        Column("model"), Column("cluster"), Column("medoid"), Column("neurons", "count"),
        Column("contrast (logits)", "number"), Column("nearest cluster of the first"), Column("cosine", "number"),
    )  # fmt: skip
    rows = []
    for side in found.sides:
        for cluster in side.kinds:
            match = matched.get((side.name, cluster.id))
            nearest = (str(match.of_first), match.cosine) if match else ("", None)
            rows.append((side.name, str(cluster.id), cluster.medoid, cluster.size, cluster.share, *nearest))
    descriptions = [Text((f"{side.name} {c.id}: {c.description}.",)) for side in found.sides for c in side.kinds]
    if not rows:
        return (Text(("No clusters were found.",)),)
    return (Table("Clusters, and the cosine of their mean maps", columns, tuple(rows)), *descriptions)


def _neurons(found: Comparison, place: int) -> Section:
    pair, first, other = found.pairs[place], found.sides[0], found.sides[place + 1]
    title = f"Neurons of {first.name} and {other.name}"
    notes = tuple(Text((f"Note: {note}.",)) for note in pair.notes)
    if pair.neurons is None:
        return Section(title, notes)
    sharing = pair.neurons
    correlation = "undefined" if sharing.rank_correlation is None else number(sharing.rank_correlation, decimals=3)
    facts = Facts(
        (
            ("rank correlation of the shares", correlation),
            ("boosting in both", f"{len(sharing.both)} ({number(sharing.expected_both, decimals=1)} by chance)"),
            ("lost: boosting in the first alone", str(len(sharing.only_first))),
            ("gained: boosting in the second alone", str(len(sharing.only_second))),
            ("undecided", str(len(sharing.undecided))),
            (
                "median cosine of the readouts of neurons of equal index",
                "undefined" if pair.same_index is None else number(pair.same_index, decimals=3),
            ),
        )
    )
    picture = Picture(
        f"neurons-{place + 1}",
        partial(comparison_plots.score_scatter, first, other, pair),
        f"Scores of the neurons in both models; {len(sharing.only_first)} lost, {len(sharing.only_second)} gained.",
        "Boosting score of each neuron in both models, in logits; dashed: no change.",
    )
    return Section(title, (*notes, facts, Gallery((picture,)), _changed(first, other, pair)))


def _changed(first: Side, other: Side, pair: Pair) -> Table:
    assert pair.neurons is not None
    row_of = {neuron: row for row, neuron in enumerate(first.scores.neurons)}
    rows = [
        (name, str(neuron), float(first.scores.score[row_of[neuron]]), float(other.scores.score[row_of[neuron]]))
        for name, neurons in (("lost", pair.neurons.only_first), ("gained", pair.neurons.only_second))
        for neuron in neurons[:LISTED]
    ]
    columns = (Column("change"), Column("neuron"), Column("score in the first", "number"),
               Column("score in the second", "number"))  # fmt: skip
    return Table(f"Neurons lost and gained, at most {LISTED} of each: boosting scores in logits", columns, tuple(rows))


def _picture(
    name: str, draw: Callable[[Comparison], Figure], found: Comparison, caption: str, *, wide: bool = False
) -> Picture:
    return Picture(name, partial(draw, found), caption, caption, wide=wide)


def _all_numbers() -> Text:
    return Text(("All numbers of this page: ", FileLink("report.json", MARK), "."))


def _provenance(found: Comparison) -> Facts:
    return Facts(tuple((f"{side.name}, SHA-256", side.model_sha256) for side in found.sides))
