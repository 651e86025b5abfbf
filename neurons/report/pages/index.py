"""The index of a report: behaviour, contrast by layer, ranked neurons, prompts and reproduction."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurons.decomposition.effects import LogitEffects
from neurons.ranking.results import Ranking
from neurons.report.blocks import (
    INDEX,
    Block,
    Cell,
    Column,
    Gallery,
    Page,
    PageLink,
    Picture,
    Section,
    Table,
    Text,
    number,
)
from neurons.report.figures import model_plots, plots
from neurons.report.pages.provenance import citations, prompt_tables, reproduce, short_provenance, shown_years
from neurons.report.pages.ranking import called_claim, centred, neurons_section, positions_sections

RUNS = {
    "model": "clean run",
    "counterfactual": "corrupted run (YY replaced by 01)",
    "average_distribution": "average distribution",
}


def index_page(
    effects: LogitEffects,
    ranking: Ranking,
    numbers: Mapping[str, Any],
    *,
    lead: str,
    paged: Sequence[str],
    extra: Sequence[Page] = (),
    finding: Sequence[Section] = (),
    summaries: Sequence[Section] = (),
) -> Page:
    """numbers: as in report.json; lead: the finding in words; paged: neurons with a page, in rank order; extra: pages
    of other analyses; finding: the finding's figure; summaries: of the other analyses."""
    return Page(
        key=INDEX,
        title=numbers["model"],
        lead=lead,
        sections=(
            *finding,
            *_measured(effects, ranking, numbers, frozenset(paged), growth=not finding),
            *positions_sections(numbers.get("positions")),
            *summaries,
            *(
                [Section("Other analyses", tuple(_pointer(page) for page in extra if "/" not in page.key))]
                if extra
                else []
            ),
            Section("Prompts", prompt_tables(numbers["prompts"])),
            Section("Reproduction", (*reproduce(numbers["command"]), short_provenance(numbers))),
            Section("How to cite", citations(numbers["provenance"]["versions"]["neurons"])),
        ),
    )


def _measured(
    effects: LogitEffects, ranking: Ranking, numbers: Mapping[str, Any], paged: frozenset[str], *, growth: bool
) -> tuple[Section, ...]:
    """What the model does, in which layers, by which neurons."""
    behaviour, layers = numbers["behaviour"], numbers["layers"]
    neurons = neurons_section(effects, ranking, paged, numbers.get("orders"), growth=growth)
    return (
        Section("Greater-than behaviour", _behaviour(behaviour, effects.start_years), _behaviour_claim(behaviour)),
        Section("Contrast by layer", _layers(effects, layers), _layers_claim(layers)),
        Section("Boosting and suppressing neurons", neurons, called_claim(ranking, numbers["called"])),
    )


