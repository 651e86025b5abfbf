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
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from neurons.cache.format import Cache
from neurons.clustering.results import Tuning
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.ranking import COLUMNS, Ranking
from neurons.decomposition.significance import RESAMPLES
from neurons.report.blocks import INDEX, FileLink, Page, PageLink, Section
from neurons.report.explorer import EXPLORER, Labels, write_explorer
from neurons.report.folder import FORMAT, MARK, replacing_folder, write_json, write_text
from neurons.report.numbers import (
    NO_CLUSTERS,
    NOTHING_KEPT,
    behaviour_numbers,
    called_numbers,
    layer_numbers,
    neuron_numbers,
    prompt_numbers,
)
from neurons.report.pages.index import index_page
from neurons.report.pages.neuron import neuron_page
from neurons.report.pages.provenance import provenance_page, short_provenance
from neurons.report.render import Site, html_file, write_assets, write_page
from neurons.report.weight_numbers import FromWeights
from neurons.types import FileFormat, NeuronId, Progress

FORMAT_VERSION = 1
DIRECT_EFFECTS = "exact, in logits, through the final LayerNorm with its scale frozen; from the cache alone"
RANKING = f"boosting scores with {RESAMPLES:,} bootstrap resamples over nouns, and false discovery rate"
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
    weights: FromWeights = NOTHING_KEPT,
    summaries: Sequence[Section] = (),
    analyses: Mapping[str, str] = MappingProxyType({}),
    figures: FileFormat | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the report of one model and return the path of its index.

    folder: replaced when everything is written. command: how to make the report again, shown as it is.
    top: how many neurons get a page (`paged_neurons`); neurons: those that get one instead, in this order.
    extra: pages of other analyses. tuning: fits of the neurons with pages. labels: further columns of the
    explorer (family, cluster). sections: what other analyses add to a neuron's page. weights: what is known of
    the neurons from the model's weights. summaries: what other analyses add to the index. analyses: which were
    run and how, by name. figures: a format in which each figure is also kept for a paper, beside the pages' own
    SVG.

    Raises `InputError` for a neuron that is not ranked, `OutputError` when the folder cannot be written or
    holds something that is no report.
    """
    paged = tuple(dict.fromkeys(neurons)) or paged_neurons(ranking, top)
    clusters = (labels or {}).get("cluster", {})
    numbers = report_numbers(
        effects, ranking, paged, command=command, tuning=tuning, weights=weights, clusters=clusters, analyses=analyses
    )
    numbers["pages"] = {page.key: page.data for page in extra}
    linked = [*extra, provenance_page(numbers)]
    index = index_page(effects, ranking, numbers, paged=list(numbers["neurons"]), extra=linked, summaries=summaries)
    clustered = any(page.key.startswith("clusters/") for page in extra)
    pages = [index, *_neuron_pages(numbers, len(ranking), sections, clustered), *linked]
    site = _site(effects.cache, linked, figures)
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
    effects: LogitEffects,
    ranking: Ranking,
    neurons: Sequence[NeuronId],
    *,
    command: str,
    tuning: Tuning | None = None,
    weights: FromWeights = NOTHING_KEPT,
    clusters: Mapping[NeuronId, str] = NO_CLUSTERS,
    analyses: Mapping[str, str] = MappingProxyType({}),
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
        "called": called_numbers(ranking),
        "ranking": [ranking.record(row) for row in range(len(ranking))],
        "neurons": neuron_numbers(effects, ranking, neurons, tuning=tuning, weights=weights, clusters=clusters),
        "provenance": provenance(effects.cache, analyses),
    }


def provenance(cache: Cache, analyses: Mapping[str, str]) -> dict[str, Any]:
    """Where the numbers come from: checkpoint, prompts, cache, analyses, versions of what built the cache and of what
    drew the pages. cache_written: the file's own time, in UTC."""
    drawn_by = {name: importlib.metadata.version(name) for name in ("neurons", "numpy", "scipy", "matplotlib")}
    return {
        "model": cache.model,
        "model_sha256": cache.model_sha256,
        "layers": list(cache.layers),
        "prompts_sha256": cache.prompts_sha256,
        "cache_key": cache.key,
        "cache_file": cache.path.name,
        "cache_written": _written(cache.path),
        "analyses": {"direct effects": DIRECT_EFFECTS, "ranking": RANKING, **analyses},
        "versions": dict(sorted((cache.versions | drawn_by).items())),
    }


def _written(file: Path) -> str | None:
    try:
        return datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except OSError:
        return None


def _neuron_pages(
    numbers: Mapping[str, Any], n_ranked: int, sections: Mapping[NeuronId, Sequence[Section]], clustered: bool
) -> Iterator[Page]:
    names = list(numbers["neurons"])
    last = Section("Provenance", (short_provenance(numbers),))
    for place, name in enumerate(names):
        page = neuron_page(
            numbers["neurons"][name],
            numbers["start_years"],
            n_ranked=n_ranked,
            paged=frozenset(names),
            clustered=clustered,
            previous=names[place - 1] if place else None,
            following=names[place + 1] if place + 1 < len(names) else None,
        )
        yield replace(page, sections=(*page.sections, *sections.get(NeuronId.parse(name), ()), last))


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
