"""`neurons report`: every result of a model in one folder of pages."""

import shlex
import sys
from typing import Annotated

import typer

from neurons.cli.common import REPORT_DIR, ReportDirOption
from neurons.cli.options import on_study
from neurons.study.study import Study
from neurons.types import FileFormat


def register(app: typer.Typer) -> None:
    app.command()(report)


@on_study()
def report(
    study: Study,
    report_dir: ReportDirOption = REPORT_DIR,
    top: Annotated[int, typer.Option("--top", min=1, help="Neurons with a page.")] = 24,
    causal: Annotated[
        bool,
        typer.Option("--causal", help="Include ablations (runs the model); kept for later reports."),
    ] = False,
    circuit: Annotated[
        bool, typer.Option("--circuit", help="Include the circuit (runs the model); kept for later reports.")
    ] = False,
    figures: Annotated[
        FileFormat | None, typer.Option("--figures", help="Also write each figure in this format, for a paper.")
    ] = None,
) -> None:
    """Write the report: ranking, clusters, composition.

    With a page for each of the top neurons.
    """
    index = study.report(
        report_dir, top=top, causal=causal, circuit=circuit, figures=figures, command=_command(study, causal, circuit)
    )
    ranking = study.ranking()
    print(f"{len(ranking.boosting_neurons())} of {len(ranking)} neurons raise the years after the start year.")
    print(f"The report is in {index}")


def _command(study: Study, causal: bool, circuit: bool) -> str:
    """What makes this report from nothing: the command given, and the options for what was kept from before."""
    words = ["neurons", *sys.argv[1:]]
    shown = {"--causal": causal or study.kept("ablations"), "--circuit": circuit or study.kept("circuit")}
    return shlex.join([*words, *(option for option, is_shown in shown.items() if is_shown and option not in words)])