def _behaviour(behaviour: Mapping[str, Any], start_years: Sequence[int]) -> tuple[Block, ...]:
    picture = Picture(
        "behaviour",
        partial(plots.probability_map, np.array(behaviour["mean_probability"]), start_years),
        "Mean probability of each year after each start year, as a heat map with its diagonal.",
        "Mean probability of each year y (column) after each start year YY (row), under the softmax over the full"
        " vocabulary. Right of the dashed diagonal lie the years after YY. The colour scale is the square root"
        " of the probability, clipped at its 99th percentile.",
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple((shown, *_measures(behaviour[run])) for run, shown in RUNS.items())
    columns = (
        Column("answer of"),
        Column("probability difference", "number", "sum of p(y > YY) minus sum of p(y <= YY)"),
        Column("sd", "number", "over prompts"),
        Column("cutoff sharpness", "number", "p(YY + 1) minus p(YY - 1)"),
        Column("sd", "number", "over prompts"),
        Column("logit step", "number", "logit of YY + 1 minus logit of YY - 1"),
        Column("sd", "number", "over prompts"),
        Column("top 1", "number", "how often the most likely of the 100 years is later than YY"),
        Column("top 5", "number", "share of the 5 most likely years that are later than YY"),
    )
    caption = f"Means over {behaviour['n_prompts']:,} prompts, start years {shown_years(start_years)}"
    meaning = (
        "Probability difference: sum of p(y > YY) minus sum of p(y ≤ YY). Cutoff sharpness: p(YY + 1) minus p(YY − 1)."
        " Logit step: the same of their logits. Top k: share of the k most likely of the 100 years that are later than"
        " YY."
        " Neither the corrupted run nor the average distribution depends on YY; both are scored against the true YY."
    )
    return (Gallery((picture,)), Table(caption, columns, rows), Text((meaning,)))


def _behaviour_claim(behaviour: Mapping[str, Any]) -> str:
    mean = {run: behaviour[run]["probability_difference"]["mean"] for run in RUNS}
    sharp = behaviour["model"]["cutoff_sharpness"]["mean"]
    return (
        f"The probability of the years after the start year exceeds that of the others by {_three(mean['model'])}, with"
        f" a cutoff of {_three(sharp)}; in the corrupted run by {_three(mean['counterfactual'])}, in the average"
        f" distribution by {_three(mean['average_distribution'])}."
    )


def _layers_claim(layers: Mapping[str, Any]) -> str:
    parts = {part["name"]: part["contrast"] for part in layers["parts"]}
    whole = parts.pop("whole model", sum(parts.values()))
    first = max(parts, key=lambda name: parts[name])
    return f"{first} adds most to the mean contrast: {number(parts[first])} of {number(whole)} logits."


def _three(value: float) -> str:
    return number(value, decimals=3)


def _measures(run: Mapping[str, Mapping[str, float]]) -> tuple[float, ...]:
    spread = ("probability_difference", "cutoff_sharpness", "logit_step")
    both = [run[measure][kind] for measure in spread for kind in ("mean", "sd")]
    return (*both, run["top_1"]["mean"], run["top_5"]["mean"])


def _layers(effects: LogitEffects, layers: Mapping[str, Any]) -> tuple[Block, ...]:
    maps = {
        f"MLP {layer}": centred(effects.layer_map_array(layer) + effects.bias_map_array(layer))
        for layer in effects.layers
    }
    picture = Picture(
        "layer-maps",
        partial(plots.part_maps, maps, effects.start_years),
        "Effect maps of the cached MLPs on one colour scale.",
        "What each cached MLP adds to the logit of each year y (column) after each start year YY (row), centred over"
        " the years: red raises, blue lowers.",
        wide=len(maps) > 1,
    )
    rows = tuple((part["name"], part["contrast"], part["neurons"], part["bias"]) for part in layers["parts"])
    columns = (
        Column("part"),
        Column("contrast", "number"),
        Column("neurons", "number"),
        Column("output bias", "number"),
    )
    table = Table("Mean contrast in logits", columns, rows)
    return (Gallery(_layer_pictures(layers["parts"], effects.start_years)), Gallery((picture,)), table)


def _layer_pictures(parts: Sequence[Mapping[str, Any]], start_years: Sequence[int]) -> tuple[Picture, ...]:
    single = [part for part in parts if part["name"] != "whole model"]
    neurons = {part["name"]: part["neurons"] for part in single}
    biases = {part["name"]: part["bias"] for part in single}
    curves = {
        part["name"]: np.array(part["neurons_by_start_year"]) + np.array(part["bias_by_start_year"]) for part in single
    }
    shares = ", ".join(f"{part['name']} {number(part['contrast'])}" for part in single)
    bars = Picture(
        "layers",
        partial(model_plots.layer_bars, neurons, biases),
        f"Mean contrast of each part of the model in logits: {shares}.",
        "Mean contrast of each cached MLP, split into its neurons and its output bias, and of the rest of the model"
        " (embeddings, heads, other MLPs), in logits.",
    )
    by_start_year = Picture(
        "layers-by-start-year",
        partial(model_plots.layer_curves, curves, start_years),
        "Contrast of each part of the model by start year.",
        "Contrast of each part by start year, in logits.",
    )
    return bars, by_start_year


def _pointer(page: Page) -> Text:
    return Text((PageLink(page.title, page.key), f": {page.lead}"))
