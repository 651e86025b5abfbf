"""`neurons tasks`: what the model does on other prompts, and whether the same neurons do it."""

from typing import TYPE_CHECKING, Annotated

import typer

from neurons.cache.format import format_layers
from neurons.cli.common import JsonOption, print_json, print_table
from neurons.cli.options import on_study
from neurons.study.study import Study
from neurons.task.tasks import TASKS

if TYPE_CHECKING:
    from neurons.comparison.results import Carried, TaskResult, Transfer

NAMED = 12


def register(app: typer.Typer) -> None:
    app.command()(tasks)


@on_study("task")
def tasks(
    study: Study,
    only: Annotated[
        str | None,
        typer.Option("--only", help=f"These tasks, like {','.join(list(TASKS)[1:3])}.", show_default="all"),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help="Hold at most K boosting neurons of each task.", show_default="all"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Other prompts, and --template beside them: behaviour, and whether the year span's neurons do the work there."""
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
        f"{found.model}: what it does on {len(found.tasks)} kinds of prompt, MLPs {format_layers(found.layers)}",
        ["task", "right", "probability difference", "cutoff sharpness", "01-run"],
        rows,
        left=2,
        caption="mean (sd over prompts); later years minus the others, whatever is right; 01-run: the probability"
        " difference with YY replaced by 01",
    )
    print()
    print_table(
        f"Whether {name}'s boosting neurons do the work",
        ["task", "boosting", "suppressing", "rank correlation", "in both", "by chance", f"only {name}", "only here",
         "undecided", f"{name}'s carry", "its own carry"],
        [_agreement(task) for task in found.tasks],
        caption="in both: boosting in each (q < 0.05 for both); only: boosting there, and the score reliably lower in"
        " the other; carry: share of the change of the probability difference when all neurons of the layers are held"
        " at the 01-run",
    )  # fmt: skip
    for task in found.tasks:
        print(f"{task.name}: {task.prompt}")
        if task.sharing:
            print(f"  in both: {_some(task.sharing.both)}\n  only here: {_some(task.sharing.only_second)}")
    for left_out in found.left_out.values():
        print(f"left out: {left_out}")


def _measures(task: "TaskResult") -> list[str]:
    model = [f"{value['mean']:+.4f} ({value['sd']:.3f})" for value in task.behaviour["model"].values()]
    return [*model, f"{task.behaviour['counterfactual']['probability_difference']['mean']:+.4f}"]


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
