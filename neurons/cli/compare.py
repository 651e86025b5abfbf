"""`neurons compare`: two models or more side by side, as a table, JSON and a page."""

import re
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cache.format import format_layers
from neurons.cli.common import REPORT_DIR, JsonOption, ReportDirOption, note, print_json, print_table
from neurons.cli.options import on_options
from neurons.study.study import Study
from neurons.types import InputError

if TYPE_CHECKING:
    from neurons.comparison.model_results import Comparison, Pair, Side

LONGEST = 200
NAMED = 12


def register(app: typer.Typer) -> None:
    app.command()(compare)


@on_options("model")
def compare(
    options: dict[str, Any],
    models: Annotated[
        list[str], typer.Argument(help="Two models or more, as for --model: names, or checkpoint directories.")
    ],
    report_dir: ReportDirOption = REPORT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Models or training checkpoints side by side: behaviour, scores, composed maps, clusters, neurons."""
    if len(models) < 2:
        raise InputError(f"only one model given: name another to compare {models[0]!r} with")
    studies = [Study(**(options | {"model": model})) for model in models]
    found = studies[0].compare(*studies[1:])
    from neurons.report.pages.comparison import write_comparison

    folder = report_dir / folder_name([side.name for side in found.sides], studies[0].plan.settings.task.suffix)
    page = write_comparison(found, folder=folder, command=shlex.join(["neurons", *sys.argv[1:]]))
    if as_json:
        print_json(found.to_json())
        note(f"The page is in {page}")
        return
    print_comparison(found)
    print(f"The page is in {page}")


def folder_name(names: list[str], suffix: str) -> str:
    """`compare-A-B` in letters, digits, dots, dashes and underlines, so that no name leads out of the folder."""
    safe = [re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._") or "model" for name in names]
    return "-".join(["compare", *safe])[:LONGEST] + suffix


def print_comparison(found: "Comparison") -> None:
    """A column a model, then each beside the first."""
    lines = {
        "probability difference": [_mean_and_sd(side, "probability_difference") for side in found.sides],
        "cutoff sharpness": [_mean_and_sd(side, "cutoff_sharpness") for side in found.sides],
        "layers compared": [f"{format_layers(side.layers)} of {side.n_layers}" for side in found.sides],
        "neurons": [str(len(side.scores)) for side in found.sides],
        "boosting": [str(int(side.scores.boosting.sum())) for side in found.sides],
        "suppressing": [str(int(side.scores.suppressing.sum())) for side in found.sides],
        "contrast (logits)": [f"{side.contrast:+.4f}" for side in found.sides],
        "largest score": [f"{side.scores.score.max():+.4f}" for side in found.sides],
        "triangle in the map": ["-" if side.triangle is None else f"{side.triangle:.3f}" for side in found.sides],
        "cosine with the first": ["", *("-" if p.map_cosine is None else f"{p.map_cosine:+.3f}" for p in found.pairs)],
        "clusters": [str(len(side.kinds)) for side in found.sides],
    }
    print_table(
        f"{len(found.sides)} models on the task {found.task}",
        ["", *(side.name for side in found.sides)],
        [[name, *values] for name, values in lines.items()],
        caption="mean (sd over prompts); contrast: all scores added up; triangle: R^2 of the step by itself in the"
        " composed map",
    )
    for pair in found.pairs:
        _print_pair(found.sides[0].name, pair)


def _mean_and_sd(side: "Side", measure: str) -> str:
    value = side.behaviour["model"][measure]
    return f"{value['mean']:+.4f} ({value['sd']:.3f})"


def _print_pair(first: str, pair: "Pair") -> None:
    print(f"\n{first} and {pair.name}")
    if pair.neurons is not None:
        sharing = pair.neurons
        correlation = "-" if sharing.rank_correlation is None else f"{sharing.rank_correlation:+.3f}"
        same = "-" if pair.same_index is None else f"{pair.same_index:+.3f}"
        print(
            f"  rank correlation of the scores: {correlation}; what neurons of equal index write: median cosine {same}"
        )
        for name, neurons in (("kept", sharing.both), ("lost", sharing.only_first), ("gained", sharing.only_second),
                              ("undecided", sharing.undecided)):  # fmt: skip
            print(f"  {name}: {len(neurons)}{': ' if neurons else ''}{', '.join(map(str, neurons[:NAMED]))}"
                  f"{', ...' if len(neurons) > NAMED else ''}")  # fmt: skip
    for told in pair.notes:
        print(f"  note: {told}")
