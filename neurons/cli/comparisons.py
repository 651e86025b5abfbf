"""`neurons tasks`, `check` and `compare`: a model beside other prompts, published values and other models."""

import re
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurons.cache.format import format_layers
from neurons.cli.common import REPORT_DIR, JsonOption, ReportDirOption, note, print_json, print_table
from neurons.cli.options import on_options, on_study
from neurons.comparison.published import PROMPTS_PUBLISHED as FULL
from neurons.comparison.published import check_replicable, shown
from neurons.comparison.results import Check, Checks, conclusion
from neurons.study.study import Study
from neurons.task.tasks import TASKS
from neurons.types import InputError

if TYPE_CHECKING:
    from neurons.comparison.model_results import Comparison, Development, Pair, Side
    from neurons.comparison.results import Carried, TaskResult, Transfer

NAMED = 12
"""Neurons named in a line."""
LONGEST = 200
LEAST = 50
"""Prompts of the smallest sample: a standard error from fewer means little."""
COLUMNS = ("verdict", "measurement", "measured", "published", "difference", "tolerance", "bound", "source")


def register(app: typer.Typer) -> None:
    for command in (tasks, check, compare):
        app.command()(command)


@on_study("task", "prompts", "skip")
def tasks(
    study: Study,
    only: Annotated[
        str | None,
        typer.Option("--only", help=f"These tasks, like {','.join(list(TASKS)[1:3])}.", show_default="all"),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help="Resample at most K boosting neurons of each task.", show_default="all"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare behaviour and neurons across tasks."""
    found = study.tasks(only.split(",") if only is not None else None, top=top)
    if as_json:
        print_json(found.to_json())
    else:
        print_transfer(found)


def print_transfer(found: "Transfer") -> None:
    """Behaviour, then how the neurons agree, then which they are."""
    name = found.tasks[0].name
    rows = [[task.name, task.right or "-", *_measures(task)] for task in found.tasks]
    print_table(
        f"{found.model}: behaviour on {len(found.tasks)} tasks, MLPs {format_layers(found.layers)}",
        ["task", "right", "probability difference", "cutoff sharpness", "top 1", "top 5", "corrupted"],
        rows,
        left=2,
        caption="mean (sd over prompts); later years minus the others, whatever the right answer; top k: share of the\n"
        "k most likely years that are later; corrupted: the probability difference with YY replaced by 01",
    )
    print()
    print_table(
        f"Overlap of boosting neurons with {name}, and their share of the behaviour",
        ["task", "boosting", "suppressing", "rank correlation", "in both", "by chance", f"only {name}", "only here",
         "undecided", f"share of {name}'s", "share of its own"],
        [_agreement(task) for task in found.tasks],
        caption="in both: boosting in each; only: boosting there, and the share reliably lower in"
        " the other; share of: the change of the probability difference when these neurons are at a random"
        " other start year, divided by that when all neurons of the layers are (clean to floor)",
    )  # fmt: skip
    for task in found.tasks:
        print(f"{task.name}: {task.prompt}")
        if task.sharing:
            print(f"  in both: {_some(task.sharing.both)}\n  only here: {_some(task.sharing.only_second)}")
    for left_out in found.left_out.values():
        print(f"left out: {left_out}")


def _measures(task: "TaskResult") -> list[str]:
    own, corrupted = task.behaviour["model"], task.behaviour["counterfactual"]["probability_difference"]
    both = [own["probability_difference"], own["cutoff_sharpness"]]
    spread = [f"{value['mean']:+.4f} ({value['sd']:.3f})" for value in both]
    return [*spread, *(f"{own[name]['mean']:.3f}" for name in ("top_1", "top_5")), f"{corrupted['mean']:+.4f}"]


def _agreement(task: "TaskResult") -> list[str]:
    carried, sharing = task.carried, task.sharing
    calls = [str(int(called.sum())) for called in (task.scores.boosting, task.scores.suppressing)]
    shares = [
        _share(carried, change, count)
        for change, count in ((carried.reference, carried.n_reference), (carried.own, carried.n_own))
    ]
    if sharing is None:
        return [task.name, *calls, *[""] * 6, *shares]
    correlation = "-" if sharing.rank_correlation is None else f"{sharing.rank_correlation:+.3f}"
    counts = (len(sharing.only_first), len(sharing.only_second), len(sharing.undecided))
    both = [str(len(sharing.both)), f"{sharing.expected_both:.1f}"]
    return [task.name, *calls, correlation, *both, *map(str, counts), *shares]


def _share(carried: "Carried", change: float, count: int) -> str:
    share = carried.share(change)
    return "no neurons" if not count else "no change" if share is None else f"{share:+.1%}"


def _some(neurons: tuple[object, ...]) -> str:
    more = f" and {len(neurons) - NAMED} more" if len(neurons) > NAMED else ""
    return (", ".join(map(str, neurons[:NAMED])) or "none") + more


@on_study("task", "template", "no_attribution")
def check(
    study: Study,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=LEAST, help="Prompts drawn from the published distribution.", show_default="1000"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="The published number of prompts: 10,000.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Repeat the published measurements of GPT-2 small."""
    if full and sample is not None:
        raise InputError(f"--full draws {FULL:,} prompts: leave out --sample {sample}")
    check_replicable(study.plan.layers, study.plan.checkpoint.config.n_layers)
    found = study.checks(FULL if full else sample)
    if as_json:
        print_json(found.to_json())
    else:
        print_checks(found)


def print_checks(found: Checks) -> None:
    """Numbers, then what is a list, then the sum of it."""
    lists = [check for check in found.checks if isinstance(check.measured, tuple)]
    numbers = [check for check in found.checks if check not in lists]
    print_table(
        f"{found.model}: the published measurements, on {found.n_prompts:,} prompts of the published distribution",
        COLUMNS,
        [_row(check) for check in numbers],
        left=2,
        caption="difference: measured minus published (minus the bound, where words were published); tolerance: three"
        " standard errors; bound: where the value must lie, by more than the tolerance",
    )
    print()
    print_table(
        "Lists: the same, or in the same order", COLUMNS, [_row(check) for check in lists], left=2,
        caption="difference: of an order, the narrowest gap between neighbours",
    )  # fmt: skip
    print(f"\n{conclusion(found)}")


def _row(check: Check) -> list[str]:
    values = (check.measured, check.published, check.difference, check.tolerance, check.bound)
    return [check.verdict, check.name, *map(shown, values), check.source]


@on_options("model")
def compare(
    options: dict[str, Any],
    models: Annotated[
        list[str], typer.Argument(help="Two models or more, as for --model: names, or checkpoint directories.")
    ],
    report_dir: ReportDirOption = REPORT_DIR,
    as_json: JsonOption = False,
) -> None:
    """Compare models or training checkpoints.

    Behaviour, boosting scores, composed maps, clusters and neurons.
    """
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
    """One column for each model, then each compared with the first."""
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
        caption="mean (sd over prompts); contrast: sum of all scores; triangle: R^2 of the step alone in the"
        " composed map",
    )
    if found.development is not None:
        _print_development(found.development)
    for pair in found.pairs:
        _print_pair(found.sides[0].name, pair)


def _print_development(found: "Development") -> None:
    columns = ["step", "model", "boosting", *(f"k for 90 % of {m.replace('_', ' ')}" for m in found.k), "survival"]
    shown = found.to_json()
    numbers = (shown["boosting"], *shown["k"].values())
    columns[-1:-1] = ["tiling"] if found.tiling else []
    tiling = [["-" if r is None else f"{r:+.3f}"] for r in found.tiling.get("correlation", ())] or [[]] * len(
        found.steps
    )
    survival = ["-" if value is None else f"{value:.3f}" for value in shown["survival"][-1]]
    rows = [
        [
            str(step),
            name,
            *("-" if one[place] is None else str(one[place]) for one in numbers),
            *tiling[place],
            survival[place],
        ]
        for place, (step, name) in enumerate(zip(found.steps, found.names, strict=True))
    ]
    print()
    print_table(
        "Development by step", columns, rows, left=2,
        caption="tiling: rank correlation of readout edges with tuning centres;\n"
        "survival: of the neurons that boost at the last step, the fraction that boosts at this one",
    )  # fmt: skip


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
            f"  rank correlation of the shares: {correlation}; readouts of neurons of equal index: median cosine {same}"
        )
        for name, neurons in (("kept", sharing.both), ("lost", sharing.only_first), ("gained", sharing.only_second),
                              ("undecided", sharing.undecided)):  # fmt: skip
            print(f"  {name}: {len(neurons)}{': ' if neurons else ''}{', '.join(map(str, neurons[:NAMED]))}"
                  f"{', ...' if len(neurons) > NAMED else ''}")  # fmt: skip
    for text in pair.notes:
        print(f"  note: {text}")
