"""Commands on a model and its neurons: `report`, `behaviour`, `rank`, `effect`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cache.format import format_layers
from neurons.cli.common import REPORT_DIR, JsonOption, ReportDirOption, print_json, print_table
from neurons.cli.options import on_study
from neurons.ranking.results import Order
from neurons.study.study import Study
from neurons.task.years import contrast_weights, spans
from neurons.types import FileFormat, InputError, NeuronId

if TYPE_CHECKING:
    from neurons.ranking.results import Ranking
    from neurons.weights.results import NeuronStatistics

SHAPLEY = 50
"""Neurons whose Shapley values are sampled."""

YearOption = Annotated[
    int | None, typer.Option("--year", help="Rank for one start year: which neurons boost year > YY.")
]
OrderOption = Annotated[
    Order | None,
    typer.Option("--order", help="Order by this.", show_default="attribution; direct with --no-attribution"),
]
TopOption = Annotated[
    int | None, typer.Option("--top", min=1, help="Only the first K.", show_default="20; all with --json")
]
StatsOption = Annotated[
    bool,
    typer.Option("--stats", help="Also statistics of each neuron over the vocabulary (loads the model once; kept)."),
]
ShapleyOption = Annotated[
    bool, typer.Option("--shapley", help="Also sampled Shapley values of the first 50 neurons (runs the model).")
]
ApproximationsOption = Annotated[
    bool,
    typer.Option("--approximations", help="Also compare shares with their approximations (runs the model once; kept)."),
]
SetsOption = Annotated[
    bool, typer.Option("--sets", help="Also what sets of the first neurons do: how many are enough, for what (kept).")
]
MasksOption = Annotated[
    bool,
    typer.Option("--masks", help="Also learn masks by gradient, from several seeds: is the set unique? (slow; kept)"),
]

TextOption = Annotated[
    Path | None,
    typer.Option(
        "--text",
        exists=True,
        dir_okay=False,
        help="A UTF-8 text: do the neurons with a page fire on years, or on much else? (kept)",
    ),
]


def register(app: typer.Typer) -> None:
    for command in (report, behaviour, rank, effect):
        app.command()(command)


@on_study()
def report(
    study: Study,
    report_dir: ReportDirOption = REPORT_DIR,
    top: Annotated[int, typer.Option("--top", min=1, help="Neurons with a page.")] = 24,
    causal: Annotated[
        bool,
        typer.Option("--causal", help="Include ablations and sets (runs the model); kept for later reports."),
    ] = False,
    circuit: Annotated[
        bool, typer.Option("--circuit", help="Include the circuit (runs the model); kept for later reports.")
    ] = False,
    text: TextOption = None,
    figures: Annotated[
        FileFormat | None, typer.Option("--figures", help="Also write each figure for a paper, numbered.")
    ] = None,
) -> None:
    """Write the report: ranking, clusters, composition.

    With a page for each of the top neurons.
    """
    index = study.report(
        report_dir,
        top=top,
        causal=causal,
        circuit=circuit,
        text=text,
        figures=figures,
        command=_command(study, causal, circuit),
    )
    ranking = study.ranking()
    print(f"{len(ranking.boosting_neurons())} of {len(ranking)} neurons raise the years after the start year.")
    print(f"The report is in {index}")


def _command(study: Study, causal: bool, circuit: bool) -> str:
    """What makes this report from nothing: the command given, and the options for what was kept from before."""
    words = ["neurons", *sys.argv[1:]]
    shown = {
        "--causal": causal or study.kept("ablations") or study.kept("sets"),
        "--circuit": circuit or study.kept("circuit"),
    }
    return shlex.join([*words, *(option for option, is_shown in shown.items() if is_shown and option not in words)])


@on_study("no_attribution")
def behaviour(
    study: Study,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Also with the MLPs of --layers resample-ablated (loads the model)."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how far the model answers with a later year.

    Probability difference, cutoff sharpness, logit step and accuracy. Beside the clean run: the corrupted run and the
    average distribution over start years.
    """
    found = study.behaviour(resample=resample)
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        [name.replace("_", " "), *(_mean_and_sd(summary) for summary in value.values())]
        for name, value in found.summaries().items()
    ]
    title = f"{found.model}: {found.n_prompts} prompts, start years {spans(found.start_years)}"
    late = (
        f"; mlps resampled: MLPs {format_layers(study.plan.layers)} at END from the corrupted run" if resample else ""
    )
    print_table(
        f"{title}; mean (sd over prompts)",
        ["", "probability difference", "cutoff sharpness", "logit step", "top 1", "top 5"],
        [row + [""] * (6 - len(row)) for row in rows],
        caption="counterfactual: YY replaced by 01, scored against the true YY; average distribution: the mean over"
        f" all start years; top k: share of the k most likely of the 100 years that are later than YY{late}",
    )


