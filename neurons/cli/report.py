"""`neurons report`: the main job, everything known of a model in one folder.

1. The cache is opened, or built. 2. Neurons are ranked, clustered and composed, from the cache alone.
3. What the paged neurons' weights say is found with one load of the model, and kept beside the cache.
4. Interventions, the circuit and the published checks are shown where they were kept beside the cache (`--causal`,
`--circuit` and `neurons check` make them, with the model).
5. Pages are written. What was computed is kept, so a second report only writes pages.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurons.cache.format import Cache
from neurons.cli.causal import kept_ablations, run_ablations
from neurons.cli.check import kept_checks
from neurons.cli.circuit import kept_study, prompt_tokens, run_study
from neurons.cli.common import REPORT_DIR, ReportDirOption, note, open_measured, progress_bar
from neurons.cli.compose import kept_kinds
from neurons.cli.from_weights import find_weights
from neurons.cli.request import Request, with_request
from neurons.report.folder import reported_checkpoint
from neurons.types import InputError, NeuronId

if TYPE_CHECKING:
    from neurons.circuit.results import Study
    from neurons.intervention.results import Ablations
    from neurons.report.blocks import Section

FIGURES = ("svg", "pdf", "png")


def register(app: typer.Typer) -> None:
    app.command()(report)


@with_request()
def report(
    asked: Request,
    report_dir: ReportDirOption = REPORT_DIR,
    top: Annotated[int, typer.Option("--top", min=1, help="Neurons that get a page of their own.")] = 24,
    causal: Annotated[
        bool,
        typer.Option(
            "--causal", help="Remove neurons, groups and layers too (runs the model); kept for later reports."
        ),
    ] = False,
    circuit: Annotated[
        bool, typer.Option("--circuit", help="Find the circuit around the neurons too (runs the model); kept as well.")
    ] = False,
    figures: Annotated[
        str | None, typer.Option("--figures", help="Keep each figure for a paper too: pdf, svg or png.")
    ] = None,
) -> None:
    """The main job: behaviour, ranking, kinds, composition, figures and a page for each of the top neurons."""
    if figures is not None and figures not in FIGURES:
        raise InputError(f"--figures {figures!r} is unknown: choose {', '.join(FIGURES)}")
    folder = _folder(report_dir / asked.folder_name, asked)
    cache = open_measured(asked)
    ablations = run_ablations(cache, asked) if causal else kept_ablations(cache, asked)
    study = kept_study(cache, asked)
    if study is None and circuit:
        study = run_study(cache, asked)
    index = _write(cache, asked, folder, top=top, ablations=ablations, study=study, figures=figures)
    print(f"The report is in {index}")


def _write(
    cache: Cache,
    asked: Request,
    folder: Path,
    *,
    top: int,
    ablations: "Ablations | None",
    study: "Study | None",
    figures: str | None,
) -> Path:
    from neurons.decomposition.effects import logit_effects
    from neurons.decomposition.ranking import rank
    from neurons.report.pages.causal import causal_page
    from neurons.report.pages.check import check_page
    from neurons.report.pages.circuit import circuit_page
    from neurons.report.pages.composition import cluster_pages, composition_page, kinds_section
    from neurons.report.report import paged_neurons, write_report

    effects = logit_effects(cache, years=asked.years)
    ranking = rank(effects, seed=asked.seed)
    clustering, composition = kept_kinds(effects, ranking, asked)
    chosen = paged_neurons(ranking, top)
    paged = frozenset(map(str, chosen))
    extra = [composition_page(composition), *cluster_pages(clustering, paged)]
    if ablations is not None:
        extra.insert(0, causal_page(ablations, paged))
    if study is not None:
        extra.append(circuit_page(study, prompt_tokens(asked)))
    checks = kept_checks(cache, asked)
    if checks is not None:
        extra.append(check_page(checks))
    labels: dict[str, dict[NeuronId, str]] = {
        "family": {fit.neuron: fit.tuning.family for fit in clustering.tuning.neurons},
        "cluster": {neuron: str(c.id) for c in clustering.clusters for neuron in c.members},
    }
    with progress_bar("writing the report") as progress:
        index = write_report(
            effects,
            ranking,
            folder=folder,
            command=_command(causal=ablations is not None, circuit=study is not None),
            top=top,
            extra=extra,
            tuning=clustering.tuning,
            labels=labels,
            sections={neuron: _sections(neuron, ablations, study) for neuron in chosen},
            weights=find_weights(cache, asked, chosen),
            summaries=(kinds_section(clustering, composition, paged),),
            analyses=_analyses(asked, ablations, study),
            figures=figures,  # type: ignore[arg-type]
            progress=progress,
        )
    print(f"{len(ranking.boosting_neurons())} of {len(ranking)} neurons raise the years after the start year.")
    return index


def _folder(named: Path, asked: Request) -> Path:
    """The folder of that name, or one with the checkpoint's hash where the report of another checkpoint has it."""
    fingerprint = asked.checkpoint.fingerprint
    if reported_checkpoint(named) in {None, fingerprint}:
        return named
    own = named.with_name(f"{named.name}-{fingerprint[:6]}")
    note(f"{named} is the report of another checkpoint: this one goes to {own}")
    return own


def _command(*, causal: bool, circuit: bool) -> str:
    """What makes this report from nothing: the command given, and the options for what was kept from before."""
    words = ["neurons", *sys.argv[1:]]
    shown = {"--causal": causal, "--circuit": circuit}
    return shlex.join([*words, *(option for option, is_shown in shown.items() if is_shown and option not in words)])


def _sections(neuron: NeuronId, ablations: "Ablations | None", study: "Study | None") -> "list[Section]":
    """What interventions and the circuit add to a neuron's page."""
    from neurons.report.pages.causal import removal_section
    from neurons.report.pages.circuit import input_section

    removal = removal_section(ablations, neuron) if ablations else None
    inputs = [input_section(one) for one in study.inputs if one.neuron == neuron] if study else []
    return [*([removal] if removal else []), *inputs]


def _analyses(asked: Request, ablations: "Ablations | None", study: "Study | None") -> dict[str, str]:
    """What was run beside the ranking, and how, for the page of provenance."""
    told = {
        "clusters and composition": f"seed {asked.seed}, from the cache alone",
        "vocabulary, prompts, controls, neighbours": "of the neurons with a page, from the weights",
    }
    if ablations is not None:
        how = ablations.effects.intervention
        told["causal"] = (
            f"{len(ablations.effects.neurons):,} neurons, {how.ablation}-ablated at END; {how.effect} effect on"
            f" {ablations.effects.n_prompts:,} prompts"
        )
    if study is not None:
        told["circuit"] = f"path patching on {study.evaluation.n_prompts:,} prompts"
    return told
