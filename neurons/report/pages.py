"""The report folder: numbers, then pages, then files.

1. All numbers are gathered from the cache file (`numbers.py`); no model is needed and torch is not loaded.
2. Pages are made from the numbers (`index_page.py`, `neuron_page.py`); other analyses hand over theirs.
3. Everything is written into a folder beside the old report and swapped in (`folder.py`).

The same inputs give the same bytes in all text files: no page says when it was written.
"""

import csv
import importlib.metadata
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from neurons.analysis.effects import LogitEffects
from neurons.analysis.ranking import COLUMNS, Ranking
from neurons.analysis.tuning import Tuning
from neurons.cache.format import Cache
from neurons.report.blocks import INDEX, FileLink, Page, PageLink, Section
from neurons.report.explorer import EXPLORER, Labels, write_explorer
from neurons.report.folder import FORMAT, MARK, replacing_folder, write_json, write_text
from neurons.report.index_page import index_page
from neurons.report.neuron_page import neuron_page
from neurons.report.numbers import behaviour_numbers, layer_numbers, neuron_numbers, prompt_numbers
from neurons.report.plots import FileFormat
from neurons.report.render import Site, html_file, write_assets, write_page
from neurons.types import NeuronId, Progress

FORMAT_VERSION = 1
SUPPRESSING_SHARE = 4
"""One page in this many is kept for the strongest suppressing neurons."""


def write_report(
    effects: LogitEffects,
    ranking: Ranking,
    *,
    folder: Path,
    command: str,
    top: int = 24,
    neurons: Sequence[NeuronId] = (),
    extra: Sequence[Page] = (),
    tuning: Tuning | None = None,
    labels: Labels | None = None,
    sections: Mapping[NeuronId, Sequence[Section]] = MappingProxyType({}),
    figures: FileFormat | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the report of one model and return the path of its index.

    folder: replaced when everything is written. command: how to make the report again, shown as it is.
    top: how many neurons get a page (`paged_neurons`); neurons: those that get one instead, in this order.
    extra: pages of other analyses. tuning: fits of the neurons with pages. labels: further columns of the
    explorer (family, cluster). sections: what other analyses add to a neuron's page. figures: a format in
    which each figure is also kept for a paper, beside the pages' own SVG.

    Raises `InputError` for a neuron that is not ranked, `OutputError` when the folder cannot be written or
    holds something that is no report.
    """
    paged = tuple(dict.fromkeys(neurons)) or paged_neurons(ranking, top)
    numbers = report_numbers(effects, ranking, paged, command=command, tuning=tuning)
    numbers["pages"] = {page.key: page.data for page in extra}
    index = index_page(effects, ranking, numbers, paged=list(numbers["neurons"]), extra=extra)
    pages = [index, *_neuron_pages(numbers, len(ranking), sections), *extra]
    site = _site(effects.cache, extra, figures)
    with replacing_folder(folder) as fresh:
        write_assets(fresh)
        for done, page in enumerate(pages):
            write_page(page, site, fresh)
            if progress:
                progress(done + 1, len(pages))
        write_explorer(effects, ranking, fresh / EXPLORER, site=site, labels=labels)
        write_text(fresh / "ranking.csv", ranking_csv(ranking))
        write_json(fresh / MARK, numbers)
    return folder / html_file(INDEX)


def paged_neurons(ranking: Ranking, top: int) -> tuple[NeuronId, ...]:
    """The `top` neurons that get a page, in rank order: the first in rank, and the strongest suppressing ones."""
    mirrored = ranking.suppressing_neurons()[: top // SUPPRESSING_SHARE]
    first = ranking.neurons[: top - len(mirrored)]
    chosen = dict.fromkeys([*first, *mirrored[::-1]])
    return tuple(chosen)


def report_numbers(
    effects: LogitEffects, ranking: Ranking, neurons: Sequence[NeuronId], *, command: str, tuning: Tuning | None = None
) -> dict[str, Any]:
    """Every number of the report, as `report.json` holds them."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": effects.cache.model,
        "command": command,
        "start_years": list(effects.start_years),
        "prompts": prompt_numbers(effects.cache),
        "behaviour": behaviour_numbers(effects),
        "layers": layer_numbers(effects),
        "ranking": [ranking.record(row) for row in range(len(ranking))],
        "neurons": neuron_numbers(effects, ranking, neurons, tuning=tuning),
        "provenance": provenance(effects.cache),
    }


def provenance(cache: Cache) -> dict[str, Any]:
    """Where the numbers come from: checkpoint, cache, versions of what built the cache and of what drew the pages."""
    drawn_by = {name: importlib.metadata.version(name) for name in ("neurons", "numpy", "scipy", "matplotlib")}
    return {
        "model": cache.model,
        "model_sha256": cache.model_sha256,
        "cache_key": cache.key,
        "versions": dict(sorted((cache.versions | drawn_by).items())),
    }


def _neuron_pages(
    numbers: Mapping[str, Any], n_ranked: int, sections: Mapping[NeuronId, Sequence[Section]]
) -> Iterator[Page]:
    names = list(numbers["neurons"])
    for place, name in enumerate(names):
        page = neuron_page(
            numbers["neurons"][name],
            numbers["start_years"],
            n_ranked=n_ranked,
            paged=frozenset(names),
            previous=names[place - 1] if place else None,
            following=names[place + 1] if place + 1 < len(names) else None,
        )
        yield replace(page, sections=(*page.sections, *sections.get(NeuronId.parse(name), ())))


def _site(cache: Cache, extra: Sequence[Page], figures: FileFormat | None) -> Site:
    return Site(
        model=cache.model,
        footer=f"{cache.model}, checkpoint {cache.model_sha256[:12]}, {len(cache):,} prompts, neurons"
        f" {importlib.metadata.version('neurons')}",
        navigation=(
            FileLink("Explorer", EXPLORER),
            *(PageLink(page.title, page.key) for page in extra if "/" not in page.key),
        ),
        figures=figures,
    )


def ranking_csv(ranking: Ranking) -> str:
    """Every ranked neuron, a line each, columns as in the JSON of `neurons rank`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(ranking.record(row) for row in range(len(ranking)))
    return out.getvalue()