def _mean_and_sd(summary: dict[str, float]) -> str:
    sd = f" ({summary['sd']:.3f})" if "sd" in summary else ""
    return f"{summary['mean']:+.4f}{sd}"


@on_study()
def rank(
    study: Study,
    year: YearOption = None,
    order: OrderOption = None,
    top: TopOption = None,
    stats: StatsOption = False,
    shapley: ShapleyOption = False,
    approximations: ApproximationsOption = False,
    sets: SetsOption = False,
    masks: MasksOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank neurons by their share of the answer."""
    if year is not None and year not in study.plan.years:
        raise InputError(f"start year {year:02d} is not measured: choose within {spans(study.plan.years)}")
    for option, asked in (("--shapley", shapley), ("--sets", sets), ("--masks", masks)):
        if asked and not study.plan.settings.attribution:
            raise InputError(f"{option} is of the order by share: leave out --no-attribution")
    ranking = study.ranking(year, order=order)
    statistics = study.neuron_statistics() if stats else None
    further: dict[str, Any] = {"positions": study.positions()} if study.plan.settings.attribution else {}
    if shapley:
        further["shapley"] = study.shapley(ranking.neurons[:SHAPLEY])
    if approximations:
        further["approximations"] = study.approximations()
    if sets:
        further |= {"sets": study.sets(), "elsewhere": study.sets_elsewhere(), "interchange": study.interchange()}
    if masks:
        further["masks"] = study.masks()
    if as_json:
        print_json(_rank_json(ranking, top, statistics, further))
        return
    from neurons.cli.rank_tables import print_further, print_ranking

    print_ranking(ranking, top or 20, statistics)
    print_further(ranking, further)


def _rank_json(
    ranking: "Ranking", top: int | None, statistics: "NeuronStatistics | None", further: dict[str, Any]
) -> dict[str, Any]:
    found = ranking.to_json(top)
    if statistics is not None:
        found["neurons"] = [one | {"statistics": statistics.record(one["neuron"])} for one in found["neurons"]]
    for name, one in further.items():
        found[name] = [each.to_json() for each in one] if isinstance(one, tuple) else one.to_json()
    return found


@on_study("years", "no_attribution")
def effect(
    study: Study,
    neuron: Annotated[str, typer.Argument(help="A neuron by layer and index, like L9N12.")],
    year: Annotated[int, typer.Option("--year", help="The start year YY.")],
    as_json: JsonOption = False,
) -> None:
    """Direct logit effect of one neuron at one start year."""
    named, model = NeuronId.parse(neuron), study.plan.checkpoint.name
    weights = contrast_weights([year])[0]
    study.plan.checkpoint.config.check_neuron(named, study.plan.layers)
    logits = study.effect(named, year)
    contrast = float(logits @ weights)
    if as_json:
        print_json({"model": model, "neuron": str(named), "start_year": year, "logits": logits.tolist(),
                    "contrast": contrast})  # fmt: skip
        return
    rows = [[f"{tens}_", *(f"{1000 * v:+.1f}" for v in logits[10 * tens : 10 * tens + 10])] for tens in range(10)]
    print_table(
        f"{model} {named}: direct effect on each year's logit, start year {year:02d}, in thousandths of a logit",
        ["", *(f"_{units}" for units in range(10))],
        rows,
        caption=f"contrast (mean over years > {year:02d} minus mean over the others): {contrast:+.5f} logits",
    )
