"""The index of a report: what the model does, which layers and which neurons do it, and how to get there again."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from neurons.analysis.effects import LogitEffects
from neurons.analysis.ranking import Ranking
from neurons.report import model_plots, plots
from neurons.report.blocks import (
    INDEX,
    Block,
    Code,
    Column,
    Facts,
    FileLink,
    Gallery,
    Inline,
    Page,
    PageLink,
    Picture,
    Section,
    Table,
    Text,
    number,
)
from neurons.report.ranking_section import centred, neurons_section

RUNS = {
    "model": "model",
    "counterfactual": "01-run (YY replaced by 01)",
    "average_distribution": "average distribution",
}


def index_page(
    effects: LogitEffects,
    ranking: Ranking,
    numbers: Mapping[str, Any],
    *,
    paged: Sequence[str],
    extra: Sequence[Page] = (),
) -> Page:
    """numbers: as in report.json; paged: neurons with a page, in rank order; extra: pages of other analyses."""
    return Page(
        key=INDEX,
        title=numbers["model"],
        lead=_lead(ranking, numbers),
        sections=(
            Section("What the model does", _behaviour(numbers["behaviour"], effects.start_years)),
            Section("Which layers matter", _layers(effects, numbers["layers"])),
            Section("Which neurons", neurons_section(effects, ranking, frozenset(paged))),
            *([Section("More", tuple(_pointer(page) for page in extra if "/" not in page.key))] if extra else []),
            Section("Prompts", _prompts(numbers["prompts"])),
            Section("How to reproduce", _reproduce(numbers["command"])),
            Section("Provenance", (_provenance(numbers["provenance"]),)),
        ),
    )


def _lead(ranking: Ranking, numbers: Mapping[str, Any]) -> str:
    difference = numbers["behaviour"]["model"]["probability_difference"]["mean"]
    boosting, suppressing = int(ranking.boosting.sum()), int(ranking.suppressing.sum())
    return (
        f"Which MLP neurons raise the years after the start year? Of {len(ranking):,} neurons in layers"
        f" {', '.join(map(str, ranking.layers))}, {boosting:,} boost and {suppressing:,} suppress them. The model puts"
        f" {number(difference)} more probability on the later years than on the others."
    )


def _behaviour(behaviour: Mapping[str, Any], start_years: Sequence[int]) -> tuple[Block, ...]:
    picture = Picture(
        "behaviour",
        partial(plots.probability_map, np.array(behaviour["mean_probability"]), start_years),
        "Mean probability of each year after each start year, as a heat map with its diagonal.",
        "Mean probability of each year y (column) after each start year YY (row), under the softmax over the full"
        " vocabulary. Right of the dashed diagonal lie the years after YY. Colours go by the square root and end at"
        " the 99th percentile.",
    )
    rows = tuple(
        (
            shown,
            behaviour[run]["probability_difference"]["mean"],
            behaviour[run]["probability_difference"]["sd"],
            behaviour[run]["cutoff_sharpness"]["mean"],
            behaviour[run]["cutoff_sharpness"]["sd"],
        )
        for run, shown in RUNS.items()
    )
    columns = (
        Column(""),
        Column("probability difference", "number", "sum of p(y > YY) minus sum of p(y <= YY)"),
        Column("sd", "number", "over prompts"),
        Column("cutoff sharpness", "number", "p(YY + 1) minus p(YY - 1)"),
        Column("sd", "number", "over prompts"),
    )
    caption = f"Means over {behaviour['n_prompts']:,} prompts, start years {_years(start_years)}"
    meaning = (
        "Probability difference: sum of p(y > YY) minus sum of p(y ≤ YY). Cutoff sharpness: p(YY + 1) minus p(YY − 1)."
        " The 01-run and the average distribution do not know YY; both are scored against the true YY."
    )
    return (Gallery((picture,)), Table(caption, columns, rows), Text((meaning,)))


def _years(years: Sequence[int]) -> str:
    """`02-31, 33-98`: runs of consecutive years."""
    runs = [[year for _, year in run] for _, run in groupby(enumerate(years), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]:02d}" if len(run) == 1 else f"{run[0]:02d}–{run[-1]:02d}" for run in runs)


def _layers(effects: LogitEffects, layers: Mapping[str, Any]) -> tuple[Block, ...]:
    parts = layers["parts"]
    single = [part for part in parts if part["name"] != "whole model"]
    neurons = {part["name"]: part["neurons"] for part in single}
    biases = {part["name"]: part["bias"] for part in single}
    curves = {
        part["name"]: np.array(part["neurons_by_start_year"]) + np.array(part["bias_by_start_year"]) for part in single
    }
    maps = {f"MLP {layer}": centred(effects.layer_map(layer) + effects.bias_map(layer)) for layer in effects.layers}
    shares = ", ".join(f"{part['name']} {number(part['contrast'])}" for part in single)
    gallery = Gallery(
        (
            Picture(
                "layers",
                partial(model_plots.layer_bars, neurons, biases),
                f"Mean contrast of each part of the model in logits: {shares}.",
                "Mean contrast of each cached MLP, split into its neurons and its output bias, and of the rest of the"
                " model (embeddings, heads, other MLPs).",
            ),
            Picture(
                "layers-by-start-year",
                partial(model_plots.layer_curves, curves, effects.start_years),
                "Contrast of each part of the model by start year.",
                "The same by start year.",
            ),
        )
    )
    wide = Gallery(
        (
            Picture(
                "layer-maps",
                partial(plots.part_maps, maps, effects.start_years),
                "Effect maps of the cached MLPs on one colour scale.",
                "What each cached MLP adds to the logits of the years, centred over the years: red raises, blue"
                " lowers.",
                wide=True,
            ),
        )
    )
    rows = tuple((part["name"], part["contrast"], part["neurons"], part["bias"]) for part in parts)
    columns = (Column(""), Column("contrast", "number"), Column("neurons", "number"), Column("output bias", "number"))
    return (gallery, wide, Table("Mean contrast in logits", columns, rows))


def _pointer(page: Page) -> Text:
    return Text((PageLink(page.title, page.key), f": {page.lead}"))


def _prompts(prompts: Mapping[str, Any]) -> tuple[Block, ...]:
    nouns = groupby(sorted(prompts["nouns"], key=lambda pair: pair["century"]), key=lambda pair: pair["century"])
    words = {century: ", ".join(pair["noun"] for pair in pairs) for century, pairs in nouns}
    rows = tuple(
        (
            cell["century"],
            words[cell["century"]],
            cell["start_years"],
            _years(cell["missing"]) or "none",
            cell["reason"] or "",
        )
        for cell in prompts["centuries"]
    )
    columns = (
        Column("XX", "count"),
        Column("nouns"),
        Column("start years", "count"),
        Column("YY left out"),
        Column("because, for example"),
    )
    template: Inline = f"{prompts['n_prompts']:,} prompts of the form “{prompts['template']}”."
    return (Text((template,)), Table("Centuries, their nouns and the start years left out", columns, rows))


def _reproduce(command: str) -> tuple[Block, ...]:
    numbers = Text(("Every number of these pages: ", FileLink("report.json", "report.json"), "."))
    return (Code(command), numbers)


def _provenance(provenance: Mapping[str, Any]) -> Facts:
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    return Facts(
        (
            ("model", provenance["model"]),
            ("checkpoint, SHA-256", provenance["model_sha256"]),
            ("cache key, SHA-256", provenance["cache_key"]),
            ("versions", versions),
        )
    )
