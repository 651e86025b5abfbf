"""Write the report of one model: pages in HTML and Markdown, figures, `report.json` and `ranking.csv`.

1. The numbers of the pages are gathered (`Contents.numbers`); no model is needed and torch is not loaded.
2. Pages are made from the numbers and from the results of single analyses (`pages/`).
3. Everything is written into a folder beside the old report and swapped in (`folder.py`).

The same inputs give the same bytes in all text files: no page says when it was written.
"""

import csv
import importlib.metadata
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurons.ranking.results import COLUMNS, Ranking
from neurons.report.blocks import INDEX, FileLink, Page, PageLink, Section
from neurons.report.contents import Contents
from neurons.report.drawing import draw_pictures
from neurons.report.explorer import write_explorer
from neurons.report.folder import MARK, replacing_folder, write_json, write_text
from neurons.report.pages.causal import ablation_section, causal_page
from neurons.report.pages.circuit import circuit_page, input_section
from neurons.report.pages.composition.clusters import cluster_pages, clusters_section
from neurons.report.pages.composition.composed import composition_page, tiling_section
from neurons.report.pages.finding import MAIN, in_words
from neurons.report.pages.index import index_page
from neurons.report.pages.limits import with_limits
from neurons.report.pages.neuron import neuron_page
from neurons.report.pages.provenance import check_page, provenance_page, short_provenance
from neurons.report.pages.sections.routes import neuron_routes, route_sections
from neurons.report.pages.sections.specificity import specificity_sections
from neurons.report.pages.sets import sets_sections
from neurons.report.render import EXPLORER, Site, html_file, write_assets, write_page
from neurons.types import FileFormat, NeuronId, Progress


def write_report(
    contents: Contents,
    *,
    folder: Path,
    command: str,
    figures: FileFormat | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the report of one study and return the path of its index.

    folder: replaced when everything is written. command: how to make the report again, shown as it is. figures: a
    format in which each figure is also kept for a paper, beside the pages' own SVG.

    Raises `InputError` for a neuron that is not ranked, `OutputError` when the folder cannot be written or
    holds something that is no report.
    """
    linked = _analysis_pages(contents)
    numbers = contents.numbers(command) | {"pages": {page.key: page.data for page in linked}}
    pages = [with_limits(page) for page in _pages(contents, numbers, [*linked, provenance_page(numbers)])]
    site = _site(contents, pages)
    with replacing_folder(folder) as fresh:
        write_assets(fresh)
        draw_pictures(pages, fresh, before=folder, figures=figures, progress=progress)
        for page in pages:
            write_page(page, site, fresh)
        write_explorer(contents.effects, contents.ranking, fresh / EXPLORER, site=site, labels=contents.labels)
        write_text(fresh / "ranking.csv", ranking_csv(contents.ranking))
        write_json(fresh / MARK, numbers)
    return folder / html_file(INDEX)


def _analysis_pages(contents: Contents) -> list[Page]:
    pages = []
    if contents.ablations is not None:
        pages.append(causal_page(contents.ablations, contents.paged))
    if contents.composition is not None:
        page = composition_page(contents.composition, contents.tiling, contents.faithfulness, contents.paged)
        pages.append(_with_routes(page, contents))
    if contents.clustering is not None:
        pages += cluster_pages(contents.clustering, contents.paged)
    if contents.circuit is not None:
        pages.append(circuit_page(contents.circuit, contents.tokens))
    if contents.checks is not None:
        pages.append(check_page(contents.checks))
    return pages


def _with_routes(page: Page, contents: Contents) -> Page:
    """The page of composition with the routes to the answer, where they were followed."""
    found, ranking = contents.routes, contents.ranking
    if found is None:
        return page
    centres = [float(ranking.tuning_centre[ranking.row_of(neuron)]) for neuron in found.share.neurons]
    sections = (*page.sections, *route_sections(found, centres, contents.paged))
    return replace(page, sections=sections, data={**page.data, "routes": found.to_json()})


def _pages(contents: Contents, numbers: Mapping[str, Any], linked: Sequence[Page]) -> list[Page]:
    """The index, a page for each neuron, and the pages that they link."""
    summaries = sets_sections(contents.sets, contents.elsewhere, contents.interchange, contents.masks, contents.paged)
    if contents.clustering is not None and contents.composition is not None:
        summaries += (clusters_section(contents.clustering, contents.composition, contents.paged),)
    finding: tuple[Section, ...] = ()
    if contents.composition is not None and contents.tiling is not None and len(contents.tiling):
        finding = (tiling_section(contents.composition, contents.tiling),)
    index = index_page(
        contents.effects,
        contents.ranking,
        numbers,
        lead=in_words(contents.ranking, numbers, contents.tiling, contents.faithfulness),
        paged=list(numbers["neurons"]),
        extra=linked,
        finding=finding,
        summaries=summaries,
    )
    return [index, *_neuron_pages(contents, numbers), *linked]


def _neuron_pages(contents: Contents, numbers: Mapping[str, Any]) -> Iterator[Page]:
    names, answer = list(numbers["neurons"]), contents.ranking.answer
    last = Section("Provenance", (short_provenance(numbers),))
    for place, name in enumerate(names):
        one = numbers["neurons"][name]
        yield neuron_page(
            one,
            numbers["start_years"],
            n_ranked=len(contents.ranking),
            paged=contents.paged,
            clustered=contents.clustering is not None,
            whole=None if answer is None else answer.clean[MAIN] - answer.floor[MAIN],
            tiling=contents.tiling,
            routes=neuron_routes(one, contents.paged),
            added=(*specificity_sections(one), *_added(contents, NeuronId.parse(name)), last),
            previous=names[place - 1] if place else None,
            following=names[place + 1] if place + 1 < len(names) else None,
        )


def _added(contents: Contents, neuron: NeuronId) -> list[Section]:
    """What interventions and the circuit add to a neuron's page."""
    ablation = ablation_section(contents.ablations, neuron) if contents.ablations else None
    explained = contents.circuit.inputs if contents.circuit else ()
    inputs = [input_section(one) for one in explained if one.neuron == neuron]
    return [*([ablation] if ablation else []), *inputs]


def _site(contents: Contents, pages: Sequence[Page]) -> Site:
    cache = contents.cache
    return Site(
        model=cache.model,
        footer=f"{cache.model}, checkpoint {cache.model_sha256[:12]}, {len(cache):,} prompts, neurons"
        f" {importlib.metadata.version('neurons')}",
        navigation=(
            FileLink("Explorer", EXPLORER),
            *(PageLink(page.title, page.key) for page in pages if "/" not in page.key and page.key != INDEX),
        ),
        about=contents.about,
        layers=contents.effects.layers,
        paged=contents.paged,
    )


def ranking_csv(ranking: Ranking) -> str:
    """Every ranked neuron, a line each, columns as in the JSON of `neurons rank`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(ranking.record(row) for row in range(len(ranking)))
    return out.getvalue()
