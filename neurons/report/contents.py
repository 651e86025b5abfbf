"""What a report shows: results in, and how they become its pages.

Nothing is computed here. Results that were not asked for, and not kept from before, are None and have no page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurons.circuit.results import CircuitStudy
from neurons.clustering.results import Clustering
from neurons.comparison.results import Checks
from neurons.decomposition.effects import LogitEffects
from neurons.decomposition.ranking import Ranking
from neurons.intervention.results import Ablations
from neurons.regression.results import Composition
from neurons.report.blocks import Page, Section
from neurons.report.pages.causal import causal_page, removal_section
from neurons.report.pages.check import check_page
from neurons.report.pages.circuit import circuit_page, input_section
from neurons.report.pages.composition import cluster_pages, composition_page, kinds_section
from neurons.report.report import write_report
from neurons.report.weight_numbers import FromWeights
from neurons.types import FileFormat, NeuronId, Progress


@dataclass(frozen=True, eq=False)
class Contents:
    """The results of one study. neurons: those with a page; tokens: a prompt's tokens as words; seed: the study's."""

    effects: LogitEffects
    ranking: Ranking
    neurons: tuple[NeuronId, ...]
    clustering: Clustering
    composition: Composition
    weights: FromWeights
    tokens: tuple[str, ...]
    seed: int
    ablations: Ablations | None = None
    circuit: CircuitStudy | None = None
    checks: Checks | None = None


def write_contents(
    contents: Contents, *, folder: Path, command: str, figures: FileFormat | None, progress: Progress | None
) -> Path:
    """Write the report and return the path of its index; see `write_report`."""
    clustering, paged = contents.clustering, frozenset(map(str, contents.neurons))
    return write_report(
        contents.effects,
        contents.ranking,
        folder=folder,
        command=command,
        neurons=contents.neurons,
        extra=_pages(contents, paged),
        tuning=clustering.tuning,
        labels={
            "family": {fit.neuron: fit.tuning.family for fit in clustering.tuning.neurons},
            "cluster": {neuron: str(c.id) for c in clustering.clusters for neuron in c.members},
        },
        sections={neuron: _sections(contents, neuron) for neuron in contents.neurons},
        weights=contents.weights,
        summaries=(kinds_section(clustering, contents.composition, paged),),
        analyses=_analyses(contents),
        figures=figures,
        progress=progress,
    )


def _pages(contents: Contents, paged: frozenset[str]) -> list[Page]:
    pages = [composition_page(contents.composition), *cluster_pages(contents.clustering, paged)]
    if contents.ablations is not None:
        pages.insert(0, causal_page(contents.ablations, paged))
    if contents.circuit is not None:
        pages.append(circuit_page(contents.circuit, contents.tokens))
    if contents.checks is not None:
        pages.append(check_page(contents.checks))
    return pages


def _sections(contents: Contents, neuron: NeuronId) -> Sequence[Section]:
    """What interventions and the circuit add to a neuron's page."""
    removal = removal_section(contents.ablations, neuron) if contents.ablations else None
    explained = contents.circuit.inputs if contents.circuit else ()
    inputs = [input_section(one) for one in explained if one.neuron == neuron]
    return [*([removal] if removal else []), *inputs]


def _analyses(contents: Contents) -> dict[str, str]:
    """What was run beside the ranking, and how, for the page of provenance."""
    found = {
        "clusters and composition": f"seed {contents.seed}, from the cache alone",
        "vocabulary, prompts, controls, neighbours": "of the neurons with a page, from the weights",
    }
    if contents.ablations is not None:
        how = contents.ablations.effects.intervention
        found["causal"] = (
            f"{len(contents.ablations.effects.neurons):,} neurons, {how.ablation}-ablated at END; {how.effect} effect"
            f" on {contents.ablations.effects.n_prompts:,} prompts"
        )
    if contents.circuit is not None:
        found["circuit"] = f"path patching on {contents.circuit.evaluation.n_prompts:,} prompts"
    return found
