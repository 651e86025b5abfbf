"""The page of one neuron, made from its numbers alone."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurons.regression.tiling_results import Tiling
from neurons.report.blocks import (
    Block,
    Column,
    Facts,
    Gallery,
    Inline,
    Page,
    PageLink,
    Picture,
    Section,
    Table,
    number,
)
from neurons.report.figures import plots
from neurons.report.numbers import call_of
from neurons.report.pages.sections.place import curves_section, description_sections, place_sections
from neurons.report.pages.sections.specificity import lead_with
from neurons.report.pages.sections.weights import weight_sections
from neurons.task.years import N_YEARS

Numbers = Mapping[str, Any]


def neuron_key(name: str) -> str:
    return f"neurons/{name}"


def neuron_link(name: str, paged: frozenset[str]) -> PageLink | str:
    """A link where the neuron has a page, its name where it has none."""
    return PageLink(name, neuron_key(name)) if name in paged else name


def neuron_page(
    numbers: Numbers,
    start_years: Sequence[int],
    *,
    n_ranked: int,
    paged: frozenset[str],
    clustered: bool = False,
    whole: float | None = None,
    tiling: Tiling | None = None,
    routes: Sequence[Section] = (),
    added: Sequence[Section] = (),
    previous: str | None = None,
    following: str | None = None,
) -> Page:
    """numbers: of this neuron, by `neuron_numbers`; paged: the neurons that have a page in this report; clustered:
    whether the clusters have one. whole: what all neurons add to the probability difference. routes, added: sections of
    other analyses, before and after those of the ranking."""
    name = numbers["neuron"]
    return Page(
        key=neuron_key(name),
        title=name,
        lead=lead_with(numbers, _share(numbers, n_ranked, whole)),
        sections=(
            curves_section(numbers, start_years),
            *place_sections(numbers, tiling),
            *routes,
            *description_sections(numbers, start_years),
            Section("Share and direct effect", (_score(numbers, n_ranked, clustered),)),
            Section("Direct effect by start year and digit", (_effect_figures(numbers, start_years),)),
            *weight_sections(numbers),
            Section("Similar neurons", _similar(numbers, paged)),
            *added,
        ),
        previous=_link(previous),
        following=_link(following),
        data=numbers,
    )


def _share(numbers: Numbers, n_ranked: int, whole: float | None) -> str:
    """Share, interval and rank, in a sentence; empty without attribution."""
    share, rank = numbers["share"], f"rank {numbers['rank']:,} of {n_ranked:,}"
    if share is None:
        return ""
    interval = ""
    if numbers["ci_low"] is not None:
        interval = f" (95 % interval {number(numbers['ci_low'])} to {number(numbers['ci_high'])})"
    part = f", {number(100 * share / whole, decimals=1)} % of what all neurons of the layers add" if whole else ""
    return f"Share of the probability difference {number(share)}{interval}{part}; {rank}."


def _link(name: str | None) -> PageLink | None:
    return None if name is None else PageLink(name, neuron_key(name))


def _score(numbers: Numbers, n_ranked: int, clustered: bool) -> Facts:
    interval = "needs 2 centuries"
    if numbers["ci_low"] is not None:
        interval = f"{number(numbers['ci_low'])} to {number(numbers['ci_high'])}"
    entries: list[tuple[str, Inline]] = [
        ("share of the probability difference", _or_dash(numbers["share"])),
        ("95 % interval over centuries", interval),
        ("written share", _or_dash(numbers["written_share"])),
        ("share of the cutoff sharpness", _or_dash(numbers["sharpness_share"])),
        ("direct effect, year-specific", f"{number(numbers['year_specific'])} logits"),
        ("static part", f"{number(numbers['static'])} logits"),
        ("total effect, alone", _or_dash(numbers["total"])),
        ("tuning centre (peak)", _year(numbers["tuning_centre"])),
        ("readout edge", _year(numbers["readout_edge"])),
        ("rank", f"{numbers['rank']:,} of {n_ranked:,}"),
        ("verdict", call_of(numbers)),
    ]
    if numbers["fit"]:
        entries += [
            ("tuning", _family(numbers["fit"]["family"], numbers["fit"]["r2_cv"])),
            ("readout", _family(numbers["fit"]["readout_family"], numbers["fit"]["readout_r2_cv"])),
        ]
    if numbers["cluster"] is not None:
        name, page = f"cluster {numbers['cluster']}", f"clusters/cluster-{numbers['cluster']}"
        entries.append(("cluster", PageLink(name, page) if clustered else name))
    return Facts(tuple(entries))


def _or_dash(value: float | None) -> str:
    return "–" if value is None else number(value)


def _year(value: int | None) -> str:
    return "–" if value is None else f"{value:02d}"


def _family(family: str, r2: float | None) -> str:
    return family if r2 is None else f"{family}, held-out R² {number(r2, decimals=2)}"


def _effect_figures(numbers: Numbers, start_years: Sequence[int]) -> Gallery:
    name = numbers["neuron"]
    contrast = Picture(
        f"{name}-contrast",
        partial(
            plots.curve,
            start_years,
            np.array(numbers["contrast"]),
            *_band(numbers, "contrast"),
            xlabel=plots.START_YEAR,
            ylabel="contrast (logits)",
            band="95 % interval",
        ),
        f"Contrast of {name} by start year, {_range(numbers['contrast'])} logits.",
        "Contrast by start year: mean effect on the logits of the years after YY minus that on the others. Its mean"
        " over start years is the static and the year-specific part together.",
    )
    by_year = np.full(N_YEARS, np.nan)
    by_year[list(start_years)] = numbers["tuning"]
    digits = Picture(
        f"{name}-digits",
        partial(plots.digit_tables, by_year, np.array(numbers["readout"])),
        f"Activation and readout of {name} by tens and last digit.",
        "Tuning curve and readout by digit: rows are decades, columns last digits. Grey: not measured.",
    )
    return Gallery((contrast, _by_distance(name, numbers["by_distance"]), digits))


def _by_distance(name: str, numbers: Numbers) -> Picture:
    mean, sd = np.array(numbers["mean"]), np.array(numbers["sd"])
    return Picture(
        f"{name}-distance",
        partial(
            plots.curve,
            numbers["distance"],
            mean,
            mean - sd,
            mean + sd,
            xlabel="y − YY (years)",
            ylabel="effect (logits)",
            band="± 1 sd over start years",
            at=0,
        ),
        f"Mean effect of {name} against y − YY, {_range(numbers['mean'])} logits.",
        "Direct effect in logits against y − YY: mean and standard deviation over start years of the cells of the"
        " effect map at the same distance from the diagonal.",
    )


def _band(numbers: Numbers, what: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    low, high = numbers[f"{what}_low"], numbers[f"{what}_high"]
    return (None, None) if low is None else (np.array(low), np.array(high))


def _range(values: Sequence[float]) -> str:
    return f"from {number(min(values))} to {number(max(values))}"


SIMILAR = {"w_in": "by w_in", "w_out": "by w_out", "tuning": "by tuning", "readout": "by readout"}


def _similar(numbers: Numbers, paged: frozenset[str]) -> tuple[Block, ...]:
    similar = numbers["similar"]
    measures = [measure for measure in SIMILAR if measure in similar]
    rows = tuple(
        tuple(cell for one in row for cell in (neuron_link(one["neuron"], paged), one["cosine"]))
        for row in zip(*(similar[measure] for measure in measures), strict=True)
    )
    columns = tuple(c for measure in measures for c in (Column(SIMILAR[measure]), Column("cosine", "number")))
    caption = (
        "Nearest neurons of the cached layers by cosine similarity of the input weights (w_in), the output weights"
        " (w_out), the centred tuning curves, and the readouts centred over the years"
    )
    return (Table(caption, columns, rows),)
